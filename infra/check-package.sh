#!/bin/bash
# Builds the source distribution and from it the wheel, installs that with pipx into an empty environment, and tries it.
#   infra/check-package.sh [FOLDER]      needs a Python 3.11 or later as python3, and a package index
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
unset PYTHONPATH
say() { printf '\n== %s\n' "$*"; }

say "build"
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q build pipx
"$work/tools/bin/python" -m build --outdir "$work/dist" "$root" | tail -n 1
export PIPX_HOME="$work/pipx" PIPX_BIN_DIR="$work/bin" PATH="$work/bin:$PATH"

say "pipx install"
"$work/tools/bin/pipx" install --pip-args="-c $root/constraints.txt" "$work"/dist/memscan-*.whl
cd "$work"
memscan --version
"$work/pipx/venvs/memscan/bin/python" -m pip check

say "the shipped model"
memscan inspect "$("$work/pipx/venvs/memscan/bin/python" -c 'import scanner; print(scanner.__path__[0])')/testbed/weights/pipeline"

say "a corpus, a scan, a page"
memscan testbed make --out planted --negatives 8 >made.txt 2>&1
memscan scan planted/evaluation-*.tar --model gaussian --threshold 1000 --limit 20 --actors 1 --out results
memscan report results --out report.html
grep -q '</html>' report.html

say "completion"
# shellcheck disable=SC1090  # what memscan prints is what is tried
source <(memscan --show-completion)
COMP_WORDS=(memscan ca) COMP_CWORD=1
_memscan_completion memscan
echo "memscan ca<Tab>: ${COMPREPLY[*]}"
[ "${COMPREPLY[*]}" = calibrate ]

say "the package is whole"

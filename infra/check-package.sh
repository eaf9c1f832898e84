#!/bin/bash
# Builds the source distribution, installs it with pipx into an empty environment, and tries what is in it.
#   infra/check-package.sh [FOLDER]      needs a Python 3.11 or later as python3, and a package index
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
work=${1:-$(mktemp -d)}
unset PYTHONPATH
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install -q build pipx
"$work/tools/bin/python" -m build -q --sdist --outdir "$work/dist" "$root"
export PIPX_HOME="$work/pipx" PIPX_BIN_DIR="$work/bin"
"$work/tools/bin/pipx" install --pip-args="-c $root/constraints.txt" "$work"/dist/memscan-*.tar.gz
cd "$work"
bin/memscan --version
bin/memscan inspect gaussian
bin/memscan testbed make --out planted --negatives 8 > made.txt
files=$(pipx/venvs/memscan/bin/python -c 'import scanner; print(scanner.__path__[0])')
for part in audit/assets/report.html testbed/weights/pipeline/model_index.json testbed/weights/README.md; do
    test -s "$files/$part" || { echo "the package lacks $part" >&2; exit 1; }
done
bin/memscan inspect "$files/testbed/weights/pipeline"
echo "the package is whole"

"""``memscan scan`` on the Ray cluster that this runs in, as an entry point of a Ray job."""

import sys

from scanner.cli import main

sys.argv = ["memscan", "scan", "--address", "auto", *sys.argv[1:]]
main()

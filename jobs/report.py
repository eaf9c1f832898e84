"""``memscan report`` where the results are, as an entry point of a Ray job."""

import sys

from scanner.cli import main

sys.argv = ["memscan", "report", *sys.argv[1:]]
main()

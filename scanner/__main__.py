"""``python -m scanner``: the command line, where no ``memscan`` script is on the path."""

from scanner.cli import main

main()

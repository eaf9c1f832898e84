"""The public Python interface: its names are importable from `scanner` itself.

It calls the other rooms and adds no rule of its own. `docs/python.md` shows it.
"""

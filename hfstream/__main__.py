"""Runs the command line with ``python -m hfstream``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

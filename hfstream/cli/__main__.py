"""Runs the command line with ``python -m hfstream.cli``."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())

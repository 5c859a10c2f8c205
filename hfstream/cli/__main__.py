"""``python -m hfstream.cli``: the same as the command `hfstream`."""

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())

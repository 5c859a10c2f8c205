"""The command line: `hfstream generate`, `chat`, `serve`, `demo` and `bench`.

Answers go to stdout, as plain text and as they come; everything else goes to stderr. Exit codes: 0, 1 for what went
wrong on the way, 2 for what was typed wrong, 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..errors import InferenceError
from .options import parsed

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = parsed(argv)
    try:
        from .terminal import Terminal  # noqa: PLC0415  needs rich, an extra: a library user has no need of it
    except ImportError:
        sys.stderr.write(
            'hfstream: the command line needs rich: pip install "hfstream[cli]", or with the server '
            '"hfstream[server,cli]" (in a clone of the repository ".[server,cli]")\n'
        )
        return 1
    terminal = Terminal()
    try:
        code: int = arguments.command(arguments, terminal)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
        return 0
    except (InferenceError, ValueError, ImportError) as error:
        return terminal.complain(error)
    return code

"""The command line: `hfstream generate`, `chat`, `serve` and the other commands that `options` lists.

Generated text is written to stdout, plain and unbuffered; everything else to stderr. Exit codes: 0 success, 1 an error
at run time, 2 invalid command-line options, 3 warnings of `doctor`, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ..errors import InferenceError
from .options import parse_args

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code. `argv` are the arguments (default: those of the process).

    Raises:
        SystemExit: The arguments are invalid (exit code 2), or ``--help`` or ``--version`` was printed (0).
    """
    arguments = parse_args(argv)
    try:
        from .terminal import Terminal  # noqa: PLC0415  needs rich, which the library does not
    except ImportError:
        sys.stderr.write(
            'hfstream: the command line requires rich: pip install "hfstream[cli]", or "hfstream[server,cli]" with the '
            'server (in a clone of the repository: ".[server,cli]")\n'
        )
        return 1
    terminal = Terminal()
    try:
        code: int = arguments.command(arguments, terminal)
    except KeyboardInterrupt:
        terminal.end_line()
        return 130
    except BrokenPipeError:  # the reader, such as `head`, closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python reports it again at exit
        return 0
    except (InferenceError, ValueError, ImportError) as error:
        terminal.close_line()
        return terminal.print_error(error)
    return code

"""The progress bar of `client.map`, drawn with rich, which the command line uses too.

Does not depend on what makes progress.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["ProgressBar"]


class ProgressBar:
    """A line on stderr: how many prompts are done, how many of them failed, and the time that is left.

    `total` is the number of prompts; None if it is not known. Nothing is drawn where stderr is not a terminal.

    Raises:
        ImportError: rich is not installed.
    """

    def __init__(self, total: int | None, console: Console | None = None) -> None:
        try:
            from rich import progress  # noqa: PLC0415  an optional dependency
            from rich.console import Console  # noqa: PLC0415
        except ImportError as error:
            raise ImportError('progress=True requires rich: pip install "hfstream[cli]"') from error
        console = console or Console(stderr=True)
        self._bar = progress.Progress(
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[failed]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            # What the program prints goes where it would go without the bar: above it only if both are on a terminal.
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self._task: Any = self._bar.add_task("", total=total, failed="")
        self._bar.start()

    def update(self, done: int, failed: int) -> None:
        """Shows that so many prompts are done, and so many of them failed."""
        self._bar.update(self._task, completed=done, failed=f"{failed} failed" if failed else "")

    def close(self) -> None:
        """Leaves the line as it is. Again, it has no effect."""
        self._bar.stop()

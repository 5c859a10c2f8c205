"""A browser for tests of pages. Does not depend on what is served."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

__all__ = ["BROWSER_TIMEOUT", "chromium"]

BROWSER_TIMEOUT = 60_000
"""Milliseconds that anything in the browser may take: a test must also pass on a busy machine."""


@contextmanager
def chromium() -> Generator[Browser]:
    """Debian's Chromium, or another in the PATH, or the one that ``playwright install chromium`` downloaded.

    The tests that use it must not be coroutines: playwright's sync API keeps an event loop running in their thread.
    """
    with sync_playwright() as playwright:
        in_path = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        executable = Path(next(in_path, playwright.chromium.executable_path))
        if not executable.exists():
            pytest.skip("Chromium is not installed")
        # Without its sandbox, which the root user of a container cannot have.
        arguments = ["--no-sandbox"]
        with playwright.chromium.launch(executable_path=executable, args=arguments, timeout=BROWSER_TIMEOUT) as browser:
            yield browser

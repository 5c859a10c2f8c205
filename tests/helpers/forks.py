"""Runs a function in a forked child, and returns what it returned."""

from __future__ import annotations

import os
import pickle
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

__all__ = ["FORKS", "Child", "in_child"]

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")


class Child:
    """A forked process that runs `function`."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._reader, writer = os.pipe()
        sys.stdout.flush()
        with warnings.catch_warnings():  # Python 3.12 and later warn where there are threads: such forks are meant here
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            os.close(self._reader)
            _run(function, writer)
        os.close(writer)

    def result(self) -> Any:
        """What the function returned; an AssertionError with the traceback if it raised."""
        with os.fdopen(self._reader, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        assert status == 0, f"the child ended with {status}"
        returned, value = pickle.loads(data)
        assert returned, value
        return value


def _run(function: Callable[[], Any], writer: int) -> NoReturn:
    code = 1
    try:
        try:
            result = (True, function())
        except BaseException:
            result = (False, traceback.format_exc())
        with os.fdopen(writer, "wb") as pipe:
            pickle.dump(result, pipe)
        code = 0
    finally:
        os._exit(code)


def in_child(function: Callable[[], Any]) -> Any:
    """What `function` returns in a forked child."""
    return Child(function).result()

"""Work on texts that may take long: chat templates, tokenising, parsing large bodies. A few at once, each for a time.

It runs on threads of its own, not on the event loop. They are daemon threads, which no exit waits for, and a Python
function that runs too long is interrupted: a chat template is a program, and may loop.

Does not depend on what the work is.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

AT_ONCE = 2
"""Pieces of work that run at the same time. More would keep the event loop from Python's interpreter lock."""
INTERRUPT_SECONDS = 1.0
"""How long an interrupted function keeps its place; one that does not return from a C library loses it then."""


class TextWork:
    """Runs functions on threads. Belongs to one event loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)

    async def run(self, function: Callable[..., ResultT], *arguments: object, seconds: float) -> ResultT:
        """``function(*arguments)``, once there is a place for it.

        Raises:
            TimeoutError: it has run for `seconds`.
        """
        async with self._places:
            loop = asyncio.get_running_loop()
            result: asyncio.Future[ResultT] = loop.create_future()
            thread = _Thread(function, arguments, loop, result)
            thread.start()
            try:
                done, _ = await asyncio.wait([result], timeout=seconds)
                if done:
                    return result.result()
                raise TimeoutError
            finally:
                if not result.done():
                    thread.interrupt()
                    await asyncio.wait([result], timeout=INTERRUPT_SECONDS)
                    result.cancel()


class _InterruptedWork(BaseException):
    """Raised in the thread. Not an Exception: the work must not handle it."""


class _Thread(threading.Thread):
    def __init__(
        self,
        function: Callable[..., Any],
        arguments: tuple[object, ...],
        loop: asyncio.AbstractEventLoop,
        result: asyncio.Future[Any],
    ) -> None:
        super().__init__(name="hfstream-text", daemon=True)
        self._function, self._arguments, self._loop, self._result = function, arguments, loop, result

    def run(self) -> None:
        with contextlib.suppress(RuntimeError, _InterruptedWork):  # RuntimeError: the event loop is closed
            try:
                value = self._function(*self._arguments)
            except BaseException as error:  # noqa: BLE001 - `TextWork.run` raises it
                self._loop.call_soon_threadsafe(self._set, None, error)
            else:
                self._loop.call_soon_threadsafe(self._set, value, None)

    def interrupt(self) -> None:
        """Raises an exception in the thread, at its next step in Python."""
        if self.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self.ident), ctypes.py_object(_InterruptedWork))

    def _set(self, value: object, error: BaseException | None) -> None:
        if self._result.done():
            return
        if error is None:
            self._result.set_result(value)
        elif isinstance(error, Exception):
            self._result.set_exception(error)
        else:
            self._result.cancel()

"""Calls the function of a tool: how each client variant waits for it. Does not depend on which function it is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from anyio import to_thread

__all__ = ["async_call_tool", "sync_call_tool"]


def sync_call_tool(call: Callable[[], Any]) -> Any:
    """The result of a plain function."""
    result = call()
    if inspect.iscoroutine(result):
        result.close()
        raise TypeError("the tool returned a coroutine: use AsyncInferenceClient")
    return result


async def async_call_tool(call: Callable[[], Any]) -> Any:
    """The result of a function: an async one is awaited, any other one runs in a thread, where it may block."""
    if inspect.iscoroutinefunction(call):
        return await call()
    [result] = await to_thread.run_sync(lambda: [call()])  # in a list: trio refuses a thread's coroutine
    return await result if inspect.isawaitable(result) else result

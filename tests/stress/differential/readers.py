"""How each client reads a stream, in the loop of its own documentation.

Does not depend on what is read, nor on what the readings are compared for.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hfstream import AsyncInferenceClient, InferenceClient

from .shapes import Call

__all__ = ["NO_ROUTE", "PEERS", "Reader", "Reading", "hfstream_async", "hfstream_sync"]

NO_ROUTE = "has no such route"
"""The error of a client that does not have a task."""

MESSAGES = [{"role": "user", "content": "Hi"}]


@dataclass
class Reading:
    """What a client has made of a stream."""

    text: str = ""
    calls: tuple[Call, ...] | None = ()
    """Put together as OpenAI's documentation does; None if that is impossible."""
    error: str = ""
    """Class and message of what was raised; empty if the stream was read to its end."""
    final: str | None = None
    """The text of `final()`; None for a client that has none."""
    final_calls: tuple[Call, ...] = ()


Reader = Callable[[str, str], Reading]
"""Takes the URL of a server and a task; reads the one stream that the server has for it."""


class _Loop:
    """The loop of the documentation: the text of the first choice, and its tool calls by index."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._calls: dict[Any, list[str]] | None = {}
        self.reading = Reading()

    def take(self, item: Any) -> None:
        if self._task == "chat":
            if item.choices:
                delta = item.choices[0].delta
                if delta.content:
                    self.reading.text += delta.content
                self._take_calls(getattr(delta, "tool_calls", None))
        elif self._task == "completion" and not isinstance(item, str):
            if item.choices and item.choices[0].text:
                self.reading.text += item.choices[0].text
        elif isinstance(item, str):
            self.reading.text += item
        elif item.token is not None and not item.token.special:
            self.reading.text += item.token.text

    def _take_calls(self, deltas: Any) -> None:
        if self._calls is None:
            return
        try:
            for delta in deltas or ():
                name, arguments = delta.function.name or "", delta.function.arguments or ""
                if delta.index is None or not (isinstance(name, str) and isinstance(arguments, str)):
                    self._calls = None
                    return
                call = self._calls.setdefault(delta.index, ["", ""])
                call[0], call[1] = call[0] or name, call[1] + arguments
        except (AttributeError, TypeError):
            self._calls = None

    def end(self, error: BaseException | None = None) -> Reading:
        calls = self._calls
        self.reading.calls = None if calls is None else tuple((name, arguments) for name, arguments in calls.values())
        if error is not None:
            self.reading.error = f"{type(error).__name__}: {error}"[:200]
        return self.reading


def _read(task: str, opened: Callable[[], Iterable[Any]]) -> Reading:
    loop = _Loop(task)
    try:
        for item in opened():
            loop.take(item)
    except Exception as error:
        return loop.end(error)
    return loop.end()


# hfstream ------------------------------------------------------------------------------------------------------------


def _url(base: str, task: str) -> str:
    return base if task == "text" else f"{base}/v1"


def _add_final(reading: Reading, final: Any) -> None:
    if isinstance(final, str):
        reading.final = final
        return
    if getattr(final, "generated_text", None) is not None:
        reading.final = final.generated_text
        return
    message = final.choices[0].message
    reading.final = message.content or ""
    reading.final_calls = tuple((call.function.name, call.function.arguments) for call in message.tool_calls or ())


def hfstream_sync(base: str, task: str) -> Reading:
    """The synchronous client."""
    with InferenceClient(_url(base, task), retry=None) as client:
        streams: list[Any] = []

        def opened() -> Any:
            if task == "chat":
                streams.append(client.chat_completion(MESSAGES, stream=True))
            else:
                streams.append(client.text_generation("Hi", stream=True, details=task == "text"))
            return streams[0]

        reading = _read(task, opened)
        if not reading.error:
            _add_final(reading, streams[0].final())
        return reading


async def hfstream_async(client: AsyncInferenceClient, base: str, task: str) -> Reading:
    """The asynchronous client; one for all streams."""
    loop, options = _Loop(task), {"model": _url(base, task), "stream": True}
    try:
        if task == "chat":
            stream = await client.chat_completion(MESSAGES, **options)  # type: ignore[call-overload]
        else:
            stream = await client.text_generation("Hi", details=task == "text", **options)  # type: ignore[call-overload]
        async for item in stream:
            loop.take(item)
        _add_final(loop.reading, await stream.final())
    except Exception as error:
        return loop.end(error)
    return loop.end()


# The others -----------------------------------------------------------------------------------------------------------


def _openai() -> Reader:
    openai: Any = importlib.import_module("openai")
    client = openai.OpenAI(base_url="http://127.0.0.1", api_key="-", max_retries=0, timeout=30)

    def read(base: str, task: str) -> Reading:
        if task == "text":
            return Reading(error=NO_ROUTE)
        here = client.with_options(base_url=f"{base}/v1")
        if task == "chat":
            return _read(task, lambda: here.chat.completions.create(model="m", messages=MESSAGES, stream=True))
        return _read(task, lambda: here.completions.create(model="m", prompt="Hi", stream=True))

    return read


def _huggingface_hub() -> Reader:
    hub: Any = importlib.import_module("huggingface_hub")

    def read(base: str, task: str) -> Reading:
        if task == "completion":
            return Reading(error=NO_ROUTE)
        if task == "chat":
            client = hub.InferenceClient(f"{base}/v1", timeout=30)
            return _read(task, lambda: client.chat_completion(MESSAGES, stream=True))
        client = hub.InferenceClient(base, timeout=30)
        return _read(task, lambda: client.text_generation("Hi", stream=True, details=True))

    return read


PEERS: Mapping[str, Callable[[], Reader]] = {"openai": _openai, "huggingface_hub": _huggingface_hub}
"""Makes the reader of each other client."""

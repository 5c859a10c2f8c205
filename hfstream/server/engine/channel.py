"""Messages over a pair of pipes: pickles, each after its length.

Unpickling can run any code, so this is only for the two private pipes between a server and the model process that it
has started itself: nothing else can write to them. Does not depend on what the messages mean.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import struct
import threading
from typing import Any, BinaryIO

_LENGTH = struct.Struct("<Q")


class Channel:
    """Sends and receives messages. `send` may be called from any thread, `receive` from one."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader, self._writer = reader, writer
        self._lock = threading.Lock()  # a message must not begin inside another one

    def send(self, message: object) -> None:
        """Write a message; waits while the pipe is full.

        Raises:
            OSError: the other side has ended.
        """
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(message)
        data = buffer.getbuffer()
        with self._lock:
            self._writer.write(_LENGTH.pack(len(data)))
            self._writer.write(data)
            self._writer.flush()

    def receive(self) -> Any:
        """Wait for the next message.

        Raises:
            EOFError: the other side has ended, perhaps in the middle of a message.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        return pickle.loads(self._read(length))  # noqa: S301 - see the module's docstring

    def _read(self, length: int) -> bytes:
        data = self._reader.read(length)
        if len(data) < length:
            raise EOFError
        return data


class _Pickler(pickle.Pickler):
    """Pickles exceptions with their causes, and so that the server can read them without the library they come from.

    Pickle itself drops `__cause__`, and reading one of torch's exceptions would import torch.
    """

    def reducer_override(self, obj: object) -> Any:
        if not isinstance(obj, BaseException):
            return NotImplemented
        text = str(obj) or type(obj).__name__
        return _make_error, (_known_class(type(obj), text), text, obj.__cause__)


def _known_class(class_: type[BaseException], text: str) -> type[BaseException]:
    """The nearest class that is Python's own or hfstream's, and can be made of `text`."""
    for known in class_.__mro__:
        if known.__module__ == "builtins" or known.__module__.startswith("hfstream."):
            with contextlib.suppress(Exception):  # a class with other arguments
                if issubclass(known, BaseException) and str(known(text)) == text:
                    return known
    return RuntimeError


def _make_error(class_: type[BaseException], text: str, cause: BaseException | None) -> BaseException:
    error = class_(text)
    error.__cause__ = cause
    return error

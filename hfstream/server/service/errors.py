"""Errors of the service that are not in `hfstream.errors`, because clients get them as a status and an `error_type`."""

from __future__ import annotations

from hfstream.errors import InferenceError


class NotReadyError(InferenceError):
    """The model is not loaded yet. Has its own `error_type`: a server that starts is not an overloaded one."""

    status_code: int | None = 503
    error_type: str | None = "loading"
    retryable: bool = True


class EngineFailedError(InferenceError):
    """The model could not be loaded, or the engine failed: this server will not generate any more."""

    status_code: int | None = 503
    error_type: str | None = "broken"


class UnexpectedError(InferenceError):
    """A fault of this server: something was raised that nothing foresees."""

    status_code: int | None = 500
    error_type: str | None = "internal"

    def __init__(self) -> None:
        super().__init__("The server failed unexpectedly, its log says where")


class StreamGoneError(InferenceError):
    """The resumable stream is known, but the events that the client asks for are not buffered any more."""

    status_code: int | None = 410
    error_type: str | None = "gone"


class ClientDisconnectedError(Exception):
    """The client has disconnected, or has abandoned its stream: no response can reach it."""

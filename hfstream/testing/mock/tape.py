"""Answers with the recorded responses of a tape. Does not depend on sockets, or on what bodies mean."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..recording import Recording
from ..request import Request
from ..response import Response
from .json_values import is_array, is_object
from .loading import RulesError
from .model_requests import InvalidModelRequestError, read_model_request, route_of
from .rendering import error_response
from .responders import Reply, describe
from .rules import Error

__all__ = ["TapeResponder", "is_tape", "load_tape"]


def is_tape(path: Path) -> bool:
    """Whether a file is a tape and no rules: its first line is JSON and has a method and a path.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        first = file.readline()
    try:
        head = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return is_object(head) and {"method", "path", "request"} <= head.keys()


def load_tape(path: Path) -> Sequence[Recording]:
    """The recordings of a tape that have a response.

    Raises:
        OSError: The file cannot be read.
        RulesError: It is not a tape, or has no response.
    """
    try:
        recordings = Recording.load_all(path)
    except ValueError as error:
        raise RulesError(str(error)) from error
    answered = [recording for recording in recordings if recording.status]
    if not answered:
        raise RulesError(f"{path} has no response: its requests were given up before one came")
    return answered


class TapeResponder:
    """Answers with the next recording of the same request; the last one is repeated."""

    def __init__(self, recordings: Sequence[Recording], *, by_body: bool = True, speed: float = 1.0) -> None:
        self._recordings = recordings
        self._by_body = by_body
        self._speed = speed
        self._places: dict[Any, list[int]] = {}
        for index, each in enumerate(recordings):
            self._places.setdefault(self._key(each.method, each.path, each.request), []).append(index)
        self._asked: Counter[Any] = Counter()
        self._answered: Counter[int] = Counter()
        self._lock = threading.Lock()

    @property
    def unused(self) -> Sequence[str]:
        """The recordings that have not answered yet, in words."""
        return [self._name(index) for index in range(len(self._recordings)) if not self._answered[index]]

    def respond(self, request: Request, number: int) -> Reply:
        path = request.path.partition("?")[0]
        key = self._key(request.method, path, request.body)
        with self._lock:
            places = self._places.get(key, [])
            index = places[min(self._asked[key], len(places) - 1)] if places else None
            self._asked[key] += 1
            if index is not None:
                self._answered[index] += 1
        asked = _asked(request)
        if index is not None:
            return Reply(self._recordings[index].response(self._speed), self._name(index), asked)
        if request.method == "GET" and path.rstrip("/") in ("", "/health"):
            return Reply(Response((), content_type=None), "status", asked)
        message = f"the tape has no response to {request.method} {path}" + self._difference(request, path)
        route = route_of(path)
        return Reply(error_response(route, Error(status=404, message=message)), None, asked)

    def _key(self, method: str, path: str, body: bytes) -> Any:
        return (method, path, _canonical(body) if self._by_body else None)

    def _name(self, index: int) -> str:
        return f"recording {index + 1}"

    def _difference(self, request: Request, path: str) -> str:
        """What differs from the most similar recorded request of the same path."""
        recorded = [each for each in self._recordings if (each.method, each.path) == (request.method, path)]
        if not recorded:
            paths = dict.fromkeys(f"{each.method} {each.path}" for each in self._recordings)
            return f"; it has {', '.join(paths)}"
        differences = [_differing(_value(each.request), _value(request.body)) for each in recorded]
        return f" with this body; the most similar recorded one differs in {', '.join(min(differences, key=len)[:5])}"


def _value(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body


def _canonical(body: bytes) -> Any:
    value = _value(body)
    return value if isinstance(value, bytes) else json.dumps(value, sort_keys=True)


def _differing(recorded: Any, sent: Any, place: str = "") -> list[str]:
    """The places in which two JSON values differ, such as ``messages[1].content``."""
    if is_object(recorded) and is_object(sent):
        names = sorted({*recorded, *sent})
        dot = "." if place else ""
        pairs = [(recorded.get(name, ...), sent.get(name, ...), f"{place}{dot}{name}") for name in names]
    elif is_array(recorded) and is_array(sent) and len(recorded) == len(sent):
        pairs = [(one, other, f"{place}[{at}]") for at, (one, other) in enumerate(zip(recorded, sent, strict=True))]
    else:
        return [] if recorded == sent else [f"`{place}`" if place else "the body"]
    return [difference for one, other, at in pairs for difference in _differing(one, other, at)]


def _asked(request: Request) -> str:
    """What a request asks, if it is one to a model."""
    route = route_of(request.path) if request.method == "POST" else None
    if route is None:
        return ""
    try:
        return describe(read_model_request(request, route))
    except InvalidModelRequestError:
        return ""

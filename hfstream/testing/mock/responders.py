"""What a mock server answers: by rules, or from a tape. Does not depend on sockets."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Protocol
from urllib.parse import unquote

from ...version import __version__
from ..request import Request
from ..response import Response
from .loading import LoadedRules
from .model_requests import InvalidModelRequestError, ModelRequest, Route, read_model_request, route_of
from .rendering import Settings, error_response, render
from .rules import NAMED_ERRORS, Error, Rule, When

__all__ = ["Reply", "Responder", "RulesResponder", "describe"]


_MAX_READ = 1000
"""Characters of a text from which its first words are taken."""


@dataclass(frozen=True)
class Reply:
    """A response, and what it is."""

    response: Response
    source: str | None
    """What answers, in words: ``"rule 2 (line 14)"``; None where nothing does."""
    asked: str = ""
    """What was asked, in words."""


class Responder(Protocol):
    """Answers requests, from several threads at once."""

    @property
    def unused(self) -> Sequence[str]:
        """What has not answered a request yet, in words."""
        ...

    def respond(self, request: Request, number: int) -> Reply:
        """The reply to request number `number`, counted from 1."""
        ...


class RulesResponder:
    """Answers with the first rule that holds."""

    def __init__(self, loaded: LoadedRules, *, speed: float = 1.0) -> None:
        rules = loaded.rules
        self._rules = rules
        self._lines = loaded.lines
        self._settings = Settings(rules.model, rules.tokens_per_second, rules.delay, speed)
        self._held: Counter[int] = Counter()
        """For how many requests each rule has held, but for its `call`."""
        self._answered: Counter[int] = Counter()
        self._lock = threading.Lock()

    @property
    def unused(self) -> Sequence[str]:
        """The rules that have not answered yet, in words."""
        return [self._name(index) for index in range(len(self._rules.rules)) if not self._answered[index]]

    def respond(self, request: Request, number: int) -> Reply:
        route = route_of(request.path) if request.method == "POST" else None
        if route is None:
            return self._respond_elsewhere(request, number)
        if self._rules.api_key is not None and not _has_key(request, self._rules.api_key):
            status, message, kind = NAMED_ERRORS["unauthorized"]
            return Reply(error_response(route, Error(status=status, message=message, type=kind)), "no valid key")
        try:
            read = read_model_request(request, route)
        except InvalidModelRequestError as error:
            refusal = Error(status=error.status, message=str(error), type="validation")
            return Reply(error_response(route, refusal), f"refused: {error}")
        asked = describe(read)
        index = self._choose([_holds(rule, read, self._rules.model) for rule in self._rules.rules])
        if index is None:
            message = f"no rule of the mock holds for {request.method} {read.path}: {asked}"
            return Reply(error_response(route, Error(status=404, message=message)), None, asked)
        rule = self._rules.rules[index]
        return Reply(render(rule, read, number, self._settings), self._name(index), asked)

    def _respond_elsewhere(self, request: Request, number: int) -> Reply:
        """On a path that is no route of a model: only rules that name the path, then what every server has."""
        path = request.path.partition("?")[0]
        text = request.body.decode("utf-8", "replace")
        read = ModelRequest(Route.COMPAT, path, {}, text, "", text)
        rules = self._rules.rules
        index = self._choose(
            [rule.when.path is not None and not rule.has_content and _holds(rule, read, "") for rule in rules]
        )
        if index is not None:
            return Reply(render(rules[index], None, number, self._settings), self._name(index))
        value = _status_value(request, path, self._rules.model)
        if value is not None:
            return Reply(Response.json(value) if value else Response((), content_type=None), "status")
        message = f"the mock has no route {request.method} {path}, and no rule with this `path`"
        return Reply(error_response(None, Error(status=404, message=message)), None)

    def _choose(self, holds: Sequence[bool]) -> int | None:
        """The first rule that holds, its `call` included."""
        with self._lock:
            self._held.update(index for index, held in enumerate(holds) if held)
            for index, held in enumerate(holds):
                calls = self._rules.rules[index].when.call
                if held and (not calls or self._held[index] in calls):
                    self._answered[index] += 1
                    return index
            return None

    def _name(self, index: int) -> str:
        line = f" (line {self._lines[index]})" if self._lines else ""
        return f"rule {index + 1}{line}"


def _holds(rule: Rule, request: ModelRequest, default_model: str) -> bool:
    """Whether a rule answers a request, `call` left out."""
    when: When = rule.when
    return (
        all(each.casefold() in request.folded_text for each in when.contains)
        and (when.matches is None or when.matches.search(request.text) is not None)
        and when.role in (None, request.role)
        and (when.tool is None or when.tool in request.tools)
        and (when.model is None or fnmatchcase(request.model or default_model, when.model))
        and (when.path is None or _ends_with(request.path, when.path))
        and when.stream in (None, request.stream)
        and (not rule.needs_chat or request.route.is_chat)
    )


def _ends_with(path: str, end: str) -> bool:
    """Whether a path ends so; ``/`` is a path of its own, and not the end of all others."""
    path, end = path.rstrip("/"), end.rstrip("/")
    return path.endswith(end) if end else not path


def describe(request: ModelRequest) -> str:
    """What a request asks, in one line."""
    text = " ".join(request.text[:_MAX_READ].split())
    words = [f"{text[:57]}..." if len(text) > 60 else text]
    parts = [f'{request.role} "{words[0]}"']
    parts += [f"model {request.model}"] * (request.model is not None)
    parts += [f"tools {', '.join(request.tools)}"] * bool(request.tools)
    return ", ".join([*parts, "streamed" if request.stream else "not streamed"])


def _has_key(request: Request, key: str) -> bool:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    keys = [given.strip()] if scheme.lower() == "bearer" else []
    return key in [*keys, request.headers.get("x-api-key"), request.headers.get("api-key")]


def _status_value(request: Request, path: str, model: str) -> Mapping[str, Any] | None:
    """The JSON of a route that reports on the server; empty for one without a body; None where there is no route."""
    if request.method not in ("GET", "HEAD"):
        return None
    path = path.rstrip("/")
    if path in ("", "/health", "/ping"):
        return {}
    if path == "/info":
        return {
            "model_id": model, "model_sha": None, "model_pipeline_tag": "text-generation",
            "max_concurrent_requests": 1024, "max_best_of": 1, "max_stop_sequences": 4, "max_input_tokens": 131_071,
            "max_total_tokens": 131_072, "validation_workers": 1, "max_client_batch_size": 1,
            "router": "hfstream-mock", "version": __version__, "sha": None, "docker_label": None,
        }  # fmt: skip
    entry = {"id": model, "object": "model", "created": 0, "owned_by": "hfstream-mock"}
    if path.endswith("/models"):
        return {"object": "list", "data": [entry]}
    _, found, name = path.rpartition("/v1/models/")
    return entry if found and unquote(name) == model else None

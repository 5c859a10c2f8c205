"""From a rule to the `Response` that is sent: format, faults, pace. Does not depend on which rule was chosen."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import faults
from ..events import DONE
from ..response import Response, Step
from ..timed import TimedSteps
from ..unusual import UNUSUAL_RESPONSES
from .answers import Answer, AnswerFormat, make_answer
from .model_requests import ModelRequest, Route
from .openai_formats import ChatFormat, CompletionFormat, encode_json
from .responses_format import ResponsesFormat
from .rules import INTERRUPTIONS, Error, Rule
from .tgi_format import TGIFormat

__all__ = ["Settings", "error_response", "paced", "render"]

_FORMATS: Mapping[Route, Callable[[ModelRequest, Answer], AnswerFormat]] = {
    Route.GENERATE: TGIFormat,
    Route.GENERATE_STREAM: TGIFormat,
    Route.COMPAT: TGIFormat,
    Route.CHAT: ChatFormat,
    Route.COMPLETIONS: CompletionFormat,
    Route.RESPONSES: ResponsesFormat,
}

_STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Settings:
    """What holds for all rules."""

    model: str
    tokens_per_second: float | None
    delay: float
    speed: float
    """A factor for all paces and delays; infinity sends everything at once."""


def render(rule: Rule, request: ModelRequest | None, number: int, settings: Settings) -> Response:
    """The response of a rule to request number `number`; `request` is None on a path that is no route of a model."""
    delay = settings.delay if rule.delay is None else rule.delay
    if request is None or not rule.has_content:
        response = _without_content(rule, request)
        return replace(response, delay=response.delay + delay / settings.speed)
    answer = make_answer(rule, request, number, settings.model)
    answer_format = _FORMATS[request.route](request, answer)
    pace = rule.tokens_per_second or settings.tokens_per_second
    seconds = 1 / pace if pace else 0.0
    if request.stream:
        response = paced(_stream(rule, answer_format.events(), request.route), seconds / settings.speed)
    else:
        response = _complete(rule, answer_format.body(), request.route)
        delay += seconds * answer.completion_tokens  # a model generates all of it first
    return replace(response, delay=delay / settings.speed)


def error_response(route: Route | None, error: Error, retry_after: float | None = None) -> Response:
    """An error in the format of its route."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    if error.status == 401 and not (route and route.is_openai):
        return Response((), 401, None, headers)  # TGI's has no body
    return Response([json.dumps(_error_value(route, error)).encode()], error.status, "application/json", headers)


def _error_value(route: Route | None, error: Error) -> dict[str, Any]:
    if route is None or not route.is_openai:
        return {"error": error.message} | ({"error_type": error.type} if error.type else {})
    kind = error.type if error.status != 401 else "invalid_request_error"
    fields = {"message": error.message, "type": kind, "param": None, "code": error.type}
    return {"error": {**fields, "http_status_code": error.status}}


def _error_events(route: Route, error: Error) -> list[bytes]:
    if route is Route.RESPONSES:
        event = {"type": "error", "code": error.type, "message": error.message, "param": None, "sequence_number": 0}
        return [b"event: error\n" + encode_json(event)]
    return [encode_json(_error_value(route, error))] + [DONE] * route.is_openai


def _without_content(rule: Rule, request: ModelRequest | None) -> Response:
    route = request.route if request else None
    if rule.unusual is not None:
        return UNUSUAL_RESPONSES[rule.unusual].response
    if rule.response is not None:
        raw = rule.response
        kind = "application/json" if "json_body" in raw.model_fields_set else "text/plain; charset=utf-8"
        return Response([raw.encoded()], raw.status, kind, raw.headers)
    if rule.error is None:
        return _response_fault(rule, route)
    if rule.after is not None and request is not None and request.stream:
        return Response(_error_events(request.route, rule.error), headers=_STREAM_HEADERS)
    return error_response(route, rule.error, rule.retry_after)


def _response_fault(rule: Rule, route: Route | None) -> Response:
    if rule.fault == "overloaded":
        return faults.overloaded(1 if rule.retry_after is None else rule.retry_after)
    if rule.fault == "overloaded_in_stream":
        return faults.overloaded_in_stream(chat=route is not None and route.is_openai)
    return faults.html() if rule.fault == "html" else faults.empty()


def _stream(rule: Rule, events: list[bytes], route: Route) -> Response:
    if rule.error is not None:
        response = Response([*events[: rule.after], *_error_events(route, rule.error)])
    elif rule.fault is not None:
        response = _faulty(rule, events)
    else:
        response = Response(events)
    return replace(response, headers=_STREAM_HEADERS)


def _complete(rule: Rule, body: object, route: Route) -> Response:
    if rule.error is not None:
        return error_response(route, rule.error, rule.retry_after)
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    response = Response([data])
    if rule.fault in INTERRUPTIONS:  # in the middle of the body: it has no events
        half = len(data) // 2
        response = _faulty(rule, [data[:half], data[half:]], after=0 if rule.after == 0 else 1)
    elif rule.fault in ("rechunk", "split_utf8"):
        response = _faulty(rule, [data])
    return replace(response, content_type="application/json")


def _faulty(rule: Rule, events: list[bytes], *, after: int | None = None) -> Response:
    function: Callable[..., Response] = getattr(faults, rule.fault or "")
    if rule.fault in INTERRUPTIONS:
        given = rule.after if after is None else after
        return function(events, after=1 if given is None else given)
    return function(events, **({"size": rule.size} if rule.size else {}))


# Pace ----------------------------------------------------------------------------------------------------------------

_EVENT_START = re.compile(rb"(?:\A|(?<=\n\n)|(?<=\r\r)|(?<=\r\n\r\n))(?:\xef\xbb\xbf)?(?=data|event)")
"""Where an event begins; comments and `retry` fields are none."""


def paced(response: Response, seconds: float) -> Response:
    """The response with `seconds` before each event, wherever the boundaries of its chunks are."""
    if not seconds:
        return response
    steps = list(response.body)
    body = b"".join(step for step in steps if isinstance(step, bytes))
    starts = [found.start() for found in _EVENT_START.finditer(body)]
    timed: list[tuple[float, Step]] = []
    sent = begun = 0
    for step in steps:
        if isinstance(step, bytes):
            sent += len(step)
            while begun < len(starts) and starts[begun] < sent:
                begun += 1
        timed.append((begun * seconds, step))
    return replace(response, body=TimedSteps(timed))

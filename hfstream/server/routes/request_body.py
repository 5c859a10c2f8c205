"""Reading and parsing the body of an HTTP request: content type, size limit, errors.

The messages are those of axum's `Json` extractor, which TGI uses. Does not depend on any particular body.
"""

from __future__ import annotations

import re
from typing import TypeVar

import pydantic
from pydantic import BaseModel
from pydantic_core import from_json
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ..schemas.serde_errors import describe_first_error, describe_syntax_error
from ..service.admission import ByteHolder
from ..service.request_service import RequestService

BodyT = TypeVar("BodyT", bound=BaseModel)

PARSE_SECONDS = 30.0
"""How long a body may take to be parsed. The largest take a second."""
INLINE_LIMIT = 10_000
"""Bytes that are parsed on the event loop; longer bodies go to another thread. A conversation of many short messages,
the slowest kind, takes up to 0.3 ms per 1,000 bytes."""


async def parse_request(request: Request, model: type[BodyT], service: RequestService) -> BodyT:
    """The body of `request` as a `model`.

    Raises:
        OverloadedError: all bodies together are too large.
        HTTPException: 400 (not JSON), 413 (too large), 415 (another content type) or 422 (not a `model`).
        ClientDisconnect: the client disconnected before the end of the body.
    """
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/([^/\s]+\+)?json", content_type):
        raise HTTPException(415, "Expected request with `Content-Type: application/json`")
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise HTTPException(415, "Expected request without `Content-Encoding`: compressed bodies are not supported")
    with service.body_limiter.holding() as holder:
        body = await _read(request, service.settings.payload_limit, holder)
        if len(body) <= INLINE_LIMIT:
            return parse_body(body, model)
        try:
            return await service.text_work.run(parse_body, body, model, seconds=PARSE_SECONDS)
        except TimeoutError:
            raise HTTPException(413, "The request body takes too long to be parsed") from None


def parse_body(body: bytes, model: type[BodyT]) -> BodyT:
    """`body` as a `model`.

    Raises:
        HTTPException: 400 (not JSON) or 422 (not a `model`).
    """
    try:
        if b"NaN" in body or b"Infinity" in body:  # no JSON, unless within a string; `model_validate_json` takes them
            from_json(body, allow_inf_nan=False)
        return model.model_validate_json(body)
    except pydantic.ValidationError as error:
        invalid, syntax_error = error, describe_syntax_error(error)
    except ValueError as error:
        raise _no_json(str(error)) from None
    if syntax_error:
        raise _no_json(syntax_error)
    type_error = describe_first_error(invalid, body.decode())
    raise HTTPException(422, f"Failed to deserialize the JSON body into the target type: {type_error}")


def _no_json(reason: str) -> HTTPException:
    return HTTPException(400, f"Failed to parse the request body as JSON: {reason}")


async def _read(request: Request, limit: int, holder: ByteHolder) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        holder.add(len(chunk))
        if size > limit:  # checked while reading, so that a larger body is never held in memory
            raise HTTPException(413, "Failed to buffer the request body: length limit exceeded")
    return b"".join(chunks)

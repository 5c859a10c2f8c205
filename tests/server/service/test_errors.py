"""The service's own errors, as clients get them."""

from __future__ import annotations

import pytest

from hfstream.errors import InferenceError
from hfstream.errors.response_bodies import to_response
from hfstream.server.service.errors import EngineFailedError, NotReadyError, StreamGoneError


@pytest.mark.parametrize(
    ("error", "status", "error_type"),
    [
        (NotReadyError("x"), 503, "loading"),
        (EngineFailedError("x"), 503, "broken"),
        (StreamGoneError("x"), 410, "gone"),
    ],
)
def test_status_and_error_type(error: InferenceError, status: int, error_type: str) -> None:
    assert to_response(error) == (status, {"error": "x", "error_type": error_type})

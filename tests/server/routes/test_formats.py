"""How the routes' formats differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from hfstream.errors import GenerationError
from hfstream.server import Settings
from hfstream.server.routes.chat import CHAT
from hfstream.server.routes.completions import COMPLETIONS
from hfstream.server.routes.formats import RouteFormat
from hfstream.server.routes.tgi import COMPAT, GENERATE, GENERATE_STREAM
from hfstream.server.service.backend import Backend
from tests.helpers.scripted_engine import ScriptedEngine

ERROR = GenerationError("out of memory")
TGI_ERROR = '{"error":"out of memory","error_type":"generation"}'


@pytest.mark.parametrize("route_format", [COMPAT, GENERATE, GENERATE_STREAM])
def test_tgi_routes_have_tgis_errors_and_no_done_event(route_format: RouteFormat[Any]) -> None:
    assert route_format.format_error(ERROR) == TGI_ERROR
    assert route_format.format_parse_error is None
    assert route_format.done_event is None


@pytest.mark.parametrize("route_format", [CHAT, COMPLETIONS])
def test_openai_routes_have_openais_errors_and_a_done_event(route_format: RouteFormat[Any]) -> None:
    assert '"message":"out of memory"' in route_format.format_error(ERROR)
    assert route_format.format_parse_error is not None
    assert '"message":"not JSON"' in route_format.format_parse_error(HTTPException(400, "not JSON"))
    assert route_format.done_event == "[DONE]"


@pytest.mark.parametrize(
    ("route_format", "fields", "stream"),
    [
        (GENERATE, {"inputs": "Hi"}, False),
        (GENERATE_STREAM, {"inputs": "Hi"}, True),
        (COMPAT, {"inputs": "Hi"}, False),
        (COMPAT, {"inputs": "Hi", "stream": True}, True),
        (COMPLETIONS, {"prompt": "Hi"}, False),
        (COMPLETIONS, {"prompt": "Hi", "stream": True}, True),
    ],
)
async def test_whether_a_request_is_streamed(
    model: Path, route_format: RouteFormat[Any], fields: dict[str, Any], stream: bool
) -> None:
    backend = Backend(Settings(model=str(model)), ScriptedEngine())
    formatter = await route_format.make_formatter(route_format.request_model(**fields), backend)
    assert ([each.inputs for each in formatter.requests], formatter.stream) == (["Hi"], stream)

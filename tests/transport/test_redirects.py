"""Redirects: which are followed, and which headers a redirected request carries."""

from __future__ import annotations

import pytest

from hfstream import UnexpectedResponseError
from hfstream.testing import Request, Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")


@pytest.mark.parametrize("status", [307, 308])
async def test_no_secret_follows_a_redirect_to_another_origin(variant: Variant, clients: Clients, status: int) -> None:
    with ScriptedServer(Response(STREAM)) as elsewhere:
        location = elsewhere.url.replace("127.0.0.1", "localhost") + "/generate_stream"
        with ScriptedServer(Response(status=status, headers={"Location": location})) as server:
            client = clients(
                server.url,
                token="hf_secret",
                cookies={"sess": "secret"},
                headers={"api-key": "secret"},
                bill_to="secret",
            )
            assert await variant.rest(await variant.open(client)) == ["Hello", ",", " you"]
            assert server.requests[0].headers["cookie"] == "sess=secret"
            assert server.requests[0].headers["authorization"] == "Bearer hf_secret"
        assert "secret" not in str(elsewhere.requests[0].headers)
        assert elsewhere.requests[0].json() == server.requests[0].json()


async def test_a_redirect_that_leads_nowhere_ends(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(status=307, headers={"Location": "/generate_stream"})) as server:
        with pytest.raises(UnexpectedResponseError, match="redirect"):
            await variant.open(clients(server.url))
        assert len(server.requests) == 21


async def test_a_redirect_within_the_origin_keeps_the_token(variant: Variant, clients: Clients) -> None:
    def answer(request: Request) -> Response:
        if request.path == "/generate_stream":
            return Response(status=307, headers={"Location": "/other/generate_stream"})
        return Response(STREAM)

    with ScriptedServer(answer) as server:
        stream = await variant.open(clients(server.url, token="secret"))
        assert await variant.rest(stream) == ["Hello", ",", " you"]
        assert server.requests[1].headers["authorization"] == "Bearer secret"

"""The catalogue of unusual responses: the client reads each of them as it says."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream import InferenceError, Timeouts
from hfstream.testing import UNUSUAL_RESPONSES, ScriptedServer, UnusualResponse
from tests.helpers.variants import Clients, Variant

LIMITS = Timeouts(first_token=60, between_tokens=60, after_finish=0.2)


async def read(variant: Variant, client: Any, unusual: UnusualResponse) -> str:
    if unusual.task == "text_generation":
        return "".join(await variant.rest(await variant.open(client)))
    if not unusual.stream:
        whole = await variant.chat(client)
        return whole.choices[0].message.content or ""
    stream = await variant.open_chat(client)
    text = "".join([chunk.choices[0].delta.content or "" for chunk in await variant.rest(stream)])
    assert ((await variant.final(stream)).choices[0].message.content or "") == text
    return text


@pytest.mark.parametrize("unusual", UNUSUAL_RESPONSES.values(), ids=list(UNUSUAL_RESPONSES))
async def test_the_client_reads_each_response_as_documented(
    variant: Variant, clients: Clients, unusual: UnusualResponse
) -> None:
    with ScriptedServer(unusual.response) as server:
        client = clients(server.url, retry=None, timeout=LIMITS)
        if unusual.error is None:
            assert await read(variant, client, unusual) == unusual.text
            return
        with pytest.raises(InferenceError) as caught:
            await read(variant, client, unusual)
    assert (type(caught.value), caught.value.partial_text or "") == (unusual.error, unusual.text)
    assert unusual.message in (None, caught.value.message)


def test_a_response_can_be_sent_again() -> None:
    assert all(isinstance(unusual.response.body, list) for unusual in UNUSUAL_RESPONSES.values())


def test_descriptions_are_of_one_line() -> None:
    for name, unusual in UNUSUAL_RESPONSES.items():
        assert "\n" not in unusual.description and len(name) < 50

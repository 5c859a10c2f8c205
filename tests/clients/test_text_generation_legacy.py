"""The `text-generation` client that came with TGI, unchanged, against the backend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from text_generation import AsyncClient, Client
from text_generation.errors import OverloadedError, ValidationError

PROMPT = "What is Deep Learning?"


@pytest.fixture
def client(backend: str) -> Client:
    return Client(backend)


def test_the_loop_of_its_documentation(client: Client) -> None:
    text = ""
    for response in client.generate_stream(PROMPT, max_new_tokens=17):
        if not response.token.special:
            text += response.token.text
    assert text == client.generate(PROMPT, max_new_tokens=17).generated_text
    assert text


def test_details(client: Client) -> None:
    *_, last = client.generate_stream(PROMPT, max_new_tokens=5)
    assert last.details is not None
    assert last.details.generated_tokens == 5
    assert last.generated_text


def test_a_chat(client: Client) -> None:
    # Whole only: of a stream it reads `[DONE]`, which TGI sends since 2.2, as JSON.
    messages = [{"role": "user", "content": "How do you make cheese?"}]
    assert "curd" in client.chat(messages, max_tokens=200, temperature=0.0).choices[0].message.content


def test_async(backend: str) -> None:
    async def main() -> str:
        stream = AsyncClient(backend).generate_stream(PROMPT, max_new_tokens=17)
        return "".join([response.token.text async for response in stream])

    assert asyncio.run(main())


def test_a_wrong_value_is_told(client: Client, backend: str) -> None:
    with pytest.raises(ValidationError, match="must be <= "):
        client.generate(500 * PROMPT, max_new_tokens=5)


def test_overload_has_its_own_error(serve: Callable[..., str]) -> None:
    client = Client(serve("--max-concurrent-requests", "1", "--tokens-per-second", "5"))
    stream = client.generate_stream(PROMPT)
    next(stream)
    with pytest.raises(OverloadedError):
        client.generate(PROMPT)
    stream.close()

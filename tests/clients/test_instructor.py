"""instructor, unchanged, against the backend: classes that answers are read into."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import instructor
import openai
import pytest
from pydantic import BaseModel, Field

MESSAGES = [{"role": "user", "content": "Which shop sells cheese?"}]
MODES = [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]


class Shop(BaseModel):
    """A shop."""

    name: Annotated[str, Field(max_length=12)]
    kind: Literal["dairy", "bakery"]
    stars: Annotated[int, Field(ge=1, le=5)]


def create(backend: str, mode: instructor.Mode) -> instructor.Instructor:
    return instructor.from_openai(openai.OpenAI(base_url=f"{backend}/v1", api_key="-"), mode=mode)


@pytest.mark.parametrize("mode", MODES)
def test_an_answer_is_an_object(backend: str, mode: instructor.Mode) -> None:
    client = create(backend, mode)
    shop, completion = client.chat.completions.create_with_completion(
        model="bundled", messages=MESSAGES, response_model=Shop, max_retries=0, temperature=0
    )
    assert isinstance(shop, Shop)
    assert completion.choices[0].finish_reason == ("tool_calls" if mode is instructor.Mode.TOOLS else "stop")


@pytest.mark.parametrize("mode", MODES)
def test_an_object_grows_as_it_streams(backend: str, mode: instructor.Mode) -> None:
    shops = list(
        create(backend, mode).chat.completions.create_partial(
            model="bundled", messages=MESSAGES, response_model=Shop, max_retries=0, temperature=0
        )
    )
    assert len(shops) > 3
    assert isinstance(Shop.model_validate(shops[-1].model_dump()), Shop)


def test_async(backend: str) -> None:
    async def main() -> Shop:
        async with openai.AsyncOpenAI(base_url=f"{backend}/v1", api_key="-") as client:
            return await instructor.from_openai(client).chat.completions.create(
                model="bundled", messages=MESSAGES, response_model=Shop, max_retries=0, temperature=0
            )

    assert isinstance(asyncio.run(main()), Shop)

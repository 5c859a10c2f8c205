"""LangChain's HuggingFaceEndpoint and ChatHuggingFace, unchanged and with their defaults, against the backend."""

from __future__ import annotations

import asyncio

import pytest
from langchain_huggingface import ChatHuggingFace, HuggingFaceEndpoint

CHEESE = "How do you make cheese?"


@pytest.fixture
def endpoint(backend: str) -> HuggingFaceEndpoint:
    """Its defaults include typical_p=0.95, top_k=10 and top_p=0.95."""
    return HuggingFaceEndpoint(endpoint_url=backend)


def test_the_defaults_generate(endpoint: HuggingFaceEndpoint) -> None:
    assert len(endpoint.invoke(CHEESE)) > 20


def test_the_defaults_stream(endpoint: HuggingFaceEndpoint) -> None:
    assert len(list(endpoint.stream(CHEESE))) > 20


def test_async(endpoint: HuggingFaceEndpoint) -> None:
    async def main() -> list[str]:
        return [chunk async for chunk in endpoint.astream(CHEESE)]

    assert len(asyncio.run(main())) > 20


def test_a_stop_string_is_not_part_of_the_text(backend: str) -> None:
    endpoint = HuggingFaceEndpoint(endpoint_url=backend, top_k=1, stop_sequences=["milk"])
    whole = endpoint.invoke(CHEESE)
    assert whole.strip() == "You make cheese from"
    assert "".join(endpoint.stream(CHEESE)).strip() == whole.strip()


def test_parameters_reach_the_server(backend: str) -> None:
    endpoint = HuggingFaceEndpoint(
        endpoint_url=backend, max_new_tokens=5, top_k=1, top_p=0.5, typical_p=0.5, temperature=0.5,
        repetition_penalty=1.0, watermark=False, seed=7, do_sample=True,
    )  # fmt: skip
    assert endpoint.invoke(CHEESE) == endpoint.invoke(CHEESE)


def test_a_chat(endpoint: HuggingFaceEndpoint) -> None:
    chat = ChatHuggingFace(llm=endpoint, model_id="bundled")
    answer = chat.invoke(CHEESE)
    assert len(str(answer.content)) > 20
    chunks = list(chat.stream(CHEESE))
    assert len(chunks) > 10

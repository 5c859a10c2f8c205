"""What is recorded of a request, by the names of the conventions."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream._request_factory import RequestFactory
from hfstream.core.observers import Call
from hfstream.otel.attributes import identity, request_attributes, span_name
from tests.helpers.configs import make_config
from tests.helpers.variants import HI


def chat(model: str | None = "http://h:8080", **options: Any) -> Call:
    return Call(RequestFactory(make_config(model)).chat_completion(HI, stream=False, options=options))  # type: ignore[arg-type]


def text(model: str | None = "http://h:8080", **options: Any) -> Call:
    factory = RequestFactory(make_config(model))
    return Call(factory.text_generation("Hi", stream=True, details=False, options=options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "provider"),
    [
        (chat("https://api.openai.com/v1"), "openai"),
        (chat("https://api.groq.com/openai/v1"), "groq"),
        (chat("https://me.openai.azure.com/openai/v1"), "azure.ai.openai"),
        (chat("org/name"), "huggingface"),
        (chat(), "openai"),
        (text(), "tgi"),
        (text("http://h/v1"), "openai"),
        (text("http://h/any"), "tgi"),
    ],
)
def test_the_provider_is_known_by_host_or_api(call: Call, provider: str) -> None:
    assert identity(call, None)["gen_ai.provider.name"] == provider
    assert identity(call, "mine")["gen_ai.provider.name"] == "mine"


def test_the_server_and_the_model() -> None:
    found = identity(text("org/name"), None)
    assert (found["server.address"], found["server.port"]) == ("router.huggingface.co", 443)
    assert found["gen_ai.request.model"] == "org/name"
    assert span_name(text("org/name")) == "text_completion org/name"
    found = identity(text("http://user:password@[::1]/generate?key=secret"), None)
    assert (found["server.address"], found["server.port"]) == ("::1", 80)
    assert "secret" not in str(found)
    assert "password" not in str(found)


def test_parameters_have_the_names_and_types_of_the_conventions() -> None:
    call = chat(
        max_tokens=5, temperature=1, top_p=0.5, presence_penalty=1.5, frequency_penalty=-1, seed=2, stop=".",
        extra_body={"top_k": 4, "max_completion_tokens": 7, "n": 1},
    )  # fmt: skip
    assert request_attributes(call) == {
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 1.0,
        "gen_ai.request.top_p": 0.5,
        "gen_ai.request.top_k": 4,
        "gen_ai.request.presence_penalty": 1.5,
        "gen_ai.request.frequency_penalty": -1.0,
        "gen_ai.request.seed": 2,
        "gen_ai.request.stop_sequences": ["."],
    }


def test_what_does_not_fit_is_left_out() -> None:
    call = text(seed=2**64 - 1, grammar={"type": "json", "value": {}}, extra_body={"parameters": {"top_p": "high"}})
    assert request_attributes(call) == {"gen_ai.request.stream": True, "gen_ai.output.type": "json"}

"""Our own server behind our server, by both kinds of URL: what comes out is what the one behind says."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from hfstream import InferenceClient, OverloadedError, ValidationError
from hfstream.server import BackgroundServer, Settings
from hfstream.testing import ChaosProxy, FaultRates
from tests.helpers.scripted_engine import eventually, metric
from tests.helpers.shared_engine import SharedEngine

pytestmark = pytest.mark.slow

CHEESE = "How do you make cheese?"
MESSAGES = [{"role": "user", "content": CHEESE}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["Paris", "Rome"]}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def behind(shared_engine: SharedEngine) -> Iterator[str]:
    with BackgroundServer(engine=shared_engine.connect()) as server:
        yield server.url


@pytest.fixture(scope="module", params=["tgi", "openai"])
def url(request: pytest.FixtureRequest, behind: str) -> Iterator[str]:
    path = "/v1" if request.param == "openai" else ""
    with BackgroundServer(Settings(upstreams=(behind + path,))) as server:
        assert eventually(lambda: InferenceClient(server.url).health_check())
        yield server.url


def test_text_is_the_same_streamed_and_not(url: str, behind: str) -> None:
    expected = InferenceClient(behind).text_generation(CHEESE, max_new_tokens=200, details=True)
    client = InferenceClient(url)
    assert client.text_generation(CHEESE, max_new_tokens=200) == expected.generated_text
    stream = client.text_generation(CHEESE, max_new_tokens=200, details=True, stream=True)
    *_, last = stream
    assert stream.text == last.generated_text == expected.generated_text
    assert expected.details is not None
    assert last.details is not None
    assert last.details.finish_reason == expected.details.finish_reason == "eos_token"
    assert last.details.generated_tokens == expected.details.generated_tokens


def test_a_chat_is_the_same(url: str, behind: str) -> None:
    options: Any = {"max_tokens": 200, "temperature": 0}
    expected = InferenceClient(behind).chat_completion(MESSAGES, **options)
    client = InferenceClient(url)
    assert client.chat_completion(MESSAGES, **options).choices == expected.choices
    stream = client.chat_completion(MESSAGES, stream=True, stream_options={"include_usage": True}, **options)
    assert stream.final().choices[0].message.content == expected.choices[0].message.content
    assert stream.usage == expected.usage


def test_tools_and_schemas_go_through(url: str) -> None:
    client = InferenceClient(url)
    stream = client.chat_completion(MESSAGES, tools=[WEATHER], tool_choice="required", temperature=0, stream=True)
    (call,) = stream.final().choices[0].message.tool_calls or []
    assert call.function.name == "get_weather"
    assert call.function.arguments in ('{"city":"Paris"}', '{"city":"Rome"}', '{"city": "Paris"}', '{"city": "Rome"}')
    schema = {"type": "object", "properties": {"city": {"enum": ["Paris"]}}, "required": ["city"]}
    text = client.text_generation(CHEESE, grammar={"type": "json", "value": schema}, max_new_tokens=50)
    assert "Paris" in text


def test_a_refusal_has_the_words_of_the_server_behind(url: str) -> None:
    with pytest.raises(ValidationError, match="`temperature` must be strictly positive"):
        InferenceClient(url).text_generation(CHEESE, temperature=-1)


def test_more_than_the_limit_is_refused_at_once_and_retried_by_the_client(behind: str) -> None:
    with BackgroundServer(Settings(upstreams=(behind,), max_concurrent_requests=2)) as server:
        impatient = InferenceClient(server.url, retry=None)
        first, second = (impatient.text_generation(CHEESE, max_new_tokens=900, stream=True) for _ in range(2))
        with first, second, pytest.raises(OverloadedError):
            impatient.text_generation(CHEESE)
        assert eventually(lambda: metric(server.url, "hfstream_permits_taken") == 0)
        assert eventually(lambda: metric(behind, "hfstream_permits_taken") == 0)  # cancelled there too
        patient = InferenceClient(server.url, retry=50)
        with ThreadPoolExecutor(8) as threads:
            texts = list(threads.map(lambda _: patient.text_generation(CHEESE, max_new_tokens=20), range(16)))
        assert len(set(texts)) == 1


@pytest.mark.parametrize("path", ["", "/v1"])
def test_streams_survive_a_bad_network_on_both_sides(behind: str, path: str) -> None:
    """The connections to the server behind and to the client are cut again and again; each stream comes whole."""
    rates = FaultRates(mean_bytes_between=3000, split=4, delay=0, cut=1, reset=1, stall=0)
    expected = InferenceClient(behind).chat_completion(MESSAGES, temperature=0).choices[0].message.content
    with (
        ChaosProxy(behind, rates=rates, seed=1) as inner,
        BackgroundServer(Settings(upstreams=(inner.url + path,))) as server,
        ChaosProxy(server.url, rates=rates, seed=2) as outer,
    ):
        client = InferenceClient(outer.url, resume=True, retry=50)
        resumed = 0
        for _ in range(3):
            stream = client.chat_completion(MESSAGES, temperature=0, stream=True)
            assert stream.final().choices[0].message.content == expected
            resumed += stream.metrics.resumed
    assert resumed

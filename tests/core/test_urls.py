"""The URL of a request: from a URL, or from a model id."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hfstream.core.urls import (
    Endpoint,
    chat_completion_url,
    explain_missing_route,
    is_huggingface,
    is_url,
    origin,
    service_url,
    text_generation_endpoint,
)

HF_TEXT_URL = "https://router.huggingface.co/hf-inference/models"


@pytest.mark.parametrize(
    ("model", "streamed", "whole"),
    [
        ("http://h", "http://h/generate_stream", "http://h/generate"),
        ("http://h/", "http://h/generate_stream", "http://h/generate"),
        ("http://h:8080", "http://h:8080/generate_stream", "http://h:8080/generate"),
        ("https://h/?a=1&b=2", "https://h/generate_stream?a=1&b=2", "https://h/generate?a=1&b=2"),
        ("https://h?a=1", "https://h/generate_stream?a=1", "https://h/generate?a=1"),
        ("http://h/#part", "http://h/generate_stream", "http://h/generate"),
        ("http://h/generate", "http://h/generate_stream", "http://h/generate"),
        ("http://h/generate_stream", "http://h/generate_stream", "http://h/generate"),
        ("http://h/generate/", "http://h/generate_stream", "http://h/generate"),
        ("http://h/a/b/generate?k=1", "http://h/a/b/generate_stream?k=1", "http://h/a/b/generate?k=1"),
        ("http://h/a%2Fb/generate", "http://h/a%2Fb/generate_stream", "http://h/a%2Fb/generate"),
        ("http://user:pw@h/generate", "http://user:pw@h/generate_stream", "http://user:pw@h/generate"),
        ("http://[::1]:80", "http://[::1]:80/generate_stream", "http://[::1]:80/generate"),
    ],
)
def test_TGIs_routes_are_recognised_by_the_end_of_the_path(model: str, streamed: str, whole: str) -> None:
    assert text_generation_endpoint(model, stream=True) == Endpoint(streamed, stream_in_body=False)
    assert text_generation_endpoint(model, stream=False) == Endpoint(whole, stream_in_body=False)


@pytest.mark.parametrize(
    "model",
    [
        "https://h/models/m", "https://h/models/m/", "https://h/a?k=1", "https://h/generates", "https://h/regenerate",
        "https://h/generate/x", "https://h/invocations", "https://x.endpoints.huggingface.cloud/my/model",
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [True, False])
def test_any_other_path_is_used_as_it_is(model: str, stream: bool) -> None:
    assert text_generation_endpoint(model, stream=stream) == Endpoint(model, stream_in_body=True)
    assert text_generation_endpoint(f"{model}#part", stream=stream).url == model


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("gpt2", f"{HF_TEXT_URL}/gpt2"),
        ("org/name", f"{HF_TEXT_URL}/org/name"),
        ("org/na me?x#y", f"{HF_TEXT_URL}/org/na%20me%3Fx%23y"),
        ("org/name:provider", f"{HF_TEXT_URL}/org/name%3Aprovider"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_a_model_id_goes_to_the_router(model: str, url: str, stream: bool) -> None:
    assert text_generation_endpoint(model, stream=stream) == Endpoint(url, stream_in_body=True, model=model)


@pytest.mark.parametrize(
    ("model", "url"), [("http://h", True), ("https://h", True), ("org/name", False), ("h:8080", False)]
)
def test_a_URL_is_told_from_a_model_id(model: str, url: bool) -> None:
    assert is_url(model) == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://h:8080/a/b?key=secret#x", "http://h:8080"),
        ("https://user:secret@h/a", "https://h"),
        ("https://user:se@cret@h:1/a", "https://h:1"),
        ("http://secret@[::1]:80/", "http://[::1]:80"),
    ],
)
def test_an_origin_shows_no_secrets(url: str, shown: str) -> None:
    assert origin(url) == shown


HOME = [
    "https://huggingface.co", "https://huggingface.co/models/m", "https://router.huggingface.co/x", "https://a.b.huggingface.co",
    "https://HuggingFace.CO/", "https://huggingface.co.", "https://huggingface.co:443/x", "https://user:pw@huggingface.co/",
]  # fmt: skip
ELSEWHERE = [
    "http://huggingface.co", "http://router.huggingface.co", "https://huggingface.co.evil.com", "https://evilhuggingface.co",
    "https://evil.com/huggingface.co", "https://evil.com?huggingface.co", "https://evil.com#huggingface.co",
    "https://huggingface.co@evil.com", "https://huggingface.co:pw@evil.com", "https://evil.com/@huggingface.co",
    "https://evil.com?@huggingface.co", "https://evil.com#@huggingface.co", "https://huggingface.co\\@evil.com",
    "https://huggingface.com", "https://huggingface.co.uk", "https://127.0.0.1", "http://localhost:8080", "https://",
    "https://x.endpoints.huggingface.cloud", "https://hf.co", "https://.huggingface.co.evil.com", "https://[::1]",
    "ftp://huggingface.co", "huggingface.co", "org/name", "https://huggingface.co%2eevil.com", "https://huggingface。co.evil.com",
]  # fmt: skip


@pytest.mark.parametrize("url", HOME)
def test_huggingface_over_TLS_gets_the_token(url: str) -> None:
    assert is_huggingface(url)


@pytest.mark.parametrize("url", ELSEWHERE)
def test_no_other_URL_gets_the_token(url: str) -> None:
    assert not is_huggingface(url)


PARTS = [
    "huggingface.co",
    "evil.com",
    "@",
    ":",
    "/",
    "\\",
    "?",
    "#",
    ".",
    "%2e",
    "%40",
    "[",
    "]",
    " ",
    "\t",
    "\n",
    "x",
    "443",
]


@given(st.lists(st.sampled_from(PARTS), max_size=8))
def test_the_host_we_check_is_the_host_that_httpx_connects_to(parts: list[str]) -> None:
    url = "https://" + "".join(parts)
    try:
        home = is_huggingface(url)
        host = httpx.URL(url).host.rstrip(".")
    except (ValueError, httpx.InvalidURL):
        return  # nothing is sent there
    if home:
        assert host == "huggingface.co" or host.endswith(".huggingface.co")


HF_ROUTER_URL = "https://router.huggingface.co"


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("http://h", "http://h/v1/chat/completions"),
        ("http://h/", "http://h/v1/chat/completions"),
        ("http://h:80?k=1", "http://h:80/v1/chat/completions?k=1"),
        ("http://h/v1", "http://h/v1/chat/completions"),
        ("http://h/v1/", "http://h/v1/chat/completions"),
        ("http://h/a/v1?k=1", "http://h/a/v1/chat/completions?k=1"),
        ("http://h/v1/chat/completions", "http://h/v1/chat/completions"),
        ("http://h/v1/completions", "http://h/v1/chat/completions"),
        ("http://h/generate", "http://h/v1/chat/completions"),
        ("http://h/a/generate_stream", "http://h/a/v1/chat/completions"),
        ("http://h/a/b", "http://h/a/b/v1/chat/completions"),
        ("http://h/a/b/", "http://h/a/b/v1/chat/completions"),
        ("https://h/openai/deployments/d/chat/completions?api-version=1", "https://h/openai/deployments/d/chat/completions?api-version=1"),
        ("https://h/v4/chat/completions", "https://h/v4/chat/completions"),
        ("http://h/v1#part", "http://h/v1/chat/completions"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/chat/completions", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"),
        ("org/name", f"{HF_ROUTER_URL}/v1/chat/completions"),
    ],
)  # fmt: skip
def test_the_URL_of_chat_completion(model: str, url: str) -> None:
    assert chat_completion_url(model) == url


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("http://h/v1", "http://h/v1/completions"),
        ("http://h/v1/", "http://h/v1/completions"),
        ("http://h/v1/completions", "http://h/v1/completions"),
        ("http://h/v1/chat/completions", "http://h/v1/completions"),
        ("https://h/a/b/v1?k=1", "https://h/a/b/v1/completions?k=1"),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_text_generation_at_an_OpenAI_compatible_server(model: str, url: str, stream: bool) -> None:
    found = text_generation_endpoint(model, stream=stream, model_name="org/name")
    assert found == Endpoint(url, stream_in_body=True, openai=True, model="org/name")


@pytest.mark.parametrize(
    ("model", "url"),
    [
        ("http://h", "http://h/info"), ("http://h/", "http://h/info"), ("http://h/v1", "http://h/info"),
        ("http://h/a/v1/chat/completions?k=1", "http://h/a/info?k=1"), ("http://h/generate_stream", "http://h/info"),
        ("http://h/a/b/", "http://h/a/b/info"), ("org/name", f"{HF_ROUTER_URL}/info"),
    ],
)  # fmt: skip
def test_a_service_URL_replaces_a_known_route(model: str, url: str) -> None:
    assert service_url(model, "/info") == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "http://h/generate_stream",
            "/generate_stream, as TGI has it: the URL of a server with OpenAI's API ends in /v1",
        ),
        ("http://h/generate?key=secret", "/generate, as TGI has it"),
        ("http://h/secret/v1/chat/completions", "the request went to /v1/chat/completions behind the client's URL"),
        ("http://u:secret@h/info", "the request went to /info behind"),
        ("http://h/secret", "the client's URL as it is"),
    ],
)
def test_a_missing_route_is_explained_without_what_may_be_secret(url: str, words: str) -> None:
    assert words in explain_missing_route(url)
    assert "secret" not in explain_missing_route(url)

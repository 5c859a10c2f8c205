"""Configuration: the arguments of a client, checked."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from hfstream import AsyncInferenceClient, InferenceClient, RetryPolicy
from tests.helpers.configs import make_config

URL = "http://127.0.0.1:8080"
SECRET = "hf_secret"


@pytest.mark.parametrize(
    "both",
    [
        {"model": URL, "base_url": URL},
        {"model": "", "base_url": URL},
        {"token": SECRET, "api_key": SECRET},
        {"token": False, "api_key": SECRET},
    ],
)
@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_both_names_of_one_argument_are_refused(both: dict[str, Any], client: type) -> None:
    with pytest.raises(ValueError, match="pass only one") as caught:
        client(**both)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_a_client_shows_its_model(client: Any) -> None:
    assert client("org/name").model == "org/name"
    assert client(base_url=URL).model == URL
    assert client().model is None


@pytest.mark.parametrize(
    "model",
    [
        "htp://user:secret@h/?key=secret", "http://user:secret/@h", "http://user:secret?@h", "http://user:secret#@h",
        "http://user:secret@h:port/", "http://user:secret@[::1", "http://user:secret@h\u2100/", "h:8080/?key=secret",
    ],
)  # fmt: skip
def test_the_message_about_an_invalid_URL_has_no_secrets(model: str) -> None:
    with pytest.raises(ValueError) as caught:
        make_config(model)
    assert "secret" not in "".join(traceback.format_exception(caught.value, limit=0))


def test_an_invalid_URL_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(ValueError):
        make_config("http://[::1")


@pytest.mark.parametrize(
    ("given", "policy"),
    [(RetryPolicy(7), RetryPolicy(7)), (5, RetryPolicy(attempts=5)), (None, RetryPolicy(attempts=1))],
)
def test_retry_may_be_a_policy_an_int_or_None(given: Any, policy: RetryPolicy) -> None:
    assert make_config(retry=given).retry == policy


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"timeout": -1}, {"timeout": True}, {"retry": 0}, {"retry": -1}])
@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_invalid_timeouts_and_retries_are_refused_when_the_client_is_made(bad: dict[str, Any], client: type) -> None:
    with pytest.raises(ValueError):
        client(URL, **bad)


def texts_of(value: object) -> Iterator[str]:
    yield repr(value)
    yield str(value)
    yield f"{value}"


@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_the_repr_of_a_client_has_no_secrets(client: type) -> None:
    one = client(f"https://user:secret@h:8080/secret?key={SECRET}", token=SECRET, headers={"x-key": SECRET})
    for text in texts_of(one):
        assert text == f"{client.__name__}(model='https://h:8080')"
    assert repr(client("org/name", token=SECRET)) == f"{client.__name__}(model='org/name')"
    assert repr(client()) == f"{client.__name__}(model=None)"


def test_the_repr_of_a_config_has_no_token_and_no_headers() -> None:
    for text in texts_of(make_config(token=SECRET, headers={"x-key": SECRET})):
        assert SECRET not in text


def test_the_repr_of_a_config_has_no_secrets_of_the_URL() -> None:
    for text in texts_of(make_config("https://user:secret@h/?key=secret")):
        assert "secret" not in text

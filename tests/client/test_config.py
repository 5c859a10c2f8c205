"""Configuration: the arguments of a client, checked."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pydantic
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
    "model",
    [
        "http:/127.0.0.1:8000/v1", "http:127.0.0.1:8000", "https:localhost", "https//user:secret@api.example.com/v1",
        "http//localhost:8080", "http;//secret", "//h/v1", "127.0.0.1", "10.0.0.5/v1", "localhost/x", "LocalHost/v1",
        "api.example.com/V1", "[::1]:8000", "/models/secret", "./m", "../m", "~/.cache/m", "C:\\m", "unix:/tmp/s",
        "   ", "a b", "org/name/extra", "org/", "org/name:", "name\n", "ü/name",
    ],
)  # fmt: skip
def test_what_is_neither_a_URL_nor_an_id_is_refused(model: str) -> None:
    """It would be sent to huggingface.co, with the prompt and the token."""
    with pytest.raises(ValueError, match=r"neither a URL \(http.* nor a model id") as caught:
        make_config(model)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "model", ["gpt2", "org/name", "org/name:groq", "gpt2:hf-inference", "Qwen/Qwen2.5-0.5B_x", "1.5.0/v1x", "v1"]
)
def test_an_id_is_taken_as_it_is(model: str) -> None:
    assert (make_config(model).model, make_config(model).endpoints) == (model, ())


@pytest.mark.parametrize("url", [httpx.URL("http://u:p@h/v1"), pydantic.HttpUrl("http://u:p@h/v1")])
def test_an_object_that_is_a_URL_is_taken(url: Any) -> None:
    assert make_config(url).model == make_config(None, base_url=url).model == "http://u:p@h/v1"
    several: Any = [url, "http://other/v1"]
    assert make_config(several).endpoints == ("http://u:p@h/v1", "http://other/v1")


@pytest.mark.parametrize("model", [5, b"http://h", Path("/x"), object()])
def test_a_model_of_another_type_is_refused(model: Any) -> None:
    wrong: list[dict[str, Any]] = [{"model": model}, {"model": None, "base_url": model}, {"model": [URL, model]}]
    for arguments in wrong:
        with pytest.raises(TypeError, match=f"model= is a string, .* not an object of type {type(model).__name__}"):
            make_config(**arguments)


@pytest.mark.parametrize("token", [pydantic.SecretStr("hf_x"), b"hf_x", 123, lambda: "hf_x"])
@pytest.mark.parametrize("name", ["token", "api_key"])
def test_a_token_of_another_type_is_refused(token: Any, name: str) -> None:
    with pytest.raises(
        TypeError, match=f"not an object of type {type(token).__name__}: pass the text itself"
    ) as caught:
        make_config(**{name: token})
    assert "hf_x" not in str(caught.value)


@pytest.mark.parametrize(
    ("client", "wrong"),
    [
        (InferenceClient, httpx.AsyncClient), (AsyncInferenceClient, httpx.Client), (InferenceClient, str),
        (AsyncInferenceClient, object),
    ],
)  # fmt: skip
def test_an_http_client_of_another_type_is_refused(client: Any, wrong: Any) -> None:
    with pytest.raises(TypeError, match=rf"http_client= must be an httpx\.\w+, .* not one of type .*{wrong.__name__}"):
        client(URL, http_client=wrong())


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

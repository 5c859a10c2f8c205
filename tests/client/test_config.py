"""What clients are told when they are made, and what they make of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from hfstream import AsyncInferenceClient, InferenceClient, RetryPolicy, Timeouts
from hfstream._config import ClientConfig
from hfstream.version import __version__

HERE, HOME = "http://127.0.0.1:8080", "https://router.huggingface.co/x"
SECRET = "hf_secret"


@pytest.fixture(autouse=True)
def no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


def made(model: str | None = HERE, **arguments: Any) -> ClientConfig:
    defaults: dict[str, Any] = {
        "token": None, "timeout": Timeouts(), "headers": None, "bill_to": None, "base_url": None, "api_key": None,
        "retry": RetryPolicy(),
    }  # fmt: skip
    return ClientConfig.of(model, **{**defaults, **arguments})


def sent(settings: ClientConfig, *, stream: bool = True, **options: Any) -> httpx.Headers:
    """The headers of a call, as httpx sends them: all of one name are joined."""
    exchange = settings.text_generation("p", stream=stream, details=False, options=options)  # type: ignore[arg-type]
    return httpx.Headers(dict(exchange.spec.headers))


# --- The token -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [HERE, HOME, "org/name", "https://evil.com", "http://huggingface.co"])
@pytest.mark.parametrize("name", ["token", "api_key"])
def test_an_explicit_token_goes_wherever_the_call_goes(model: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert sent(made(model, **{name: SECRET}))["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("model", ["org/name", HOME, "https://huggingface.co/x", "https://HUGGINGFACE.co/x"])
@pytest.mark.parametrize("token", [None, True])
def test_the_environments_token_goes_to_huggingface(model: str, token: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}\n")
    assert sent(made(model, token=token))["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "model",
    [
        HERE, "http://router.huggingface.co/x", "https://huggingface.co.evil.com/x", "https://huggingface.co@evil.com/x",
        "https://huggingface.co:pw@evil.com/x", "https://evil.com/huggingface.co", "https://evilhuggingface.co/x",
        "https://evil.com?@huggingface.co", "https://evil.com#@huggingface.co", "https://huggingface.co\\@evil.com/x",
        "https://x.endpoints.huggingface.cloud",
    ],
)  # fmt: skip
@pytest.mark.parametrize("token", [None, True])
def test_the_environments_token_goes_nowhere_else(model: str, token: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert "authorization" not in sent(made(model, token=token))
    assert "authorization" not in sent(made("org/name", token=token), model=model)
    assert SECRET not in str(sent(made(model, token=token)))


def test_a_call_to_huggingface_from_a_client_for_elsewhere_takes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    settings = made(HERE)
    assert sent(settings, model="org/name")["authorization"] == f"Bearer {SECRET}"
    assert "authorization" not in sent(settings)


@pytest.mark.parametrize("model", ["org/name", HOME, HERE])
def test_False_sends_no_token(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert "authorization" not in sent(made(model, token=False))


def test_the_environment_is_asked_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = made("org/name")
    assert "authorization" not in sent(settings)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert sent(settings)["authorization"] == f"Bearer {SECRET}"
    monkeypatch.setenv("HF_TOKEN", "")
    assert "authorization" not in sent(settings)


def test_a_token_may_have_come_from_a_file() -> None:
    assert sent(made(token=f" {SECRET}\r\n"))["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("token", ["", "  ", "\n"])
def test_an_empty_token_is_none(token: str) -> None:
    assert "authorization" not in sent(made(token=token))


def test_a_blank_token_in_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "  ")
    assert "authorization" not in sent(made("org/name"))


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec\0ret", "hf_secrét", "hf_secret”"])
def test_a_token_that_cannot_be_a_header_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError) as caught:
        sent(made(token=token))
    assert "hf_sec" not in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)  # which carries what it could not encode


# --- Headers ---------------------------------------------------------------------------------------------------------


def test_what_is_sent_with_every_request() -> None:
    assert dict(sent(made())) == {
        "accept": "text/event-stream", "accept-encoding": "identity", "content-type": "application/json",
        "user-agent": sent(made())["user-agent"],
    }  # fmt: skip
    assert sent(made())["user-agent"].startswith(f"hfstream/{__version__} python/3.")
    assert sent(made(), stream=False)["accept"] == "application/json"
    assert sent(made(bill_to="org"))["x-hf-bill-to"] == "org"
    assert "x-hf-bill-to" not in sent(made(bill_to=""))


@pytest.mark.parametrize("name", ["accept", "Accept-Encoding", "CONTENT-TYPE", "authorization", "User-Agent"])
def test_a_users_header_replaces_ours(name: str) -> None:
    assert sent(made(token=SECRET, headers={name: "mine"})).get_list(name) == ["mine"]
    assert sent(made(token=SECRET), extra_headers={name: "mine"}).get_list(name) == ["mine"]


def test_a_calls_header_replaces_the_clients() -> None:
    settings = made(headers={"X-A": "1", "X-B": "2"})
    headers = sent(settings, extra_headers={"X-A": "3", "X-C": "4"})
    assert (headers.get_list("x-a"), headers["x-b"], headers["x-c"]) == (["3"], "2", "4")
    assert sent(settings)["x-a"] == "1"


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        ({"headers": {"user-agent": "mine"}}, {}, "user-agent"),
        ({"headers": {"x-hf-bill-to": "mine"}, "bill_to": "org"}, {}, "x-hf-bill-to"),
        ({"headers": {"X-A": "1"}}, {"extra_headers": {"x-a": "mine"}}, "x-a"),
        ({}, {"extra_headers": {"user-agent": "mine"}}, "user-agent"),
    ],
)
def test_a_headers_case_does_not_matter(arguments: dict[str, Any], options: dict[str, Any], name: str) -> None:
    assert sent(made(**arguments), **options).get_list(name) == ["mine"]


# --- Names of one thing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "both",
    [
        {"model": HERE, "base_url": HERE},
        {"model": "", "base_url": HERE},
        {"token": SECRET, "api_key": SECRET},
        {"token": False, "api_key": SECRET},
    ],
)
@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_both_names_of_one_thing_are_refused(both: dict[str, Any], client: type) -> None:
    with pytest.raises(ValueError, match="pass only one") as caught:
        client(**both)
    assert SECRET not in str(caught.value)


def test_base_url_is_another_name_for_model() -> None:
    settings = made(None, base_url=HERE)
    assert settings.text_generation("p", stream=True, details=False, options={}).spec.url == f"{HERE}/generate_stream"


def test_a_calls_model_wins() -> None:
    settings = made(HERE)
    call = settings.text_generation("p", stream=True, details=False, options={"model": "http://other/"}).spec
    assert call.url == "http://other/generate_stream"
    call = settings.text_generation("p", stream=True, details=False, options={"model": None}).spec
    assert call.url == f"{HERE}/generate_stream"


@pytest.mark.parametrize("model", [None, ""])
def test_without_a_model_there_is_nothing_to_ask(model: str | None) -> None:
    with pytest.raises(ValueError, match="no model"):
        sent(made(model))
    assert sent(made(model), model=HERE)["accept"] == "text/event-stream"


@pytest.mark.parametrize("model", ["ftp://h/x", "ws://h", "htp://h", "://h"])
def test_a_URL_that_is_none_of_ours_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="starts with http"):
        made(model)
    with pytest.raises(ValueError, match="starts with http"):
        sent(made(), model=model)


def test_a_URL_that_is_refused_is_not_quoted_with_its_secrets() -> None:
    with pytest.raises(ValueError) as caught:
        made("htp://user:secret@h/?key=secret")
    assert "secret" not in str(caught.value)


def test_a_URL_that_cannot_be_is_refused_at_once() -> None:
    with pytest.raises(ValueError):
        made("http://[::1")


# --- Limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "timeouts"),
    [
        (Timeouts(connect=1), Timeouts(connect=1)),
        (5, Timeouts(5, 5, 5)),
        (None, Timeouts(None, None, None, None)),
    ],
)
def test_a_clients_timeout(given: Any, timeouts: Timeouts) -> None:
    settings = made(timeout=given)
    assert settings.timeouts == timeouts
    assert settings.text_generation("p", stream=True, details=False, options={}).timeouts == timeouts


def test_a_calls_timeout_wins_and_None_is_the_clients() -> None:
    settings = made(timeout=Timeouts(total=9))
    for given, timeouts in ((5, Timeouts(5, 5, 5)), (None, Timeouts(total=9)), (Timeouts(total=1), Timeouts(total=1))):
        exchange = settings.text_generation("p", stream=True, details=False, options={"timeout": given})
        assert exchange.timeouts == timeouts


@pytest.mark.parametrize(
    ("given", "policy"),
    [(RetryPolicy(7), RetryPolicy(7)), (5, RetryPolicy(attempts=5)), (None, RetryPolicy(attempts=1))],
)
def test_a_clients_retry(given: Any, policy: RetryPolicy) -> None:
    assert made(retry=given).retry == policy


@pytest.mark.parametrize("bad", [{"timeout": 0}, {"timeout": -1}, {"timeout": True}, {"retry": 0}, {"retry": -1}])
@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_limits_that_cannot_be_are_refused_when_the_client_is_made(bad: dict[str, Any], client: type) -> None:
    with pytest.raises(ValueError):
        client(HERE, **bad)


@pytest.mark.parametrize("options", [{"max_new_token": 5}, {"timeouts": 5}, {"prompt_": "x"}, {"model_id": "x"}])
def test_an_option_that_does_not_exist_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        sent(made(), **options)


def test_the_options_stay_as_they_were() -> None:
    options: Any = {"seed": 1, "extra_headers": {"a": "b"}, "timeout": 5}
    made().text_generation("p", stream=True, details=False, options=options)
    assert options == {"seed": 1, "extra_headers": {"a": "b"}, "timeout": 5}


# --- What is shown ---------------------------------------------------------------------------------------------------


def shown(value: object) -> Iterator[str]:
    yield repr(value)
    yield str(value)
    yield f"{value}"


@pytest.mark.parametrize("client", [InferenceClient, AsyncInferenceClient])
def test_a_client_shows_no_secrets(client: type) -> None:
    one = client(f"https://user:secret@h:8080/secret?key={SECRET}", token=SECRET, headers={"x-key": SECRET})
    for text in shown(one):
        assert text == f"{client.__name__}(model='https://h:8080')"
    assert repr(client("org/name", token=SECRET)) == f"{client.__name__}(model='org/name')"
    assert repr(client()) == f"{client.__name__}(model=None)"


def test_settings_show_no_token_and_no_headers() -> None:
    for text in shown(made(token=SECRET, headers={"x-key": SECRET})):
        assert SECRET not in text


def test_settings_show_no_secrets_of_the_URL() -> None:
    for text in shown(made("https://user:secret@h/?key=secret")):
        assert "secret" not in text

"""The URL, headers, body and timeouts that a request factory makes of a configuration and a call's arguments."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from hfstream import Timeouts
from hfstream._request_factory import RequestFactory
from hfstream.version import __version__
from tests.helpers.configs import URL, make_config

HOME = "https://router.huggingface.co/x"
HF_ROUTER_URL = "https://router.huggingface.co"
OTHER_URL = "http://there"
SECRET = "hf_secret"
USER = {"role": "user", "content": "Hi"}


@pytest.fixture(autouse=True)
def no_token_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)


def make_factory(model: str | None = URL, **arguments: Any) -> RequestFactory:
    return RequestFactory(make_config(model, **arguments))


def headers_of(factory: RequestFactory, *, stream: bool = True, **options: Any) -> httpx.Headers:
    """The headers of a call, as httpx sends them: those of the same name are joined."""
    exchange = factory.text_generation("p", stream=stream, details=False, options=options)  # type: ignore[arg-type]
    return httpx.Headers(dict(exchange.spec.headers))


def target_of(factory: RequestFactory, **options: Any) -> tuple[str, str]:
    """The URL of a chat, and the model in its body."""
    spec = factory.chat_completion([USER], stream=True, options=options).spec  # type: ignore[arg-type]
    assert spec.body is not None
    return spec.url, json.loads(spec.body)["model"]


def authorization(factory: RequestFactory, **options: Any) -> str | None:
    spec = factory.chat_completion([USER], stream=True, options=options).spec  # type: ignore[arg-type]
    return spec.headers.get("Authorization")


@pytest.mark.parametrize("model", [URL, HOME, "org/name", "https://evil.com", "http://huggingface.co"])
@pytest.mark.parametrize("name", ["token", "api_key"])
def test_an_explicit_token_is_sent_to_any_host(model: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    assert headers_of(make_factory(model, **{name: SECRET}))["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("model", ["org/name", HOME, "https://huggingface.co/x", "https://HUGGINGFACE.co/x"])
@pytest.mark.parametrize("token", [None, True])
def test_the_token_of_the_environment_is_sent_to_huggingface(
    model: str, token: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", f"{SECRET}\n")
    assert headers_of(make_factory(model, token=token))["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "model",
    [
        URL, "http://router.huggingface.co/x", "https://huggingface.co.evil.com/x", "https://huggingface.co@evil.com/x",
        "https://huggingface.co:pw@evil.com/x", "https://evil.com/huggingface.co", "https://evilhuggingface.co/x",
        "https://evil.com?@huggingface.co", "https://evil.com#@huggingface.co", "https://huggingface.co\\@evil.com/x",
        "https://x.endpoints.huggingface.cloud",
    ],
)  # fmt: skip
@pytest.mark.parametrize("token", [None, True])
def test_the_token_of_the_environment_is_sent_to_no_other_host(
    model: str, token: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for headers in (
        headers_of(make_factory(model, token=token)),
        headers_of(make_factory("org/name", token=token), model=model),
    ):
        assert headers.get("authorization", "Basic").startswith("Basic")  # of the user in the URL, if there is one
    assert SECRET not in str(headers_of(make_factory(model, token=token)))


def test_a_call_to_huggingface_by_a_client_for_another_host_carries_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    factory = make_factory(URL)
    assert headers_of(factory, model="org/name")["authorization"] == f"Bearer {SECRET}"
    assert "authorization" not in headers_of(factory)


@pytest.mark.parametrize("model", ["org/name", HOME, URL])
def test_False_sends_no_token(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert "authorization" not in headers_of(make_factory(model, token=False))


def test_the_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    factory = make_factory("org/name")
    assert "authorization" not in headers_of(factory)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    assert headers_of(factory)["authorization"] == f"Bearer {SECRET}"
    monkeypatch.setenv("HF_TOKEN", "")
    assert "authorization" not in headers_of(factory)


def test_white_space_around_a_token_is_removed() -> None:
    assert headers_of(make_factory(token=f" {SECRET}\r\n"))["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize("token", ["", "  ", "\n"])
def test_an_empty_token_is_not_sent(token: str) -> None:
    assert "authorization" not in headers_of(make_factory(token=token))


def test_a_blank_token_of_the_environment_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "  ")
    assert "authorization" not in headers_of(make_factory("org/name"))


def test_a_token_and_a_password_are_refused() -> None:
    with pytest.raises(ValueError, match="both a token and a URL with user and password") as caught:
        headers_of(make_factory("http://user:password@h", token=SECRET))
    assert SECRET not in str(caught.value)
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "sent"), [("user:password", "user:password"), ("user", "user:"), (":p%2Fw", ":p/w"), ("%C3%BC:%40", "ü:@")]
)
def test_user_and_password_of_a_URL_are_sent_in_a_header_only(user: str, sent: str) -> None:
    """So that nothing that sees the URL can show them: logs, instrumentation, hooks."""
    header = f"Basic {base64.b64encode(sent.encode()).decode()}"
    factory = make_factory(f"http://{user}@h:1/generate?key=1", resume=True)
    spec = factory.text_generation("p", stream=True, details=False, options={}).spec
    assert (spec.url, spec.headers["Authorization"]) == ("http://h:1/generate_stream?key=1", header)
    assert (spec.continuation.tokenize_url, spec.continuation.headers["Authorization"]) == (
        "http://h:1/tokenize?key=1",
        header,
    )
    for exchange in (
        factory.chat_completion([USER], stream=False, options={}),
        factory.info(None, None),
        factory.health(None, None),
        factory.tokenize("x", None, None),
        factory.models(None, None),
    ):
        assert exchange.spec.url.startswith("http://h:1/")
        assert exchange.spec.headers["Authorization"] == header
    own = make_factory(f"http://{user}@h", headers={"authorization": "Other"})
    assert headers_of(own)["authorization"] == "Other"


@pytest.mark.parametrize("resume", [True, False])
def test_only_a_stream_that_may_be_resumed_asks_for_event_ids(resume: bool) -> None:
    factory = make_factory(resume=resume)
    assert headers_of(factory).get("prefer") == ("resumable" if resume else None)
    assert "prefer" not in headers_of(factory, stream=False)


@pytest.mark.parametrize("token", ["hf_sec\nret", "hf_sec\0ret", "hf_secrét", "hf_secret”"])
def test_the_message_about_an_invalid_token_does_not_show_it(token: str) -> None:
    with pytest.raises(ValueError) as caught:
        headers_of(make_factory(token=token))
    assert "hf_sec" not in str(caught.value)
    assert not isinstance(caught.value, UnicodeError)  # which carries what it could not encode


def test_headers_of_every_request() -> None:
    assert dict(headers_of(make_factory())) == {
        "accept": "text/event-stream", "accept-encoding": "identity", "content-type": "application/json",
        "user-agent": headers_of(make_factory())["user-agent"],
    }  # fmt: skip
    assert headers_of(make_factory())["user-agent"].startswith(f"hfstream/{__version__} python/3.")
    assert headers_of(make_factory(), stream=False)["accept"] == "application/json"
    assert headers_of(make_factory(bill_to="org"))["x-hf-bill-to"] == "org"
    assert "x-hf-bill-to" not in headers_of(make_factory(bill_to=""))


@pytest.mark.parametrize("name", ["accept", "Accept-Encoding", "CONTENT-TYPE", "authorization", "User-Agent"])
def test_a_users_header_replaces_the_default(name: str) -> None:
    assert headers_of(make_factory(token=SECRET, headers={name: "mine"})).get_list(name) == ["mine"]
    assert headers_of(make_factory(token=SECRET), extra_headers={name: "mine"}).get_list(name) == ["mine"]


def test_a_calls_header_replaces_the_clients() -> None:
    factory = make_factory(headers={"X-A": "1", "X-B": "2"})
    headers = headers_of(factory, extra_headers={"X-A": "3", "X-C": "4"})
    assert (headers.get_list("x-a"), headers["x-b"], headers["x-c"]) == (["3"], "2", "4")
    assert headers_of(factory)["x-a"] == "1"


@pytest.mark.parametrize(
    ("arguments", "options", "name"),
    [
        ({"headers": {"user-agent": "mine"}}, {}, "user-agent"),
        ({"headers": {"x-hf-bill-to": "mine"}, "bill_to": "mine"}, {}, "x-hf-bill-to"),
        ({"headers": {"X-A": "1"}}, {"extra_headers": {"x-a": "mine"}}, "x-a"),
        ({}, {"extra_headers": {"user-agent": "mine"}}, "user-agent"),
    ],
)
def test_header_names_are_compared_without_regard_to_case(
    arguments: dict[str, Any], options: dict[str, Any], name: str
) -> None:
    assert headers_of(make_factory(**arguments), **options).get_list(name) == ["mine"]


def test_base_url_is_another_name_for_model() -> None:
    factory = make_factory(None, base_url=URL)
    assert factory.text_generation("p", stream=True, details=False, options={}).spec.url == f"{URL}/generate_stream"


def test_the_model_of_a_call_takes_precedence() -> None:
    factory = make_factory(URL)
    call = factory.text_generation("p", stream=True, details=False, options={"model": "http://other/"}).spec
    assert call.url == "http://other/generate_stream"
    call = factory.text_generation("p", stream=True, details=False, options={"model": None}).spec
    assert call.url == f"{URL}/generate_stream"


@pytest.mark.parametrize("model", [None, ""])
def test_a_call_without_a_model_raises(model: str | None) -> None:
    with pytest.raises(ValueError, match="no model"):
        headers_of(make_factory(model))
    assert headers_of(make_factory(model), model=URL)["accept"] == "text/event-stream"


@pytest.mark.parametrize("model", ["ftp://h/x", "ws://h", "htp://h", "://h"])
def test_a_URL_of_another_scheme_is_refused(model: str) -> None:
    with pytest.raises(ValueError, match="starts with http"):
        make_factory(model)
    with pytest.raises(ValueError, match="starts with http"):
        headers_of(make_factory(), model=model)


@pytest.mark.parametrize("client", [None, "org/name"])
def test_what_cannot_be_an_id_is_not_sent_to_huggingface(client: str | None) -> None:
    for model in ("http//h", "/models/m", "accounts/a/models/m"):
        factory = make_factory(client)
        for ask in (target_of, headers_of):
            with pytest.raises(ValueError, match="nor a model id"):
                ask(factory, model=model)
        with pytest.raises(ValueError, match="nor a model id"):
            factory.models(model, None)
        assert target_of(make_factory(URL), model=model)[1] == model  # the name of a model at that server
        assert headers_of(make_factory(f"{URL}/v1"), model=model)


def test_an_object_that_is_a_URL_is_taken_by_a_call() -> None:
    for factory in (make_factory(), make_factory("org/name")):
        assert target_of(factory, model=httpx.URL(OTHER_URL))[0] == f"{OTHER_URL}/v1/chat/completions"
        assert factory.info(httpx.URL(OTHER_URL), None).spec.url == f"{OTHER_URL}/info"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "timeouts"),
    [
        (Timeouts(connect=1), Timeouts(connect=1)),
        (5, Timeouts(5, 5, 5)),
        (None, Timeouts(None, None, None, None)),
    ],
)
def test_timeout_may_be_timeouts_a_number_or_None(given: Any, timeouts: Timeouts) -> None:
    assert make_config(timeout=given).timeouts == timeouts
    factory = make_factory(timeout=given)
    assert factory.text_generation("p", stream=True, details=False, options={}).timeouts == timeouts


def test_the_timeout_of_a_call_takes_precedence() -> None:
    factory = make_factory(timeout=Timeouts(total=9))
    for given, timeouts in ((5, Timeouts(5, 5, 5)), (None, Timeouts(total=9)), (Timeouts(total=1), Timeouts(total=1))):
        exchange = factory.text_generation("p", stream=True, details=False, options={"timeout": given})
        assert exchange.timeouts == timeouts


@pytest.mark.parametrize("options", [{"max_new_token": 5}, {"timeouts": 5}, {"prompt_": "x"}, {"model_id": "x"}])
def test_an_unknown_option_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        headers_of(make_factory(), **options)


def test_the_options_are_not_changed() -> None:
    options: Any = {"seed": 1, "extra_headers": {"a": "b"}, "timeout": 5}
    make_factory().text_generation("p", stream=True, details=False, options=options)
    assert options == {"seed": 1, "extra_headers": {"a": "b"}, "timeout": 5}


@pytest.mark.parametrize(
    ("client", "call_", "url", "model_name"),
    [
        (URL, None, URL, "tgi"),
        (URL, "org/name", URL, "org/name"),
        (URL, OTHER_URL, OTHER_URL, "tgi"),
        ("org/name", None, HF_ROUTER_URL, "org/name"),
        ("org/name", "org/other", HF_ROUTER_URL, "org/other"),
        ("org/name", URL, URL, "org/name"),
        (None, URL, URL, "tgi"),
        (None, "org/name", HF_ROUTER_URL, "org/name"),
        ("org/name:groq", None, HF_ROUTER_URL, "org/name:groq"),
    ],
)
def test_a_URL_is_the_server_and_an_id_the_model_there(
    client: str | None, call_: str | None, url: str, model_name: str
) -> None:
    assert target_of(make_factory(client), model=call_) == (f"{url}/v1/chat/completions", model_name)
    assert target_of(make_factory(None, base_url=client), model=call_) == (f"{url}/v1/chat/completions", model_name)


@pytest.mark.parametrize("model", [None, ""])
def test_a_chat_without_a_valid_model_raises(model: str | None) -> None:
    with pytest.raises(ValueError, match="no model"):
        target_of(make_factory(model))
    with pytest.raises(ValueError, match=r"did you mean 'http://127\.0\.0\.1:8080'"):
        target_of(make_factory(URL), model="127.0.0.1:8080")
    with pytest.raises(ValueError, match="starts with http"):
        target_of(make_factory(URL), model="ftp://h")


@pytest.mark.parametrize("provider", [None, "auto", "groq", "hf-inference"])
def test_a_provider_is_appended_to_the_id(provider: str | None) -> None:
    suffix = f":{provider}" if provider not in (None, "auto") else ""
    factory = make_factory("org/name", provider=provider)
    assert target_of(factory) == (f"{HF_ROUTER_URL}/v1/chat/completions", f"org/name{suffix}")
    assert target_of(factory, model="org/other") == (f"{HF_ROUTER_URL}/v1/chat/completions", f"org/other{suffix}")
    assert target_of(factory, model=URL) == (f"{URL}/v1/chat/completions", "org/name")
    assert target_of(make_factory(URL, provider=provider), model="m") == (f"{URL}/v1/chat/completions", "m")


def test_two_providers_are_refused() -> None:
    with pytest.raises(ValueError, match="already names a provider"):
        target_of(make_factory("org/name:together", provider="groq"))


@pytest.mark.parametrize("token", ["sk-secret", "gsk_secret", "HF_secret"])
def test_a_providers_own_key_is_not_sent_to_huggingface(token: str) -> None:
    with pytest.raises(ValueError, match="not one of Hugging Face's") as caught:
        target_of(make_factory("org/name", provider="groq", token=token))
    assert token not in str(caught.value)
    assert target_of(make_factory(URL, provider="groq", token=token))[1] == "tgi"
    for fine in ("hf_secret", False, None, True):
        assert target_of(make_factory("org/name", provider="groq", token=fine))[1] == "org/name:groq"


def test_text_generation_accepts_hf_inference_only() -> None:
    factory = make_factory("org/name", provider="groq", token="hf_x")
    with pytest.raises(ValueError, match="does not serve text generation"):
        factory.text_generation("p", stream=True, details=False, options={})
    for provider in (None, "auto", "hf-inference"):
        call = (
            make_factory("org/name", provider=provider)
            .text_generation("p", stream=True, details=False, options={})
            .spec
        )
        assert call.url == f"{HF_ROUTER_URL}/hf-inference/models/org/name"
    call = factory.text_generation("p", stream=True, details=False, options={"model": URL}).spec
    assert call.url == f"{URL}/generate_stream"


def test_an_id_is_the_model_name_at_an_OpenAI_compatible_server() -> None:
    call = (
        make_factory(f"{URL}/v1").text_generation("p", stream=False, details=False, options={"model": "org/name"}).spec
    )
    assert call.url == f"{URL}/v1/completions"
    assert json.loads(call.body or b"")["model"] == "org/name"
    # TGI serves one model: there an id means the hub, as in huggingface_hub.
    call = make_factory(URL).text_generation("p", stream=False, details=False, options={"model": "org/name"}).spec
    assert call.url == f"{HF_ROUTER_URL}/hf-inference/models/org/name"


def test_the_token_of_the_environment_of_a_chat_is_sent_to_huggingface_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_env")
    assert authorization(make_factory("org/name")) == "Bearer hf_env"
    assert authorization(make_factory("org/name", token=False)) is None
    assert authorization(make_factory("https://router.huggingface.co/v1")) == "Bearer hf_env"
    for elsewhere in (URL, f"{URL}/v1", "https://api.groq.com/openai/v1", "http://router.huggingface.co/v1"):
        assert authorization(make_factory(elsewhere)) is None
        assert authorization(make_factory("org/name"), model=elsewhere) is None
        assert authorization(make_factory(elsewhere), model="org/name") is None
        assert authorization(make_factory(elsewhere, api_key="sk-x")) == "Bearer sk-x"


def test_bill_to_of_a_chat_is_sent_as_a_header() -> None:
    for factory in (make_factory("org/name", bill_to="org"), make_factory(URL, bill_to="org")):
        assert factory.chat_completion([USER], stream=False, options={}).spec.headers["X-HF-Bill-To"] == "org"
    assert "X-HF-Bill-To" not in make_factory(URL).chat_completion([USER], stream=False, options={}).spec.headers


def test_the_timeout_of_a_chat_takes_precedence() -> None:
    factory = make_factory(URL, timeout=Timeouts(total=9))
    for given, timeouts in ((5, Timeouts(5, 5, 5)), (None, Timeouts(total=9)), (Timeouts(total=1), Timeouts(total=1))):
        assert factory.chat_completion([USER], stream=True, options={"timeout": given}).timeouts == timeouts

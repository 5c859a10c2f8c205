"""What a client's configuration makes of a model (a URL or an id), a provider and a token: the URL and the headers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream import RetryPolicy, Timeouts
from hfstream._config import ClientConfig

USER = {"role": "user", "content": "Hi"}


HF_ROUTER_URL = "https://router.huggingface.co"


HERE, THERE = "http://here:8080", "http://there"


def made(model: str | None = None, **arguments: Any) -> ClientConfig:
    defaults: dict[str, Any] = {
        "token": None, "timeout": Timeouts(), "headers": None, "bill_to": None, "base_url": None, "api_key": None,
        "retry": RetryPolicy(),
    }  # fmt: skip
    return ClientConfig.of(model, **{**defaults, **arguments})


def sent(config: ClientConfig, **options: Any) -> tuple[str, str]:
    """Where a chat goes, and which model it names."""
    spec = config.chat_completion([USER], stream=True, options=options).spec  # type: ignore[arg-type]
    assert spec.body is not None
    return spec.url, json.loads(spec.body)["model"]


def authorization(config: ClientConfig, **options: Any) -> str | None:
    spec = config.chat_completion([USER], stream=True, options=options).spec  # type: ignore[arg-type]
    return spec.headers.get("Authorization")


@pytest.mark.parametrize(
    ("client", "call_", "url", "model_name"),
    [
        (HERE, None, HERE, "tgi"),
        (HERE, "org/name", HERE, "org/name"),
        (HERE, THERE, THERE, "tgi"),
        ("org/name", None, HF_ROUTER_URL, "org/name"),
        ("org/name", "org/other", HF_ROUTER_URL, "org/other"),
        ("org/name", HERE, HERE, "org/name"),
        (None, HERE, HERE, "tgi"),
        (None, "org/name", HF_ROUTER_URL, "org/name"),
        ("org/name:groq", None, HF_ROUTER_URL, "org/name:groq"),
    ],
)
def test_a_URL_is_the_server_and_an_id_the_model(
    client: str | None, call_: str | None, url: str, model_name: str
) -> None:
    assert sent(made(client), model=call_) == (f"{url}/v1/chat/completions", model_name)
    assert sent(made(None, base_url=client), model=call_) == (f"{url}/v1/chat/completions", model_name)


@pytest.mark.parametrize("model", [None, ""])
def test_without_a_model_a_call_raises(model: str | None) -> None:
    with pytest.raises(ValueError, match="no model"):
        sent(made(model))
    with pytest.raises(ValueError, match=r"did you mean 'http://127\.0\.0\.1:8080'"):
        sent(made(HERE), model="127.0.0.1:8080")
    with pytest.raises(ValueError, match="starts with http"):
        sent(made(HERE), model="ftp://h")


@pytest.mark.parametrize("provider", [None, "auto", "groq", "hf-inference"])
def test_a_provider_is_a_suffix_of_the_id(provider: str | None) -> None:
    suffix = f":{provider}" if provider not in (None, "auto") else ""
    config = made("org/name", provider=provider)
    assert sent(config) == (f"{HF_ROUTER_URL}/v1/chat/completions", f"org/name{suffix}")
    assert sent(config, model="org/other") == (f"{HF_ROUTER_URL}/v1/chat/completions", f"org/other{suffix}")
    assert sent(config, model=HERE) == (f"{HERE}/v1/chat/completions", "org/name")
    assert sent(made(HERE, provider=provider), model="m") == (f"{HERE}/v1/chat/completions", "m")


@pytest.mark.parametrize("token", ["sk-secret", "gsk_secret", "HF_secret"])
def test_a_providers_own_key_is_not_sent_to_huggingface(token: str) -> None:
    with pytest.raises(ValueError, match="none of theirs") as caught:
        sent(made("org/name", provider="groq", token=token))
    assert token not in str(caught.value)
    assert sent(made(HERE, provider="groq", token=token))[1] == "tgi"
    for fine in ("hf_secret", False, None, True):
        assert sent(made("org/name", provider="groq", token=fine))[1] == "org/name:groq"


def test_text_generation_has_one_provider() -> None:
    config = made("org/name", provider="groq", token="hf_x")
    with pytest.raises(ValueError, match="does not serve text generation"):
        config.text_generation("p", stream=True, details=False, options={})
    for provider in (None, "auto", "hf-inference"):
        call = made("org/name", provider=provider).text_generation("p", stream=True, details=False, options={}).spec
        assert call.url == f"{HF_ROUTER_URL}/hf-inference/models/org/name"
    call = config.text_generation("p", stream=True, details=False, options={"model": HERE}).spec
    assert call.url == f"{HERE}/generate_stream"


def test_an_id_is_the_model_name_at_an_OpenAI_compatible_server() -> None:
    call = made(f"{HERE}/v1").text_generation("p", stream=False, details=False, options={"model": "org/name"}).spec
    assert call.url == f"{HERE}/v1/completions"
    assert json.loads(call.body or b"")["model"] == "org/name"
    # TGI serves one model: there an id means the hub, as in huggingface_hub.
    call = made(HERE).text_generation("p", stream=False, details=False, options={"model": "org/name"}).spec
    assert call.url == f"{HF_ROUTER_URL}/hf-inference/models/org/name"


def test_the_environments_token_is_sent_to_huggingface_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_env")
    assert authorization(made("org/name")) == "Bearer hf_env"
    assert authorization(made("org/name", token=False)) is None
    assert authorization(made("https://router.huggingface.co/v1")) == "Bearer hf_env"
    for elsewhere in (HERE, f"{HERE}/v1", "https://api.groq.com/openai/v1", "http://router.huggingface.co/v1"):
        assert authorization(made(elsewhere)) is None
        assert authorization(made("org/name"), model=elsewhere) is None
        assert authorization(made(elsewhere), model="org/name") is None
        assert authorization(made(elsewhere, api_key="sk-x")) == "Bearer sk-x"


def test_bill_to_is_sent_as_a_header() -> None:
    for config in (made("org/name", bill_to="org"), made(HERE, bill_to="org")):
        assert config.chat_completion([USER], stream=False, options={}).spec.headers["X-HF-Bill-To"] == "org"
    assert "X-HF-Bill-To" not in made(HERE).chat_completion([USER], stream=False, options={}).spec.headers


def test_the_timeout_of_a_call_overrides_the_clients() -> None:
    config = made(HERE, timeout=Timeouts(total=9))
    for given, timeouts in ((5, Timeouts(5, 5, 5)), (None, Timeouts(total=9)), (Timeouts(total=1), Timeouts(total=1))):
        assert config.chat_completion([USER], stream=True, options={"timeout": given}).timeouts == timeouts

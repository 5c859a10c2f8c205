"""Requests: JSON bodies, the check of parameter names, and what a request shows of itself."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.core.request_spec import RequestSpec
from hfstream.core.text_generation import text_generation
from hfstream.core.urls import Endpoint

PLAIN, GIVEN = Endpoint("http://h/generate", stream_in_body=False), Endpoint("http://h/any", stream_in_body=True)


def call(
    target: Endpoint = PLAIN, *, prompt: str = "p", stream: bool = False, details: bool = False,
    extra_body: Any = None, **parameters: Any,
) -> RequestSpec[Any, Any, Any]:  # fmt: skip
    return text_generation(
        target, prompt, parameters, stream=stream, details=details, headers={}, extra_body=extra_body
    )


@pytest.mark.parametrize(
    ("name", "right"),
    [("max_new_token", "max_new_tokens"), ("temprature", "temperature"), ("topp", "top_p"),
     ("max_tokens", "max_new_tokens"), ("Seed", "seed"), ("stop_sequence", "stop_sequences")],
)  # fmt: skip
@pytest.mark.parametrize("value", [5, None])
def test_a_mistyped_name_raises_with_a_suggestion(name: str, right: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"`{name}`: did you mean `{right}`"):
        call(**{name: value})


def test_an_unknown_name_raises_without_a_suggestion() -> None:
    with pytest.raises(TypeError, match=r"`zzz` \(extra_body= sends anything\)"):
        call(zzz=1)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": float("nan")},
        {"top_p": float("inf")},
        {"stop": {1, 2}},
        {"grammar": object()},
        {"stop": ["\ud800"]},
    ],
)
def test_a_value_that_is_not_JSON_serializable_is_a_TypeError(bad: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        call(**bad)


def test_a_lone_surrogate_is_a_TypeError() -> None:
    with pytest.raises(TypeError, match="cannot be sent as JSON"):
        call(prompt="a\ud83d")


def test_the_body_is_compact_UTF_8() -> None:
    assert call(prompt="é\u2028🙂").body == '{"inputs":"é\u2028🙂","parameters":{}}'.encode()


def test_the_repr_of_a_request_shows_no_secrets() -> None:
    target = Endpoint("https://user:pw@h:8080/generate?key=secret", stream_in_body=False)
    spec = text_generation(target, "secret", {}, stream=True, details=False, headers={"Authorization": "Bearer secret"})
    assert repr(spec) == str(spec) == "POST https://h:8080"

"""What is known of a response that was not streamed."""

from __future__ import annotations

from typing import Any

import pytest

from hfstream.core.single_result import SingleResult
from hfstream.types import ChatCompletion, TextGenerationResponse, Usage

GENERATED: dict[str, Any] = {
    "generated_text": "Hello",
    "details": {"finish_reason": "length", "generated_tokens": 2, "input_length": 5},
}
CHAT: dict[str, Any] = {
    "id": "c-1",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"},
        {"index": 1, "message": {"role": "assistant", "content": None}, "finish_reason": "length"},
    ],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
USAGE = Usage(prompt_tokens=5, completion_tokens=2, total_tokens=7)


@pytest.mark.parametrize(
    ("result", "text", "reasons", "usage", "model"),
    [
        (None, "", [], None, None),
        ({"model_id": "m"}, "", [], None, None),
        ("Hello", "Hello", [], None, None),
        (TextGenerationResponse.model_validate(GENERATED), "Hello", ["length"], USAGE, None),
        (TextGenerationResponse(generated_text="Hello"), "Hello", [], None, None),
        (ChatCompletion.model_validate(CHAT), "Hello", ["stop", "length"], USAGE, "m"),
        (ChatCompletion(choices=[]), "", [], None, ""),
    ],
)
def test_what_a_result_says(result: Any, text: str, reasons: list[str], usage: Usage | None, model: str | None) -> None:
    accumulator = SingleResult()
    assert accumulator.add([]) == []
    assert accumulator.add([result]) == [result]
    assert accumulator.result() is result
    assert accumulator.text == text
    assert [str(reason) for reason in accumulator.finish_reasons] == reasons
    assert accumulator.finish_reason == (reasons[0] if reasons else None)
    assert accumulator.usage == usage
    assert accumulator.metadata.get("model") == model

"""Where servers report the number of tokens of a chat."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.recordings import DONE, choice, chunk, event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import read_chat

USAGES = row(
    "Responses in other forms",
    "the usage is in the choice (Moonshot), in `x_groq` (Groq), on every chunk, or followed by one of zeros; its "
    'counts are named `input_tokens` and `output_tokens`, or written as `"12"` or `12.0`',
    "kept where it is; no usage, or zeros, for a program that reads `usage`",
    "`stream.usage` and the final result have it",
)

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
ZEROS = dict.fromkeys(USAGE, 0)
HELLO = choice(content="Hello")
STOP = choice(0, "stop")

PLACES: dict[str, list[dict[str, Any]]] = {
    "a chunk of its own": [{"choices": [HELLO]}, {"choices": [STOP]}, {"choices": [], "usage": USAGE}],
    "without choices": [{"choices": [HELLO]}, {"choices": [STOP]}, {"usage": USAGE}],
    "beside the finish": [{"choices": [HELLO]}, {"choices": [STOP], "usage": USAGE}],
    "in the choice": [{"choices": [HELLO]}, {"choices": [{**STOP, "usage": USAGE}]}],
    "in a choice after the finish": [
        {"choices": [HELLO]},
        {"choices": [STOP]},
        {"choices": [{**choice(), "usage": USAGE}]},
    ],
    "in x_groq": [{"choices": [HELLO]}, {"choices": [STOP], "x_groq": {"id": "req_1", "usage": USAGE}}],
    "on every chunk": [
        {"choices": [HELLO], "usage": {**USAGE, "completion_tokens": 1, "total_tokens": 8}},
        {"choices": [STOP], "usage": USAGE},
    ],
    "zeros at first": [{"choices": [HELLO], "usage": ZEROS}, {"choices": [STOP], "usage": USAGE}],
    "zeros at last": [{"choices": [HELLO]}, {"choices": [STOP], "usage": USAGE}, {"choices": [], "usage": ZEROS}],
    "null at last": [{"choices": [HELLO]}, {"choices": [STOP], "usage": USAGE}, {"choices": [], "usage": None}],
    "fractions and nulls": [
        {"choices": [HELLO]},
        {"choices": [STOP], "usage": {**USAGE, "prompt_tokens": 7.0, "prompt_tokens_details": None}},
    ],
    "numbers as text": [{"choices": [HELLO]}, {"choices": [], "usage": {name: f"{USAGE[name]}" for name in USAGE}}],
    "other names": [{"choices": [HELLO]}, {"choices": [], "usage": {"input_tokens": 7, "output_tokens": 3}}],
    "other names, text and a float": [
        {"choices": [HELLO]}, {"choices": [STOP], "usage": {"input_tokens": "7", "output_tokens": 3.0}},
    ],
}  # fmt: skip


@USAGES.only(task="chat")
@pytest.mark.parametrize("payloads", PLACES.values(), ids=PLACES)
async def test_the_usage_is_found(variant: Variant, clients: Clients, payloads: list[dict[str, Any]]) -> None:
    text, stream = await read_chat(variant, clients, [*map(event, payloads), DONE])
    assert text == "Hello"
    final = await variant.final(stream)
    for usage in (stream.usage, final.usage):
        assert {name: usage[name] for name in USAGE} == USAGE


@USAGES.only(task="chat")
async def test_zeros_are_the_usage_if_there_is_no_other(variant: Variant, clients: Clients) -> None:
    _, stream = await read_chat(
        variant, clients, [chunk(content="Hello"), event({"choices": [STOP], "usage": ZEROS}), DONE]
    )
    assert stream.usage.total_tokens == 0

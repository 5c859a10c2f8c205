"""Content that is a list of parts instead of a string, and choices that are numbered in another way, or absent."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.helpers.recordings import DONE, choice, chunk, event
from tests.helpers.robustness_rows import row
from tests.helpers.variants import Clients, Variant
from tests.peers.common import WORDS, ask_chat, read_chat

FORMS = "Responses in other forms"

PARTS = row(
    FORMS,
    'a delta\'s `content` is a list: `[{"type": "text", "text": "A"}, {"type": "reference", "reference_ids": [1]}]` '
    "(Mistral), `output_text`, images, plain strings",
    "`TypeError` when the texts are joined",
    "the texts joined; reasoning as `reasoning`; the other parts as `content_parts`",
)

REFERENCE = {"type": "reference", "reference_ids": [1]}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}

CONTENTS: dict[str, tuple[Any, str, str | None, Any]] = {
    "a text": ([{"type": "text", "text": "Hello"}], "Hello", None, None),
    "a reference": ([{"type": "text", "text": "Hello"}, REFERENCE], "Hello", None, [REFERENCE]),
    "only a reference": ([REFERENCE], "", None, [REFERENCE]),
    "an image": ([{"type": "output_text", "text": "Hello"}, IMAGE], "Hello", None, [IMAGE]),
    "strings": (["Hel", "lo"], "Hello", None, None),
    "one part": ({"type": "text", "text": "Hello"}, "Hello", None, None),
    "thinking": ([{"type": "thinking", "thinking": [{"type": "text", "text": "Well"}]}], "", "Well", None),
    "both": ([{"type": "thinking", "thinking": "Well"}, {"type": "text", "text": "Hello"}], "Hello", "Well", None),
    "none": ([], "", None, None),
    "nulls": ([None, {"type": "text", "text": None}], "", None, None),
    "without a type": ([{"text": "Hello"}], "Hello", None, None),
}


@PARTS.only(task="chat")
@pytest.mark.parametrize(("content", "text", "reasoning", "others"), CONTENTS.values(), ids=CONTENTS)
async def test_the_texts_of_parts_are_joined(
    variant: Variant, clients: Clients, content: Any, text: str, reasoning: str | None, others: Any
) -> None:
    received, stream = await read_chat(
        variant, clients, [chunk(content=copy.deepcopy(content)), chunk(content=" you"), chunk("stop"), DONE]
    )
    assert received == f"{text} you"
    streamed = (await variant.final(stream)).choices[0].message
    message = {"role": "assistant", "content": copy.deepcopy(content)}
    whole = (await ask_chat(variant, clients, {"choices": [{"message": message}]})).choices[0].message
    assert (streamed.content, whole.content or "") == (f"{text} you", text)
    for found in (streamed, whole):
        assert (found.reasoning, found.get("content_parts")) == (reasoning, others)


INDICES = row(
    FORMS,
    "the only choice has the index 1, or its index counts the tokens (TGI 1.4), or the blocks of its content (gateways "
    "to Anthropic's API)",
    "read, if the loop does not look at the index",
    "the text, as one choice with the first index",
)


@INDICES.only(task="chat")
@pytest.mark.parametrize(
    "indices", [[0, 0, 0, 0], [1, 1, 1, 1], [1, 2, 3, 4], [0, 1, 1, 0], [0, 0, 1, 1], [1, 0, 0, 0]], ids=repr
)
async def test_the_only_choice_may_have_any_index(variant: Variant, clients: Clients, indices: list[int]) -> None:
    words = [event({"choices": [choice(index, content=word)]}) for index, word in zip(indices, WORDS, strict=False)]
    for end in ([DONE], []):  # without [DONE] the stream is complete because its choice has finished
        events = [*words, event({"choices": [choice(indices[-1], "stop")]}), *end]
        text, stream = await read_chat(variant, clients, events)
        assert text == "".join(WORDS)
        assert stream.finish_reason == "stop"

"""Chat deltas, joined into the message that they are parts of."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hfstream.core.chat_accumulator import ChatAccumulator
from hfstream.core.stream_decoders import ChatStreamDecoder
from hfstream.types import ChatCompletion, ChatCompletionMessage, Usage
from tests.helpers.recordings import DONE, RECORDINGS, Recording, choice, chunk, event


@pytest.fixture(params=list(RECORDINGS.values()), ids=list(RECORDINGS))
def recording(request: pytest.FixtureRequest) -> Recording:
    built: Recording = request.param
    return built


def accumulate(chunks: Iterable[bytes]) -> ChatAccumulator:
    decoder, accumulator = ChatStreamDecoder(), ChatAccumulator()
    for piece_bytes in chunks:
        accumulator.add(decoder.feed(piece_bytes))
    accumulator.add(decoder.finish())
    return accumulator


def final(*chunks: bytes) -> ChatCompletion:
    return accumulate([*chunks, DONE]).result()


def message(*deltas: dict[str, Any]) -> ChatCompletionMessage:
    return final(*(chunk(**delta) for delta in deltas)).choices[0].message


def calls(*deltas: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The calls that deltas of calls come to: id, name, arguments."""
    built = message(*({"tool_calls": [delta]} for delta in deltas)).tool_calls or []
    return [(call.id, call.function.name, call.function.arguments) for call in built]


def delta(name: str | None = None, arguments: Any = None, **more: Any) -> dict[str, Any]:
    return {"function": {"name": name, "arguments": arguments}, **more}


# --- The same as in one piece ----------------------------------------------------------------------------------------


def test_a_stream_gives_the_same_result_as_a_response_without_streaming(recording: Recording) -> None:
    expected = ChatCompletion.parse_lenient(json.dumps(recording.whole).encode())
    accumulator = accumulate(recording.events)
    assert accumulator.result() == expected
    assert accumulator.result() == expected  # again, unchanged
    assert accumulator.text == (expected.choices[0].message.content or "")
    assert accumulator.finish_reason == expected.choices[0].finish_reason
    assert accumulator.usage == expected.usage


def test_add_returns_the_chunks_unchanged(recording: Recording) -> None:
    decoder, accumulator = ChatStreamDecoder(), ChatAccumulator()
    for piece_bytes in recording.events:
        value = decoder.feed(piece_bytes)
        assert accumulator.add(value) is value


def test_text_is_that_of_the_first_choice() -> None:
    decoder, accumulator = ChatStreamDecoder(2), ChatAccumulator(n=2)
    assert (accumulator.text, accumulator.finish_reason, accumulator.usage) == ("", None, None)
    steps: list[tuple[bytes, str, str | None]] = [
        (event({"choices": [choice(1, content="x")]}), "", None),
        (chunk(content="a"), "a", None),
        (chunk(reasoning="b"), "a", None),
        (event({"choices": [choice(1, "length", content="y"), choice(0, content="c")]}), "ac", None),
        (chunk("stop"), "ac", "stop"),
    ]
    for piece_bytes, text, reason in steps:
        accumulator.add(decoder.feed(piece_bytes))
        assert (accumulator.text, accumulator.finish_reason) == (text, reason)
    assert [built.message.content for built in accumulator.result().choices] == ["ac", "xy"]
    assert [built.finish_reason for built in accumulator.result().choices] == ["stop", "length"]


def test_choices_are_sorted_by_index() -> None:
    expected = final(event({"choices": [choice(index, "stop", content=str(index)) for index in (2, 0, 10, 1)]}))
    assert [(built.index, built.message.content) for built in expected.choices] == [
        (0, "0"),
        (1, "1"),
        (2, "2"),
        (10, "10"),
    ]


def test_content_without_text_is_empty_or_None_as_it_was_sent() -> None:
    assert message({"role": "assistant", "content": ""}, {"reasoning": "x"}).content == ""
    assert message({"role": "assistant", "content": None}, {"reasoning": "x"}).content is None
    assert message({"reasoning": "x"}).content is None
    assert message({"content": "", "tool_calls": [delta("f")]}).content is None
    assert message({"content": "a"}, {"tool_calls": [delta("f")]}).content == "a"


def test_content_parts_become_content_and_reasoning() -> None:
    """As Mistral's models that think stream them."""

    def thought(text: str) -> dict[str, Any]:
        return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}

    fields = message(
        {"content": [thought("Hm")]}, {"content": [thought(", so")]}, {"content": [{"type": "text", "text": "Ye"}]},
        {"content": "s"},
    )  # fmt: skip
    assert (fields.content, fields["reasoning"]) == ("Yes", "Hm, so")
    both = message({"content": [thought("Hm"), {"type": "text", "text": "Yes"}]})
    assert (both.content, both["reasoning"]) == ("Yes", "Hm")
    assert message({"content": []}, {"content": "a"}).content == "a"
    other = [{"type": "text", "text": "See"}, {"type": "reference", "reference_ids": [1]}]
    found = message({"content": other}, {"content": [" it", {"type": "output_text", "text": "."}]})
    assert (found.content, found["content_parts"]) == ("See it.", other[1:])


@pytest.mark.parametrize(
    ("chunks", "joined"),
    [
        (
            [{"tokens": [text], "token_logprobs": [-1.0]} for text in "ab"],
            {"tokens": ["a", "b"], "token_logprobs": [-1.0, -1.0]},
        ),
        (
            [{"content": None, "reasoning_content": [{"token": text}]} for text in "ab"],
            {"reasoning_content": [{"token": "a"}, {"token": "b"}]},
        ),
        ([{"content": [], "other": None}, {}, None], None),
        ([-0.5], {"logprob": -0.5}),
    ],
)
def test_log_probabilities_in_another_form_are_kept(chunks: list[Any], joined: dict[str, Any] | None) -> None:
    pieces = [event({"choices": [{**choice(content="a"), "logprobs": logprobs}]}) for logprobs in chunks]
    found = final(*pieces, chunk("stop")).choices[0].logprobs
    assert (found and found.model_dump(exclude_unset=True)) == joined


def test_a_tool_call_without_its_list_and_a_number_as_logprobs_are_accepted() -> None:
    """TGI before 3.1 streams its tool calls as an object; Together tells a log probability as a number."""
    wanted = {"index": 0, "id": "", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called = message({"tool_calls": wanted}).tool_calls
    assert called is not None
    assert [(call.function.name, call.function.arguments) for call in called] == [("f", "{}")]
    fields = {"choices": [{"index": 0, "delta": {"content": "a"}, "logprobs": -0.25, "finish_reason": "stop"}]}
    expected = final(event(fields))
    assert expected.choices[0].message.content == "a"


def test_the_first_role_is_kept() -> None:
    assert message({"content": "a"}).role == "assistant"
    assert message({"role": "tool", "content": "a"}, {"role": "assistant", "content": "b"}).role == "tool"
    assert message({"content": "a"}, {"role": "x"}).role == "x"
    assert message({"role": "tool", "tool_call_id": "5", "content": "a"}, {"content": "b"}).tool_call_id == "5"


def test_the_last_usage_is_kept() -> None:
    fields = [event({"choices": [choice(content="a")], "usage": {"total_tokens": count}}) for count in (1, 2)]
    assert final(*fields).usage == Usage(total_tokens=2)
    assert final(*fields, event({"choices": [choice(content="b")], "usage": None})).usage == Usage(total_tokens=2)
    assert final(chunk(content="a")).usage is None


def test_metadata_may_come_with_any_chunk() -> None:
    no_metadata = {"id": "", "model": "", "created": 0, "choices": []}
    value = {"id": "7", "model": "m", "created": 5, "system_fingerprint": "s", "choices": [choice(content="a")]}
    late = {**value, "id": "8", "model": "other", "created": 6, "system_fingerprint": "t"}
    expected = final(event(no_metadata), event(value), event(late), event(no_metadata))
    assert (expected.id, expected.model, expected.created, expected.system_fingerprint) == ("7", "m", 5, "s")
    assert expected.object == "chat.completion"


# --- Fields that are not ours to know --------------------------------------------------------------------------------


def test_unknown_fields_of_a_delta_are_joined() -> None:
    built = message(
        {
            "content": "a",
            "thinking": "Hm",
            "parts": [1],
            "count": 1,
            "odd": None,
            "mixed": "a",
            "in": {"x": "a", "y": [1]},
        },
        {"thinking": ", hm", "parts": [2, 3], "count": 2, "odd": None, "mixed": 5, "in": {"x": "b", "y": [2], "z": 1}},
        {"thinking": None, "parts": None, "count": None, "in": None},
    )
    expected = {"thinking": "Hm, hm", "parts": [1, 2, 3], "count": 2, "odd": None, "mixed": 5}
    assert {name: built[name] for name in expected} == expected
    assert built["in"] == {"x": "ab", "y": [1, 2], "z": 1}


def test_of_unknown_fields_of_a_chunk_the_last_value_is_kept() -> None:
    expected = final(
        event({"choices": [choice(content="a")], "citations": ["x"], "tier": "a", "ids": [1, 2], "none": None}),
        event({"choices": [choice(content="b")], "citations": ["x", "y"], "tier": "b", "ids": None, "none": None}),
    )
    assert (expected["citations"], expected["tier"], expected["ids"], expected["none"]) == (
        ["x", "y"],
        "b",
        [1, 2],
        None,
    )


def test_unknown_fields_of_a_choice_are_kept_and_its_lists_joined() -> None:
    fields = [
        {"choices": [{**choice(content="a"), "token_ids": [1], "stop_reason": None, "filter": {"a": "safe"}}]},
        {"choices": [{**choice(content="b"), "token_ids": [2, 3], "stop_reason": None, "filter": {"a": "safe"}}]},
        {"choices": [{**choice(finish_reason="stop"), "token_ids": None, "stop_reason": "x", "filter": None}]},
        {"choices": [choice()]},
    ]
    [built] = final(*map(event, fields)).choices
    assert (built["token_ids"], built["stop_reason"], built["filter"]) == ([1, 2, 3], "x", {"a": "safe"})


def test_the_chunks_are_not_modified() -> None:
    chunks = [chunk(content="a", parts=[1], deep={"a": [1]}), event({"choices": [{**choice(content="b"), "ids": [1]}]})]
    decoder, accumulator = ChatStreamDecoder(), ChatAccumulator()
    value = [each for piece_bytes in chunks * 2 for each in accumulator.add(decoder.feed(piece_bytes))]
    before = [each.model_copy(deep=True) for each in value]
    accumulator.result()
    accumulator.result()
    assert value == before


def test_unknown_fields_do_not_replace_known_ones() -> None:
    # Perplexity says the whole message so far beside each delta.
    fields = {"choices": [{**choice(0, "stop", content="a"), "message": {"role": "assistant", "content": "older"}}]}
    assert final(event(fields)).choices[0].message.content == "a"


# --- Tool calls ------------------------------------------------------------------------------------------------------


def test_arguments_may_be_divided_anywhere() -> None:
    arguments = json.dumps({"city": 'Kö"ln\\', "deep": [{"a": None}]}, ensure_ascii=False)
    for place in range(len(arguments) + 1):
        chunks = [delta(arguments=part, index=0) for part in (arguments[:place], arguments[place:])]
        assert calls(delta("f", "", index=0, id="a"), *chunks) == [("a", "f", arguments)]
    one_by_one = (delta(arguments=character, index=0) for character in arguments)
    assert calls(delta("f", index=0, id="a"), *one_by_one) == [("a", "f", arguments)]


def test_arguments_sent_as_an_object_become_its_JSON() -> None:
    assert calls(delta("f", {"a": None}, index=0, id=5)) == [("5", "f", '{"a": null}')]


def test_deltas_of_several_calls_may_be_interleaved() -> None:
    built = calls(
        delta("f", "", index=0, id="a"), delta("g", "", index=1, id="b"), delta(None, "1", index=0),
        delta(None, "2", index=1), delta(None, "3", index=0), delta(None, "4", index=1),
    )  # fmt: skip
    assert built == [("a", "f", "13"), ("b", "g", "24")]


def test_one_delta_may_add_to_several_calls() -> None:
    first = {"tool_calls": [delta("f", "", index=0, id="a"), delta("g", "", index=1, id="b")]}
    second = {"tool_calls": [delta(None, "2", index=1), delta(None, "1", index=0)]}
    built = message(first, second).tool_calls or []
    assert [(call.id, call.function.name, call.function.arguments) for call in built] == [
        ("a", "f", "1"),
        ("b", "g", "2"),
    ]


def test_calls_are_in_the_order_of_their_first_deltas() -> None:
    assert [call[0] for call in calls(delta("f", index=3, id="c"), delta("g", index=1, id="a"))] == ["c", "a"]


def test_a_new_id_with_a_name_starts_another_call_even_at_the_same_index() -> None:
    for index in (0, None):
        expected = [delta("f", f"{number}", index=index, id=f"id{number}") for number in range(4)]
        assert calls(*expected) == [(f"id{number}", "f", f"{number}") for number in range(4)]
    chunks = [
        delta("f", "1", index=0, id="a"), delta(None, "2", index=0), delta("f", "3", index=0, id="b"),
        delta(None, "4", index=0),
    ]  # fmt: skip
    assert calls(*chunks) == [("a", "f", "12"), ("b", "f", "34")]


def test_a_repeated_id_and_name_is_the_same_call() -> None:
    for index in (0, None):
        chunks = [delta("f", part, index=index, id="a") for part in ("{", "1", "}")]
        assert calls(*chunks) == [("a", "f", "{1}")]
    back = [delta("f", "1", index=0, id="a"), delta("g", "2", index=0, id="b"), delta("f", "3", index=0, id="a")]
    assert calls(*back) == [("a", "f", "13"), ("b", "g", "2")]


def test_an_id_without_a_name_is_the_same_call() -> None:
    assert calls(delta("f", "{", index=0, id="0"), *[delta(None, "1", index=0, id="0")] * 2) == [("0", "f", "{11")]
    changed = [delta("f", "{", index=0, id="a"), delta(None, "1", index=0, id="b"), delta("", "2", index=0, id="c")]
    assert calls(*changed) == [("a", "f", "{12")]


def test_calls_without_an_index_are_told_apart_by_id_or_name() -> None:
    assert calls(delta("f", "1", id="a"), delta(None, "2"), delta("g", "3", id="b")) == [
        ("a", "f", "12"),
        ("b", "g", "3"),
    ]
    # An older Gemini says no id either.
    assert calls(delta("f", "1", id=""), delta("f", "2", id=""), delta("g", "3")) == [
        ("", "f", "1"), ("", "f", "2"), ("", "g", "3"),
    ]  # fmt: skip


def test_two_indices_are_two_calls_whatever_their_ids() -> None:
    for same in ("f", "", None):
        built = calls(delta("f", "1", index=0, id=same), delta("f", "2", index=1, id=same), delta(None, "3", index=1))
        assert built == [(same or "", "f", "1"), (same or "", "f", "23")]


def test_an_id_may_come_late() -> None:
    assert calls(delta("f", "1", index=0), delta(None, "2", index=0, id="a")) == [("a", "f", "12")]
    assert calls(delta(None, "1", index=0), delta("f", "2", index=0, id="a")) == [("a", "f", "12")]


def test_unknown_fields_of_a_call_are_kept() -> None:
    built = message(
        {"tool_calls": [{"index": 0, "id": "a", "type": "custom", "x": "1", "function": {"name": "f", "y": "p"}}]},
        {"tool_calls": [{"index": 0, "x": "2", "function": {"arguments": "{}", "y": "q"}}]},
        {"tool_calls": [{"index": 0, "type": None, "function": None}]},
    ).tool_calls
    assert built is not None
    assert (built[0].type, built[0]["x"], built[0].function["y"]) == ("custom", "12", "pq")
    assert built[0].function.arguments == "{}"


# --- Any message in any deltas ---------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
names = st.text("abc_", min_size=1, max_size=4)
some_calls = st.lists(st.tuples(names, words), max_size=3)


@st.composite
def messages_with_deltas(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A message, and deltas that it may be cut into."""
    expected: dict[str, Any] = {"role": "assistant", "content": None}
    deltas: list[dict[str, Any]] = []

    def chunks(text: str) -> list[str]:
        places = sorted(draw(st.lists(st.integers(0, len(text)), max_size=4)))
        return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]

    for field in ("reasoning", "reasoning_content", "refusal", "content", "unknown"):
        if draw(st.booleans()):
            expected[field] = draw(words)
            deltas += [{field: piece_bytes} for piece_bytes in chunks(expected[field])]
    made: list[dict[str, Any]] = [
        {"id": f"id{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(draw(some_calls))
    ]
    if made:
        expected["tool_calls"] = made
        expected["content"] = expected["content"] or None
    numbered = draw(st.booleans())
    for number, call in enumerate(made):
        index = {"index": number} if numbered else {}
        first, *rest = chunks(call["function"]["arguments"])
        named = {"name": call["function"]["name"], "arguments": first}
        deltas.append({"tool_calls": [{**index, "id": call["id"], "type": "function", "function": named}]})
        deltas += [{"tool_calls": [{**index, "function": {"arguments": piece_bytes}}]} for piece_bytes in rest]
    empty = [{}, {"content": None}, {"role": "assistant"}, {"tool_calls": None}, {"tool_calls": []}, {"unknown": None}]
    for place in draw(st.lists(st.integers(0, len(deltas)), max_size=3)):
        deltas.insert(place, draw(st.sampled_from(empty)))
    return expected, deltas


@given(messages_with_deltas(), st.lists(st.integers(0, 10_000), max_size=6))
@settings(deadline=None, max_examples=300)
@pytest.mark.slow
def test_any_message_is_restored_from_its_deltas_however_divided(
    case: tuple[dict[str, Any], list[dict[str, Any]]], at: list[int]
) -> None:
    expected, deltas = case
    wire = b"".join([*(chunk(**delta) for delta in deltas), chunk("stop"), DONE])
    bounds = [0, *sorted(place % len(wire) for place in at), len(wire)]
    chunks = [wire[a:b] for a, b in itertools.pairwise(bounds)]
    got = accumulate(chunks).result().choices[0].message
    if "unknown" not in expected:  # a null was sent for it, which is no text
        got = got.model_copy()
        (got.__pydantic_extra__ or {}).pop("unknown", None)
    assert got == ChatCompletionMessage.model_validate(expected)


# --- Linear in time --------------------------------------------------------------------------------------------------


def work(deltas: list[dict[str, Any]]) -> int:
    """How many lines of the accumulator run while it adds these and builds the result."""
    decoder = ChatStreamDecoder()
    value = [each for delta in deltas for each in decoder.feed(chunk(**delta))]
    accumulator, lines = ChatAccumulator(), 0

    def count(frame: Any, kind: str, _: Any) -> Any:
        nonlocal lines
        lines += kind == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        for each in value:
            accumulator.add([each])
        accumulator.result()
    finally:
        sys.settrace(before)
    return lines


LONG: dict[str, dict[str, Any]] = {
    "text": {"content": "a"},
    "reasoning": {"reasoning": "a"},
    "unknown texts": {"unknown": "a", "content": "a"},
    "unknown lists": {"unknown": [1], "content": "a"},
    "unknown objects": {"unknown": {"a": "a"}, "content": "a"},
    "arguments": {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "a"}}]},
    "arguments without an index": {"tool_calls": [{"function": {"arguments": "a"}}]},
}


@pytest.mark.parametrize("delta", LONG.values(), ids=LONG.keys())
def test_work_is_linear_in_the_number_of_deltas(delta: dict[str, Any]) -> None:
    few, many = work([delta] * 50), work([delta] * 500)
    assert many < 10.5 * few


def test_work_is_linear_in_the_number_of_calls_without_indices() -> None:
    calls = [
        {"tool_calls": [{"id": f"{number}", "function": {"name": "f", "arguments": "{}"}}]} for number in range(500)
    ]
    assert work(calls) < 10.5 * work(calls[:50])


def test_an_unknown_field_of_a_choice_that_is_not_a_list_is_replaced_by_the_latest() -> None:
    first, second = ({"index": 0, "delta": {"content": "a"}, "score": score, "ids": [score]} for score in (1, 2))
    choice = final(event({"choices": [first]}), event({"choices": [second]}), chunk("stop"), DONE).choices[0]
    assert (choice["score"], choice["ids"]) == (2, [1, 2])


def test_the_first_tool_call_id_is_kept() -> None:
    assert message({"tool_call_id": "a"}, {"tool_call_id": "b"}, {"content": "x", "reasoning": "y"}).tool_call_id == "a"


# --- What is beside the text -----------------------------------------------------------------------------------------

COUNTS = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


@pytest.mark.parametrize("where", ["chunk", "choice", "x_groq"])
def test_a_usage_is_found_wherever_it_is(where: str) -> None:
    last: dict[str, Any] = {"choices": [choice(0, "stop")]}
    if where == "choice":
        last["choices"][0]["usage"] = COUNTS
    else:
        last |= {"usage": COUNTS} if where == "chunk" else {"x_groq": {"usage": COUNTS}}
    zeros = {"choices": [], "usage": dict.fromkeys(COUNTS, 0)}
    usage = final(chunk(content="a"), event(last), event(zeros)).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (1, 2, 3)


def test_log_probabilities_of_a_refusal_are_kept() -> None:
    def refused(token: str) -> dict[str, Any]:
        logprobs = {"content": None, "refusal": [{"token": token, "logprob": -1.0}]}
        return {"choices": [{**choice(refusal=token), "logprobs": logprobs}]}

    found = final(event(refused("no")), event(refused("!")), chunk("stop")).choices[0]
    assert found.message.refusal == "no!"
    assert found.logprobs is not None
    assert [entry.token for entry in found.logprobs.refusal or []] == ["no", "!"]
    assert found.logprobs.content is None


def test_padding_is_no_field_of_the_answer() -> None:
    padded = [event({"choices": [choice(content=text)], "obfuscation": "x" * 9, "tier": "a"}) for text in "ab"]
    assert final(*padded, chunk("stop")).__pydantic_extra__ == {"tier": "a"}


def test_what_comes_without_a_choice_is_kept() -> None:
    found = final(chunk(content="a"), event({"citations": ["u"]}), event({"type": "ping"}), event({}), chunk("stop"))
    assert found.__pydantic_extra__ == {"citations": ["u"]}


def test_no_choice_is_invented() -> None:
    chunks = [event({"choices": [choice(1, content=text)]}) for text in "ab"]
    found = final(*chunks, event({"choices": [choice(1, "stop")]}))
    assert [(each.index, each.message.content, each.finish_reason) for each in found.choices] == [(1, "ab", "stop")]

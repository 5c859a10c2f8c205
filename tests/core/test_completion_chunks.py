"""A request to /v1/completions whose body and chunks are kept as they are."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hfstream.core.completion_chunks import ChunkAccumulator, completion
from hfstream.core.completions import CompletionChunk
from hfstream.core.decoders import ResponseDecoder
from hfstream.errors import GenerationError, InferenceError, UnexpectedResponseError
from hfstream.testing import DONE

URL = "http://server/v1/completions"


def spec(stream: bool = True, **body: Any) -> Any:
    return completion(URL, {"prompt": "Hi", **body}, stream=stream, headers={"a": "b"}, resume=True)


def chunk(text: str, index: int = 0, **fields: Any) -> bytes:
    body = {"id": "1", "choices": [{"index": index, "text": text, **fields}]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def read(decoder: ResponseDecoder[Any], *chunks: bytes) -> list[Any]:
    return [item for each in chunks for item in decoder.feed(each)] + decoder.finish()


@pytest.mark.parametrize("stream", [True, False])
def test_the_body_is_sent_as_it_is(stream: bool) -> None:
    request = spec(stream, n=2, mood="good", logprobs=None)
    assert json.loads(request.body) == {"prompt": "Hi", "n": 2, "mood": "good", "logprobs": None, "stream": stream}
    assert (request.url, request.headers, request.streamed, request.resume) == (URL, {"a": "b"}, stream, stream)


def test_chunks_come_as_they_are_and_are_counted_for_the_first_choice() -> None:
    request = spec(n=2)
    usage = b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":3,"total_tokens":4}}\n\n'
    first, second = chunk("b", index=1, finish_reason="stop"), chunk("c", finish_reason="length", mood="good")
    items = read(request.make_decoder(), chunk("a"), first, second, usage, DONE)
    accumulator: ChunkAccumulator = request.make_accumulator()
    assert accumulator.add(items) == items
    assert items[2].model_dump(exclude_unset=True)["choices"][0]["mood"] == "good"
    assert (accumulator.text, accumulator.result(), accumulator.finish_reason) == ("ac", "ac", "length")
    assert (accumulator.finish_reasons, request.make_accumulator().finish_reasons) == (["length"], [])
    assert accumulator.usage is not None
    assert accumulator.usage.completion_tokens == 3


@pytest.mark.parametrize(
    ("prompt", "n", "choices"),
    [("Hi", None, 1), ([1, 2], None, 1), (["Hi"], 1, 1), (["Hi", "Ho"], None, 2), ([[1], [2]], 2, 4), ("Hi", 3, 3)],
)
def test_a_stream_without_DONE_ends_with_the_last_choice(prompt: Any, n: Any, choices: int) -> None:
    """Each prompt has `n` choices, which may come one after the other. With one, text under index 1 belongs to it."""
    decoder = spec(prompt=prompt, n=n).make_decoder()
    decoder.feed(chunk("a") + chunk("b", index=1) + chunk("", finish_reason="stop"))
    assert decoder.complete is (choices == 1)
    for index in range(1, choices):
        assert not decoder.complete
        decoder.feed(chunk("c", index=index, finish_reason="stop"))
    assert decoder.complete


def test_a_response_that_is_not_streamed() -> None:
    request = spec(False)
    (response,) = read(request.make_decoder(), b'{"choices": [{"text": "a"}, {"text": "b", "index": 1}], "x": 1}')
    assert isinstance(response, CompletionChunk)
    assert [choice.text for choice in response.choices] == ["a", "b"]
    accumulator = request.make_accumulator()
    accumulator.add([response])
    assert accumulator.result() is response


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ('{"choices": []}', UnexpectedResponseError),
        ('{"choices": [], "error": {"message": "Request failed during generation"}}', GenerationError),
        ('{"choices": [{"text": "a", "finish_reason": "error"}]}', InferenceError),
    ],
)
def test_a_response_without_an_answer_is_an_error(body: str, error: type[InferenceError]) -> None:
    with pytest.raises(error):
        read(spec(False).make_decoder(), body.encode())

"""Answers in the formats of OpenAI's chat completions and completions.

Does not depend on rules, or on how an answer is sent.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

from ...core.sse import encode
from ..events import DONE
from .answers import LOGPROB, Answer
from .json_values import is_object
from .model_requests import ModelRequest
from .rules import ToolCall
from .tgi_format import TGIFormat

__all__ = ["ChatFormat", "CompletionFormat", "encode_json"]

_PIECE = re.compile(r"[^,:]+[,:]?|[,:]")
"""The pieces in which a stream sends the arguments of a call."""


def encode_json(value: Any) -> bytes:
    """One event whose data is the JSON of `value`, as servers write it."""
    return encode(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


class _OpenAIFormat:
    """What the formats have in common."""

    prefix: str
    kind: str

    def __init__(self, request: ModelRequest, answer: Answer) -> None:
        self._request, self._answer = request, answer
        options = request.body.get("stream_options")
        self._include_usage = is_object(options) and options.get("include_usage") is True
        self._created = int(time.time())

    @property
    def _finish_reason(self) -> str:
        reason = self._answer.finish_reason
        return "stop" if reason == "stop_sequence" else reason

    def usage(self) -> dict[str, int]:
        """The number of tokens."""
        prompt, completion = self._answer.prompt_tokens, self._answer.completion_tokens
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _object(self, kind: str, choices: list[Any]) -> dict[str, Any]:
        return {
            "id": f"{self.prefix}-mock-{self._answer.number}",
            "object": kind,
            "created": self._created,
            "model": self._answer.model,
            "choices": choices,
        }

    def _chunk(self, choices: list[Any], usage: dict[str, int] | None = None) -> dict[str, Any]:
        chunk = self._object(self.kind, choices)
        return chunk | {"usage": usage} if self._include_usage else chunk

    def _ending(self) -> list[bytes]:
        """The events after the last choice."""
        usage = [encode_json(self._chunk([], self.usage()))] if self._include_usage else []
        return [*usage, DONE]


class ChatFormat(_OpenAIFormat):
    """An `AnswerFormat` for /v1/chat/completions."""

    prefix = "chatcmpl"
    kind = "chat.completion.chunk"

    def events(self) -> list[bytes]:
        return [*map(encode_json, self.chunks()), *self._ending()]

    def chunks(self) -> list[dict[str, Any]]:
        """The values of the events, without those after the last choice."""
        calls = self._answer.tool_calls
        role = {"role": "assistant", "content": None if calls and not self._answer.tokens else ""}
        deltas = [(role, None), *self._deltas()]
        chunks = [self._chunk([self._choice(delta, logprobs, None)]) for delta, logprobs in deltas]
        return [*chunks, self._chunk([self._choice({}, None, self._finish_reason)])]

    def body(self) -> object:
        answer = self._answer
        message: dict[str, Any] = {"role": "assistant", "content": answer.text or (None if answer.tool_calls else "")}
        if answer.reasoning:
            message["reasoning_content"] = "".join(answer.reasoning)
        if answer.tool_calls:
            message["tool_calls"] = [self._call(index, call) for index, call in enumerate(answer.tool_calls)]
        entries = [entry for index in range(len(answer.tokens)) for entry in self._logprobs(index)]
        logprobs = {"content": entries, "refusal": None} if entries else None
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": self._finish_reason}
        return {**self._object("chat.completion", [choice]), "usage": self.usage()}

    def _choice(self, delta: dict[str, Any], logprobs: Any, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}

    def _deltas(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """What is added to the message, with the log probabilities of the token."""
        for token in self._answer.reasoning:
            yield {"reasoning_content": token}, None
        for index, token in enumerate(self._answer.tokens):
            entries = self._logprobs(index)
            yield {"content": token}, {"content": entries, "refusal": None} if entries else None
        for index, call in enumerate(self._answer.tool_calls):
            start = self._call(index, call)
            start["function"]["arguments"] = ""
            yield {"tool_calls": [{"index": index, **start}]}, None
            for piece in _PIECE.findall(call.arguments_json()):
                yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, None

    def _call(self, index: int, call: ToolCall) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.arguments_json()}
        id_ = call.id or f"call_mock_{self._answer.number}_{index}"
        return {"id": id_, "type": "function", "function": function}

    def _logprobs(self, index: int) -> list[dict[str, Any]]:
        """Those of one token, if the request asks for them."""
        if not self._request.body.get("logprobs"):
            return []
        top = self._request.body.get("top_logprobs") or 0
        likeliest = self._answer.likeliest(index, top)
        tops = [_logprob(token, logprob) for token, logprob in likeliest]
        return [{**_logprob(self._answer.tokens[index], LOGPROB), "top_logprobs": tops}]


def _logprob(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "surrogatepass"))}


class CompletionFormat(_OpenAIFormat):
    """An `AnswerFormat` for /v1/completions.

    Its chunks have the fields of TGI's own stream too, as those of `hfstream serve`: @huggingface/inference sends its
    `textGenerationStream` to this route, for programs that read ``token.text``.
    """

    prefix = "cmpl"
    kind = "text_completion"

    def __init__(self, request: ModelRequest, answer: Answer) -> None:
        super().__init__(request, answer)
        self._offsets = list(itertools.accumulate(map(len, answer.tokens), initial=0))

    def events(self) -> list[bytes]:
        native = [
            json.loads(event[len("data: ") :])
            for event in TGIFormat(self._request, self._answer, details=True).events()
        ]
        chunks: list[dict[str, Any]] = []
        for index, event in enumerate(native):
            last = index == len(native) - 1
            inside = range(index, min(index + 1, len(self._answer.tokens)))
            text = "" if event["token"]["special"] else event["token"]["text"]
            choice = self._choice(text, inside, self._finish_reason if last else None)
            chunks.append({**self._chunk([choice]), **event})
        return [*map(encode_json, chunks), *self._ending()]

    def body(self) -> object:
        choice = self._choice(self._answer.text, range(len(self._answer.tokens)), self._finish_reason)
        return {**self._object(self.kind, [choice]), "usage": self.usage()}

    def _choice(self, text: str, tokens: range, reason: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": self._logprobs(tokens), "finish_reason": reason}

    def _logprobs(self, tokens: range) -> dict[str, Any] | None:
        top = self._request.body.get("logprobs")
        if top is None or top is False or not tokens:
            return None
        all_tokens = self._answer.tokens
        return {
            "tokens": [all_tokens[index] for index in tokens],
            "token_logprobs": [LOGPROB for _ in tokens],
            "top_logprobs": [dict(self._answer.likeliest(index, int(top))) for index in tokens] if top else None,
            "text_offset": [self._offsets[index] for index in tokens],
        }

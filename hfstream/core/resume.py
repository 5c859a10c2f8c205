"""How an answer goes on whose connection was lost.

A server that numbers its events is asked to go on from the last one. One that keeps nothing can be asked anew, with the
text so far behind the prompt. That is sound only where the model would have said the same: greedily, within a budget of
tokens, and if prompt and text together are read as the very tokens that the prompt was and the answer brought; so it is
asked first how it reads both. This module refuses to know why the connection was lost, and how patient we are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InferenceError
from ..types import SimpleToken, StreamResponse
from .accumulators import Accumulator
from .decoders import ResponseDecoder
from .request_spec import RequestSpec, encode_json
from .server_info import tokenize
from .stream_decoders import TGIStreamDecoder

__all__ = ["CannotResumeError", "Continuation", "Resumption"]


class CannotResumeError(Exception):
    """The answer cannot be gone on with, or might go on otherwise; the message says why."""


class Resumption:
    """The way back to one answer."""

    def __init__(self, call: RequestSpec[Any, Any, Any]) -> None:
        self.lost: InferenceError | None = None
        """What ended the connection that is being come back from."""
        self._call = call
        self._next = call
        self._speaker: ResponseDecoder[Any] | None = None
        self._errand: _TokenizeProbe | None = None

    @property
    def asks(self) -> bool:
        """Whether what is asked next, or was asked last, is a question on the way, and not for the answer."""
        return self._errand is not None and not self._errand.done

    @property
    def continues(self) -> bool:
        """Whether the server is asked anew, with the text so far."""
        return self._errand is not None

    def prepare(
        self, lost: InferenceError, reply: ResponseDecoder[Any] | None, transcript: Accumulator[Any, Any, Any]
    ) -> None:
        """After a failure: finds the way.

        Raises:
            UnsoundError: there is none.
        """
        self.lost = self.lost or lost
        if reply is not None and reply.heard:
            self._speaker = reply
        if self._speaker is not None and self._speaker.last_event_id:
            self._next = self._from_last_event(self._speaker)
            return
        ids = getattr(transcript, "ids", None)
        if self._call.continuation is None or ids is None:
            raise CannotResumeError("its server does not number events")
        if not self.asks:  # else the same question is asked again
            errand: _TokenizeProbe = self._call.continuation.begin(self._call, transcript.text, ids)
            self._errand, self._next = errand, errand.next()

    def _from_last_event(self, speaker: ResponseDecoder[Any]) -> RequestSpec[Any, Any, Any]:
        def reply() -> ResponseDecoder[Any]:
            speaker.resume()
            return speaker

        return replace(self._call, headers=self._headers(speaker), reply=reply)

    def _headers(self, speaker: ResponseDecoder[Any]) -> Mapping[str, str]:
        return {**self._call.headers, "Last-Event-ID": speaker.last_event_id}

    def next(self) -> RequestSpec[Any, Any, Any]:
        """What to ask."""
        return self._next

    def take(self, tokens: list[SimpleToken]) -> None:
        """The answer to a question on the way.

        Raises:
            UnsoundError: it leads nowhere.
        """
        if self._errand is not None:
            self._errand.take(tokens)
            self._next = self._errand.next()

    def arrived(self) -> None:
        """The answer goes on."""
        self.lost = None

    def farewell(self, reply: ResponseDecoder[Any] | None) -> RequestSpec[Any, Any, Any] | None:
        """What tells a server that waits for us that nobody will come back; None if none does."""
        speaker = reply if reply is not None and reply.last_event_id else self._speaker
        if not self._call.resume or speaker is None or not speaker.last_event_id:
            return None
        return replace(self._call, method="DELETE", body=None, headers=self._headers(speaker))


@dataclass(frozen=True)
class Continuation:
    """What it takes to go on with one call."""

    prompt: str
    parameters: Mapping[str, Any]
    tokenize_url: str
    headers: Mapping[str, str]

    def begin(self, call: RequestSpec[Any, Any, Any], text: str, ids: Sequence[int]) -> _TokenizeProbe:
        """Asks how the server reads what there is.

        Raises:
            UnsoundError: it need not be asked.
        """
        body = json.loads(call.body or b"{}")
        if body.keys() != {"inputs", "parameters"} or body["inputs"] != self.prompt:
            raise CannotResumeError("its request has more than a prompt and parameters")
        if why := self._unsound(text):
            raise CannotResumeError(why)
        return _TokenizeProbe(self, call, text, ids)

    def _unsound(self, text: str) -> str | None:
        asked = self.parameters
        if asked.get("do_sample") or any(asked.get(name) is not None for name in ("top_k", "top_p", "typical_p")):
            return "it is sampled"
        if asked.get("temperature") not in (None, 1):
            return "it is sampled"
        if asked.get("max_new_tokens") is None:
            return "it has no max_new_tokens"
        for name in ("grammar", "truncate", "watermark", "top_n_tokens"):
            if asked.get(name):
                return f"it has `{name}`"
        if any(text.endswith(stop[:length]) for stop in asked.get("stop") or () for length in range(1, len(stop))):
            return "its text ends in what may be the beginning of a stop string"
        return None


class _TokenizeProbe:
    """The two questions before an answer can go on: how is the prompt read, and how with the text behind it?"""

    def __init__(self, plan: Continuation, call: RequestSpec[Any, Any, Any], text: str, ids: Sequence[int]) -> None:
        self._plan = plan
        self._call = call
        self._text = text
        self._said = list(ids)
        self._read: list[list[int]] = []

    def next(self) -> RequestSpec[Any, Any, Any]:
        """What to ask now: one of the questions, or for the rest of the answer.

        Raises:
            UnsoundError: the text would be read otherwise than it was written.
        """
        plan = self._plan
        if len(self._read) < 2:
            text = plan.prompt + (self._text if self._read else "")
            return tokenize(plan.tokenize_url, text, plan.headers)
        prompt, everything = self._read
        if everything != prompt + self._said:
            raise CannotResumeError("the server would read its text as other tokens than it wrote")
        parameters = {**plan.parameters, "return_full_text": False}
        parameters["max_new_tokens"] = parameters["max_new_tokens"] - len(self._said)
        body = encode_json({"inputs": plan.prompt + self._text, "parameters": parameters})
        preamble = (plan.prompt if plan.parameters.get("return_full_text") else "") + self._text
        reply: Callable[[], TGIStreamDecoder] = lambda: _ContinuedDecoder(preamble, len(self._said), len(prompt))  # noqa: E731
        return replace(self._call, body=body, reply=reply)

    @property
    def done(self) -> bool:
        """Both questions have been answered."""
        return len(self._read) == 2

    def take(self, tokens: list[SimpleToken]) -> None:
        """The answer to a question."""
        self._read.append([token.id for token in tokens])


class _ContinuedDecoder(TGIStreamDecoder):
    """The rest of an answer, numbered and counted as if it had never been interrupted."""

    def __init__(self, preamble: str, before: int, input_length: int) -> None:
        super().__init__()
        self._preamble = preamble
        self._before = before
        self._input_length = input_length

    def _take(self, data: bytes, name: str, said: list[StreamResponse]) -> None:
        heard = self.heard
        super()._take(data, name, said)
        if self.heard > heard:
            said[-1] = self._renumbered(said[-1])

    def _renumbered(self, response: StreamResponse) -> StreamResponse:
        changes: dict[str, Any] = {}
        if response.index is not None:
            changes["index"] = response.index + self._before
        if response.generated_text is not None:
            changes["generated_text"] = self._preamble + response.generated_text
        if response.details is not None:
            counted = response.details.generated_tokens + self._before
            changes["details"] = response.details.model_copy(
                update={"generated_tokens": counted, "input_length": self._input_length}
            )
        return response.model_copy(update=changes)

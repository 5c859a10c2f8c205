"""How a stream is resumed whose connection was lost.

There are two ways:

- Reconnect: a server that numbers its events is asked to continue after the last one (``Last-Event-ID``).
- Continuation: a server that keeps no events, or not any more, gets a new request, with the text so far appended to the
  prompt. This is correct only if the model would have generated the same: with greedy decoding, with a limit on the
  number of tokens, and if prompt and text together are tokenized into the tokens of the prompt followed by those of the
  response. Two requests to `/tokenize`, the probes, check the last of these first.

Does not depend on why the connection was lost, nor on how often it may be tried again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import IncompleteStreamError, InferenceError
from ..types import SimpleToken, StreamResponse
from .accumulators import Accumulator
from .decoders import ResponseDecoder
from .request_spec import RequestSpec, encode_json
from .server_info import tokenize
from .stream_decoders import TGIStreamDecoder

__all__ = ["CannotResumeError", "Continuation", "Resumption", "events_are_gone"]


class CannotResumeError(Exception):
    """The answer cannot be continued, or might continue differently; the message says why."""


class Resumption:
    """How one stream is resumed. Until its connection is lost, `spec` is the original request."""

    def __init__(self, spec: RequestSpec[Any, Any, Any]) -> None:
        self.spec: RequestSpec[Any, Any, Any] = spec
        """What the next attempt sends."""
        self.lost: InferenceError | None = None
        """The error that ended the connection; None unless the stream is being resumed."""
        self.decoder: ResponseDecoder[Any] | None = None
        """What has decoded the stream so far; kept, because attempts in between have decoders of their own."""
        self._original = spec
        self._current = spec  # the request of the stream that `decoder` decodes: the original one, or a continuation
        self._gone: ResponseDecoder[Any] | None = None  # the decoder of a stream whose events the server does not keep
        self._probe: _TokenizeProbe | None = None
        self._cancel_sent = False

    @property
    def probing(self) -> bool:
        """Whether `spec` is a probe, and not a request for the rest of the stream."""
        return self._probe is not None and not self._probe.done

    @property
    def is_reconnect(self) -> bool:
        """Whether `spec` asks for the events after the last one."""
        return self.lost is not None and self._probe is None

    @property
    def is_continuation(self) -> bool:
        """Whether the stream is resumed by a continuation, and not by a reconnect."""
        return self._probe is not None

    def move(self, original: RequestSpec[Any, Any, Any]) -> None:
        """The next request goes to another endpoint, for which the call's request is `original`."""
        if original is self._original:
            return
        self._original = original
        if self._probe is not None and original.continuation is not None:
            self._probe = self._probe.restart(original)  # all its requests go to one server
            self.spec = self._probe.next_spec()
        else:
            self.spec = self._current = original

    def plan(
        self, lost: InferenceError, decoder: ResponseDecoder[Any] | None, accumulator: Accumulator[Any, Any, Any]
    ) -> None:
        """After a failure: decides what `spec` is next.

        Raises:
            CannotResumeError: neither way is possible.
        """
        self.lost = self.lost or lost  # the first error, not that of a failed attempt to resume
        if decoder is not None and decoder.content_count:
            self.decoder = decoder
        if self.decoder is not None and self.decoder.last_event_id and self.decoder is not self._gone:
            self._probe = None
            self.spec = self._from_last_event(self.decoder)
        else:
            self._plan_continuation(accumulator)

    def plan_without_events(self, accumulator: Accumulator[Any, Any, Any]) -> None:
        """After a reconnect in vain, to a server that does not keep the events: decides what `spec` is next.

        Raises:
            CannotResumeError: a continuation is not possible either.
        """
        gone, self._gone = self._gone, self.decoder
        try:
            self._plan_continuation(accumulator)
        except CannotResumeError:
            self._gone = gone
            raise

    def _plan_continuation(self, accumulator: Accumulator[Any, Any, Any]) -> None:
        ids = getattr(accumulator, "ids", None)  # None also for chat, whose chunks have no token ids
        if self._original.continuation is None or ids is None:
            raise CannotResumeError(
                "the server sends no event ids" if self._gone is None else "it is not TGI's text generation"
            )
        if not self.probing:  # else the connection was lost during a probe, and `spec` is sent again
            probe = self._probe = self._original.continuation.start_probe(self._original, accumulator.text, ids)
            self.spec = probe.next_spec()

    def receive_tokens(self, tokens: list[SimpleToken]) -> None:
        """Takes the response to a probe, and decides what `spec` is next.

        Raises:
            CannotResumeError: the text is not tokenized as it was generated.
        """
        assert self._probe is not None  # noqa: S101  only a probe is answered by tokens
        self._probe.receive(tokens)
        self.spec = self._probe.next_spec()
        if not self.probing:
            self._current = self.spec

    def succeeded(self) -> None:
        """The stream goes on."""
        self.lost = None

    def cancel_request(self, decoder: ResponseDecoder[Any] | None) -> RequestSpec[Any, Any, Any] | None:
        """The request that tells a server to drop the stream it keeps for a reconnect; None if it keeps none."""
        numbered = decoder if decoder is not None and decoder.last_event_id else self.decoder
        if self._cancel_sent or not self._original.resume or numbered is None or not numbered.last_event_id:
            return None
        self._cancel_sent = True
        return replace(self._original, method="DELETE", body=None, headers=self._with_last_event_id(numbered))

    def _from_last_event(self, decoder: ResponseDecoder[Any]) -> RequestSpec[Any, Any, Any]:
        def make_decoder() -> ResponseDecoder[Any]:
            # The same decoder: its parser knows the last event, its counts and indices go on.
            decoder.resume()
            return decoder

        return replace(self._current, headers=self._with_last_event_id(decoder), make_decoder=make_decoder)

    def _with_last_event_id(self, decoder: ResponseDecoder[Any]) -> Mapping[str, str]:
        return {**self._original.headers, "Last-Event-ID": decoder.last_event_id}


def events_are_gone(error: InferenceError, status_code: int | None) -> bool:
    """Whether a reconnect that ended in `error` was in vain: the server says so, or has begun the response again."""
    restarted = isinstance(error, IncompleteStreamError) and not error.retryable
    return restarted or status_code in (404, 410)


@dataclass(frozen=True)
class Continuation:
    """What a continuation needs to know of a call."""

    prompt: str
    parameters: Mapping[str, Any]
    tokenize_url: str
    headers: Mapping[str, str]

    def start_probe(self, original: RequestSpec[Any, Any, Any], text: str, ids: Sequence[int]) -> _TokenizeProbe:
        """The probes for the response to `original` so far: its `text`, and the `ids` of its tokens.

        Raises:
            CannotResumeError: no probe is needed to know that the response cannot be continued.
        """
        body = json.loads(original.body or b"{}")
        if body.keys() != {"inputs", "parameters"} or body["inputs"] != self.prompt:
            raise CannotResumeError("its request has more than a prompt and parameters")
        if reason := self._reason_not_resumable(text):
            raise CannotResumeError(reason)
        return _TokenizeProbe(self, original, text, ids)

    def _reason_not_resumable(self, text: str) -> str | None:
        params = self.parameters
        # TGI samples if any of these is set, even without `do_sample`.
        if params.get("do_sample") or any(params.get(name) is not None for name in ("top_k", "top_p", "typical_p")):
            return "it is sampled"
        if params.get("temperature") not in (None, 1):
            return "it is sampled"
        if params.get("max_new_tokens") is None:
            return "it has no max_new_tokens"
        for name in ("grammar", "truncate", "watermark", "top_n_tokens"):
            if params.get(name):
                return f"it has `{name}`"
        # The server would look for stop strings in the new text only, and miss one that began before.
        if any(text.endswith(stop[:length]) for stop in params.get("stop") or () for length in range(1, len(stop))):
            return "its text ends in what may be the beginning of a stop string"
        return None


class _TokenizeProbe:
    """The two probes: how is the prompt tokenized, and how is the prompt with the text so far?

    The second list of ids must be the first one followed by the ids that were received. Only then does the model, given
    prompt and text as one prompt, see the same tokens as when the connection was lost.
    """

    def __init__(
        self, continuation: Continuation, original: RequestSpec[Any, Any, Any], text: str, ids: Sequence[int]
    ) -> None:
        self._continuation = continuation
        self._original = original
        self._text = text
        self._received = list(ids)
        self._tokenized: list[list[int]] = []

    def restart(self, original: RequestSpec[Any, Any, Any]) -> _TokenizeProbe:
        """The same probes from the beginning, at the server of `original`."""
        return _TokenizeProbe(original.continuation, original, self._text, self._received)

    @property
    def done(self) -> bool:
        """Whether both probes have been answered."""
        return len(self._tokenized) == 2

    def receive(self, tokens: list[SimpleToken]) -> None:
        """Takes the answer to a probe."""
        self._tokenized.append([token.id for token in tokens])

    def next_spec(self) -> RequestSpec[Any, Any, Any]:
        """What to send now: one of the probes, or the request for the rest of the answer.

        Raises:
            CannotResumeError: the text is not tokenized as it was generated.
        """
        continuation = self._continuation
        if not self.done:
            text = continuation.prompt + (self._text if self._tokenized else "")
            return tokenize(continuation.tokenize_url, text, continuation.headers)
        prompt, prompt_and_text = self._tokenized
        if prompt_and_text != prompt + self._received:
            raise CannotResumeError("the server would tokenize its text differently from how it was generated")
        return self._rest_of_answer(len(prompt))

    def _rest_of_answer(self, prompt_tokens: int) -> RequestSpec[Any, Any, Any]:
        continuation, offset = self._continuation, len(self._received)
        parameters = {**continuation.parameters, "return_full_text": False}
        parameters["max_new_tokens"] = parameters["max_new_tokens"] - offset
        body = encode_json({"inputs": continuation.prompt + self._text, "parameters": parameters})
        prefix = (continuation.prompt if continuation.parameters.get("return_full_text") else "") + self._text

        def make_decoder() -> TGIStreamDecoder:
            return _ContinuedDecoder(prefix, offset, prompt_tokens)

        return replace(self._original, body=body, make_decoder=make_decoder)


class _ContinuedDecoder(TGIStreamDecoder):
    """Decodes the rest of a response, with indices and counts as if it had never been interrupted.

    `prefix` is the text that comes before the rest, and `offset` the number of tokens that were received before it.
    `input_length` is the number of tokens of the original prompt.
    """

    def __init__(self, prefix: str, offset: int, input_length: int) -> None:
        super().__init__()
        self._prefix = prefix
        self._offset = offset
        self._input_length = input_length

    def _renumbered(self, response: StreamResponse) -> StreamResponse:
        changes: dict[str, Any] = {}
        if response.index is not None:
            changes["index"] = response.index + self._offset
        if response.generated_text is not None:
            changes["generated_text"] = self._prefix + response.generated_text
        if response.details is not None:
            changes["details"] = response.details.model_copy(
                update={
                    "generated_tokens": response.details.generated_tokens + self._offset,
                    "input_length": self._input_length,
                }
            )
        return response.model_copy(update=changes)

    def _handle_event(self, data: bytes, name: str, items: list[StreamResponse]) -> None:
        before = self.content_count
        super()._handle_event(data, name, items)
        if self.content_count > before:
            items[-1] = self._renumbered(items[-1])

"""Token ids to text, one id at a time, with tokenizers' `DecodeStream` (TGI's own algorithm, in Rust).

Does not depend on stop strings or finish reasons.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream

from .tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Decodes a generated text incrementally: a token's text often depends on the tokens before it.

    Special tokens are not passed to `decode`. A character whose tokens have a special token between them is completed
    as if it were not there, just as when all ids are decoded at once without special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int]) -> None:
        """`context`: the ids before the first one to decode."""
        self._tokenizer = tokenizer
        # DecodeStream takes text that ends in U+FFFD for an incomplete character, and would return it again together
        # with the next token. If the prompt really ends in one, it is better to start without context.
        self._ids = [] if tokenizer.decode(context).endswith("\ufffd") else list(context)
        self._pending = 0  # the latest ids whose text is not complete yet
        self._stream = DecodeStream(ids=self._ids, skip_special_tokens=True)

    def decode(self, token: int) -> str:
        """The text that `token` completes; "" while a character is incomplete."""
        self._ids.append(token)
        self._pending += 1
        text = self._step(token)
        if text is None:
            return ""
        self._pending = 0
        return text

    def flush(self) -> str:
        """The text not returned yet, once no more tokens come, without an incomplete character at its end.

        Invalid bytes and the first bytes of a character look alike (U+FFFD), so at the end both are dropped.
        """
        if not self._pending:
            return ""
        decoded = self._tokenizer.decode(self._ids[: -self._pending])
        complete = self._tokenizer.decode(self._ids)
        return complete[len(decoded) :].rstrip("\ufffd") if complete.startswith(decoded) else ""

    def _step(self, token: int) -> str | None:
        try:
            return self._stream.step(self._tokenizer.tokenizer, token)
        except Exception:  # noqa: BLE001 - "Invalid prefix encountered", and tokenizers has no class for it
            # The token changed the text of the tokens before it, so what the stream returned is no longer a prefix of
            # the whole. That cannot be taken back: start again with the pending ids, as vLLM does (its #17448, #19449).
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer.tokenizer, self._ids[-self._pending :])

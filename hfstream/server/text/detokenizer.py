"""Token ids to text, one id at a time, on top of tokenizers' `DecodeStream` (TGI's own algorithm, in Rust).

Does not depend on stop strings, nor on why an answer ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers.decoders import DecodeStream

from .tokenizer import Tokenizer


class IncrementalDetokenizer:
    """Token by token to text, special tokens left out, by the left context that `DecodeStream` keeps.

    As a stream the special ones are not there: what comes after one completes the character from before it, as it does
    where a whole answer is decoded without them.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        # A context that ends in U+FFFD, for the prompt does, looks unfinished, and would be repeated once it is not.
        self._ids = [] if tokenizer.decode(context).endswith("\ufffd") else list(context)
        self._pending = 0
        self._stream = DecodeStream(ids=self._ids, skip_special_tokens=True)

    def decode(self, token: int) -> str:
        """The text that `token` completes."""
        self._ids.append(token)
        self._pending += 1
        text = self._step(token)
        if text is None:
            return ""
        self._pending = 0
        return text

    def flush(self) -> str:
        """What is complete of the text not said yet, once no more tokens come.

        Garbage and the beginning of a character look alike in it; at the end neither is said.
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
            # The token changed the text before it. Begin anew with what has not been said (as vLLM: #17448, #19449).
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer.tokenizer, self._ids[-self._pending :])

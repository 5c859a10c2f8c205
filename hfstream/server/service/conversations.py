"""Conversations that a later request may continue by the id of their last response, in bounded memory.

Does not depend on HTTP or on what messages are.
"""

from __future__ import annotations

import json
from typing import Any

MAX_CONVERSATIONS = 1_000
"""How many are kept. Beyond this, and beyond the bytes, the ones that were used least recently are dropped."""
MAX_BYTES = 64_000_000
"""Bytes of JSON of all that are kept; a longer conversation is not kept."""


class Conversations:
    """Lists of messages by the ids of responses. Belongs to one event loop."""

    def __init__(self, *, max_conversations: int = MAX_CONVERSATIONS, max_bytes: int = MAX_BYTES) -> None:
        self._max_conversations, self._max_bytes = max_conversations, max_bytes
        self._kept: dict[str, bytes] = {}
        """The least recently used first."""
        self.size: int = 0
        """Bytes of all that are kept."""

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, response_id: str, messages: list[dict[str, Any]]) -> None:
        """Keeps the messages of a conversation, those of its last response included."""
        data = json.dumps(messages, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        self._kept[response_id] = data
        self.size += len(data)
        while self.size > self._max_bytes or len(self._kept) > self._max_conversations:
            self.size -= len(self._kept.pop(next(iter(self._kept))))

    def find(self, response_id: str) -> list[dict[str, Any]] | None:
        """The messages of a conversation; None if it is not kept."""
        data = self._kept.pop(response_id, None)
        if data is None:
            return None
        self._kept[response_id] = data
        messages: list[dict[str, Any]] = json.loads(data.decode("utf-8", "surrogatepass"))
        return messages

"""Conversations that later requests continue, in bounded memory."""

from __future__ import annotations

from typing import Any

from hfstream.server.service.conversations import Conversations


def conversation(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def test_a_conversation_is_found_as_it_was_kept() -> None:
    kept = Conversations()
    messages = conversation("Grüße 🙂 \ud800")
    kept.keep("a", messages)
    messages[0]["content"] = "changed later"
    assert kept.find("a") == conversation("Grüße 🙂 \ud800")
    assert kept.find("b") is None


def test_the_least_recently_used_is_dropped_first() -> None:
    kept = Conversations(max_conversations=2)
    kept.keep("a", conversation("a"))
    kept.keep("b", conversation("b"))
    assert kept.find("a")
    kept.keep("c", conversation("c"))
    assert [bool(kept.find(each)) for each in "abc"] == [True, False, True]


def test_the_bytes_are_bounded() -> None:
    kept = Conversations(max_bytes=1_000)
    for number in range(100):
        kept.keep(str(number), conversation(100 * "a"))
    assert kept.size <= 1_000
    assert 5 < len(kept) < 9
    assert kept.find("99")
    kept.keep("too long", conversation(1_000 * "a"))
    assert (kept.find("too long"), len(kept), kept.size) == (None, 0, 0)

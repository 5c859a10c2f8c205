"""The routes that show how the model reads a prompt: /tokenize and /chat_tokenize."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hfstream.server import BackgroundServer, Settings
from tests.helpers.scripted_engine import ScriptedEngine, http, ids, post, user


@pytest.fixture(scope="module")
def url(chat_model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(chat_model)), engine=ScriptedEngine()) as server:
        yield server.url


def test_spans_are_counted_in_bytes(url: str) -> None:
    text = "Grüße, 🙂 鿿!"
    tokens = post(url, "/tokenize", text).json()
    assert [token["id"] for token in tokens] == ids(text)
    assert all(list(token) == ["id", "text", "start", "stop"] for token in tokens)
    assert all(text.encode()[token["start"] : token["stop"]].decode() == token["text"] for token in tokens)
    assert (tokens[0]["start"], tokens[-1]["stop"]) == (0, len(text.encode()))


def test_a_chat_is_rendered_and_tokenized(url: str) -> None:
    body = http.post(url + "/chat_tokenize", json={"messages": user("Hü")}).json()
    assert list(body) == ["tokenize_response", "templated_text"]
    text = body["templated_text"]
    assert text == "Hü<turn>>"
    spans = body["tokenize_response"]
    assert all(list(span) == ["id", "text", "start", "stop"] for span in spans)
    assert [span["id"] for span in spans] == ids(text)
    assert [text.encode()[span["start"] : span["stop"]].decode() for span in spans] == [s["text"] for s in spans]

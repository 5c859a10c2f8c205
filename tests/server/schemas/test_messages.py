"""Messages of a chat, and what a chat template gets to read."""

from __future__ import annotations

import pytest
import httpx
from collections.abc import *
from pathlib import Path
from typing import Any
import asyncio, threading, socket, time, json, subprocess, sys, os
from hfstream.server import BackgroundServer, Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from hfstream.version import __version__
from tests.helpers.scripted_engine import *


def plain(**message: Any) -> dict[str, Any]:
    (read,) = chat(messages=[message]).template_messages()
    return read


def test_content_is_one_text() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain(role="user", content=parts) == plain(role="user", content="ab") == {"role": "user", "content": "ab"}
    assert plain(role="user", content="") == {"role": "user", "content": ""}
    silent = {"role": "assistant", "content": None}
    assert plain(role="assistant") == plain(**silent) == plain(role="assistant", content=[]) == silent


def test_templates_see_what_was_said_and_no_nulls() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    said = {"role": "assistant", "content": None, "tool_calls": calls, "name": "bot"}
    assert plain(**said, refusal=None, function_call=None) == said
    assert plain(role="tool", content="5", tool_call_id="1") == {"role": "tool", "content": "5", "tool_call_id": "1"}
    assert "tool_calls" not in plain(role="assistant", content="a", tool_calls=[])


@pytest.mark.parametrize("kind", ["image_url", "input_audio"])
def test_parts_that_are_no_text_are_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match=f"Input validation error: .* type `{kind}` are not supported"):
        plain(role="user", content=[{"type": "text", "text": "What is this?"}, {"type": kind, kind: {}}])

"""The routes that show how the model reads a prompt."""

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


def test_tokenize_counts_bytes(url: str) -> None:
    text = "Grüße, 🙂 鿿!"
    tokens = post(url, "/tokenize", text).json()
    assert [token["id"] for token in tokens] == ids(text)
    assert all(list(token) == ["id", "text", "start", "stop"] for token in tokens)
    assert all(text.encode()[token["start"] : token["stop"]].decode() == token["text"] for token in tokens)
    assert (tokens[0]["start"], tokens[-1]["stop"]) == (0, len(text.encode()))


def test_chat_tokenize(url: str) -> None:
    told = ask(url, "Hü", path="/chat_tokenize").json()
    assert list(told) == ["tokenize_response", "templated_text"]
    text = told["templated_text"]
    assert text == "Hü<turn>>"
    spans = told["tokenize_response"]
    assert all(list(span) == ["id", "text", "start", "stop"] for span in spans)
    assert [span["id"] for span in spans] == ids(text)
    assert [text.encode()[span["start"] : span["stop"]].decode() for span in spans] == [s["text"] for s in spans]

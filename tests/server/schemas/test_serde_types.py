"""Field types that accept what serde accepts."""

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


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e39", "1e999", "1" + 400 * "0"])
def test_numbers_that_are_none(number: str) -> None:
    assert refused(parameters(f'"temperature":{number}'))[0] == 422


def test_integers_are_numbers_and_large_seeds_are_seeds() -> None:
    asked = parse_body(parameters('"temperature":2,"seed":18446744073709551615').encode(), GenerateRequest).parameters
    assert (asked.temperature, asked.seed) == (2.0, 2**64 - 1)

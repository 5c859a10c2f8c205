"""The number of requests that run at once."""

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


def test_a_gate_counts() -> None:
    gate = ConcurrencyLimiter(2)
    with gate, pytest.raises(ZeroDivisionError), gate:
        assert gate.running == 2
        with pytest.raises(OverloadedError) as caught, gate:
            pass
        assert (str(caught.value), caught.value.retry_after, gate.running) == ("Model is overloaded", 1, 2)
        raise ZeroDivisionError
    assert gate.running == 0

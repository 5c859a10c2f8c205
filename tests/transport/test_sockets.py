"""Connections that are being made when their client is closed."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpcore
import pytest

from hfstream import InferenceClient, InferenceConnectionError
from hfstream.testing import Fault, Response, ScriptedServer, token_events

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])


def test_a_client_that_is_closed_while_it_connects_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = httpcore.SyncBackend.connect_tcp
    connecting = threading.Event()

    def slowly(self: Any, *args: Any, **kwargs: Any) -> Any:
        connecting.set()
        end = time.monotonic() + 60
        while not client._http._closed and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.1)
        return connect(self, *args, **kwargs)

    def close_then() -> None:
        assert connecting.wait(60)
        client.close()

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", slowly)
    with ScriptedServer(ENDLESS) as server:
        client = InferenceClient(server.url)
        closer = threading.Thread(target=close_then)
        closer.start()
        started = time.monotonic()
        with pytest.raises(InferenceConnectionError, match="client was closed"):
            client.text_generation("Hi", stream=True)
        assert time.monotonic() - started < 60
        closer.join()

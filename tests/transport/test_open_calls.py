"""Open calls end when their client is closed."""

from __future__ import annotations

import threading
import time
from typing import Any

from hfstream import InferenceClient, InferenceConnectionError
from hfstream.testing import Fault, Response, ScriptedServer, token_events

STREAM = token_events("Hello", ",", " you", finish_reason="eos_token")
ENDLESS = Response([STREAM[0], Fault.STALL])


def test_many_readers_end_when_their_client_is_closed() -> None:
    with ScriptedServer(ENDLESS) as server:
        for _ in range(5):
            client = InferenceClient(server.url)
            ended: list[Any] = []

            def read(client: InferenceClient = client, ended: list[Any] = ended) -> None:
                try:
                    ended.append(list(client.text_generation("Hi", stream=True)))
                except (InferenceConnectionError, RuntimeError) as error:
                    ended.append(error)

            threads = [threading.Thread(target=read) for _ in range(20)]
            for thread in threads:
                thread.start()
            time.sleep(0.02)
            client.close()
            for thread in threads:
                thread.join(60)
            assert not any(thread.is_alive() for thread in threads)
            assert len(ended) == 20

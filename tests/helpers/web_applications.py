"""A web application behind uvicorn, in this process."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn

from tests.helpers.scripted_engine import eventually


@contextmanager
def running(app: Any) -> Generator[str]:
    """Its URL, on a port of its own; without a configuration of loggers, which other tests read."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert eventually(lambda: server.started)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()

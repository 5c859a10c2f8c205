"""An application whose model makes each token only when the test allows it, for a replica of Ray Serve."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from starlette.applications import Starlette

from hfstream.server import Settings, create_app
from hfstream.server.engine.protocol import EngineRequest
from tests.helpers.scripted_engine import ScriptedEngine, ids, save_tokenizer


def paced_app(directory: Path) -> Starlette:
    """Token number n, from 0, is made once there is the file `directory`/n."""

    def script(request: EngineRequest) -> Iterator[int | None]:
        for number, token in enumerate(ids("Hello, world!")):
            while not (directory / str(number)).exists():
                time.sleep(0.01)
                yield None
            yield token

    model = directory / "model"
    model.mkdir(exist_ok=True)
    return create_app(Settings(model=str(save_tokenizer(model))), engine=ScriptedEngine(script))

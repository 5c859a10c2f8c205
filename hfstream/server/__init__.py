"""The reference server: a real model behind TGI's and OpenAI's HTTP interfaces.

    serve(Settings(port=8080))               # blocks until a signal
    with BackgroundServer() as server: ...   # on a thread and a free port; `server.url`
    app = create_app()                       # as an ASGI application, for another server

Needs ``pip install "hfstream[server]"``; in front of other servers (`Settings.upstreams`), which needs no torch,
``"hfstream[upstream]"``. torch is imported by the process that runs the model, not here.
"""

from __future__ import annotations

from importlib.util import find_spec

_missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
if _missing:
    raise ImportError(f'hfstream.server needs {", ".join(_missing)}: pip install "hfstream[server]"')

from .services import create_app  # noqa: E402 - the message above is clearer than that of a failed import
from .serving import BackgroundServer, StartError, serve  # noqa: E402
from .settings import Settings  # noqa: E402

__all__ = ["BackgroundServer", "Settings", "StartError", "create_app", "serve"]

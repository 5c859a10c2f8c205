"""Where a server's answers come from, by its settings: a model of its own, or other servers.

Each of the two is imported only where it is used: a server in front of others needs none of the libraries that models
need, and one with a model needs no client.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import NamedTuple

from starlette.applications import Starlette

from .engine.protocol import EngineProtocol
from .service.request_service import RequestService
from .settings import Settings

_MODEL_LIBRARIES = ("tokenizers", "transformers", "torch")


class Served(NamedTuple):
    """What a server serves."""

    service: RequestService
    build_app: Callable[..., Starlette]
    """Makes its application. `check_host`: whether requests must name this computer as their host."""


def create_app(settings: Settings | None = None, *, engine: EngineProtocol | None = None) -> Starlette:
    """The server as an ASGI application. Its lifespan starts to load the model, and stops the engine at the end.

    `engine`: another engine in place of the one that runs the model.
    """
    return make_served(settings or Settings(), engine).build_app()


def make_served(settings: Settings, engine: EngineProtocol | None = None) -> Served:
    """What a server with these settings serves.

    Raises:
        ModelFilesError: there is no model, or none that can be served.
        ImportError: the libraries that models need are not installed.
        ValueError: one of `settings.upstreams` is no URL.
    """
    if settings.upstreams:
        from .upstream.app import build_upstream_app  # noqa: PLC0415  see above
        from .upstream.service import UpstreamService  # noqa: PLC0415

        service = UpstreamService(settings)
        return Served(service, partial(build_upstream_app, service))
    if missing := [name for name in _MODEL_LIBRARIES if find_spec(name) is None]:
        raise ImportError(f'a server with a model needs {", ".join(missing)}: pip install "hfstream[server]"')
    from .app import build_app  # noqa: PLC0415
    from .service.backend import Backend  # noqa: PLC0415

    backend = Backend(settings, engine)
    return Served(backend, partial(build_app, backend))

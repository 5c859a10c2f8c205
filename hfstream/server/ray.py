"""The server on Ray Serve: replicas of its application, behind Ray's proxy.

    hfstream serve --replicas 2
    serve run hfstream.server.ray:app replicas=2 max_concurrent_requests=8

Each replica has a model and a limit of concurrent requests of its own. Ray would queue what is beyond its own limit, so
that is higher: the replica refuses, as the server without Ray does. What Ray's proxy itself answers is the business of
`ray_proxy`.

Needs ``pip install "hfstream[ray]"``. ray is imported inside functions only: the rest of the server goes without it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from pydantic import TypeAdapter
from starlette.applications import Starlette

from .model_files import ModelFilesError, check_model, find_model
from .ray_proxy import CALLBACK
from .services import make_served
from .serving import StartError, is_loopback, listen, url_of
from .settings import Settings, parse_size

logger: logging.Logger = logging.getLogger(__name__)

NAME = "hfstream"
"""Of the application and of its one deployment."""
WITHOUT_PERMIT = 1_000
"""Requests that a replica takes besides those with a permit: those that it refuses, /health, /tokenize and so on."""
MAX_QUEUED = 1_000
"""Requests that wait in Ray's proxy until a replica takes them: there is none, or all have taken too many."""
LOAD_FACTOR = 0.75
"""With how much of its batch a replica is to run, on average, before Ray starts another one."""
HEALTH_CHECK_SECONDS = 2.0
"""How often Ray looks whether a replica is alive. One that is not is replaced then."""
OBJECT_STORE_BYTES = 128 << 20
"""Ray's shared memory, for `serve_replicas`. An event of a stream is too small to be put there."""

_NOT_WITH_REPLICAS = {
    "uds": "Ray's proxy listens on a port",
    "upstreams": "a server in front of others runs no model, so one is enough",
    "root_path": "Ray's proxy has its own, `root_path` in its http_options",
}
_OF_THE_PROXY = ("host", "port")


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many replicas there are.

    Raises:
        ValueError: a value is out of its range.
    """

    minimum: int = 1
    maximum: int = 1
    """If more than `minimum`, Ray starts and stops replicas as there are requests."""

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.maximum:
            raise ValueError("there must be at least 1 replica, and min_replicas must not be more than max_replicas")


def app(arguments: dict[str, Any]) -> Any:
    """The application for ``serve run hfstream.server.ray:app`` and for Ray Serve's config files.

    `arguments` are the names of `Settings` with their values, and ``replicas``, or ``min_replicas`` and
    ``max_replicas``. Text is converted, as ``serve run`` has nothing else. The environment variable HFSTREAM_API_KEY is
    the default of ``api_key``.

    Raises:
        ValueError: an argument does not exist, or has a value that it cannot have.
        ImportError: ray is not installed.
    """
    settings, replicas = read_arguments(arguments)
    return _bind(settings, replicas, check_host=bool(settings.allowed_hosts))


def read_arguments(arguments: Mapping[str, Any]) -> tuple[Settings, Replicas]:
    """The settings and the number of replicas that are meant by the arguments of `app`, which raises the same."""
    given = {"api_key": os.environ.get("HFSTREAM_API_KEY"), **arguments}
    for name in _OF_THE_PROXY:
        if name in given:
            raise ValueError(f"{name} is not an argument of the application: it is in the http_options of Ray's proxy")
    same = given.pop("replicas", None)
    counts = {"minimum": given.pop("min_replicas", same), "maximum": given.pop("max_replicas", same)}
    if unknown := sorted(given.keys() - {field.name for field in fields(Settings)}):
        raise ValueError(f"{', '.join(unknown)}: there is no such setting")
    if isinstance(memory := given.get("kv_cache_memory"), str):
        given["kv_cache_memory"] = parse_size(memory)
    counts = {name: count for name, count in counts.items() if count is not None}
    if "minimum" in counts:
        counts.setdefault("maximum", counts["minimum"])
    return TypeAdapter(Settings).validate_python(given), TypeAdapter(Replicas).validate_python(counts)


def serve_replicas(
    settings: Settings,
    replicas: int,
    *,
    log_level: str = "info",
    started: Callable[[str], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Serve with so many replicas on this computer until SIGTERM or Ctrl-C, with a Ray that is started for this.

    Running requests get `settings.shutdown_grace` seconds to finish, or until a second signal. `started` is called with
    the URL once all replicas have loaded the model, `stopping` when the first signal comes.

    Raises:
        StartError: the port is taken, or the model could not be loaded.
        ValueError: a setting cannot be combined with replicas.
        ImportError: ray is not installed.
    """
    count = Replicas(minimum=replicas, maximum=replicas)
    application = _bind(settings, count, check_host=is_loopback(settings.host), log_level=log_level)
    if not settings.port:
        raise ValueError("port 0 cannot be combined with replicas: Ray's proxy does not tell which port it has taken")
    try:
        check_model(find_model(settings.model))
    except ModelFilesError as error:
        raise StartError(str(error)) from error
    with listen(settings.host, settings.port) as listening:  # Ray's message for a port that is taken is in a log file
        url = url_of(listening)
    # Ray's processes have the environment of this one.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")  # each request has its line in the log
    os.environ["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] = CALLBACK
    ray, serve = import_module("ray"), import_module("ray.serve")
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    quiet = {"log_level": "WARNING", "enable_access_log": False}
    try:
        # Ray's CPUs are a count for its scheduler: more replicas than cores are slow, but no error.
        ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, replicas * settings.threads),
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
        stop = _StopSignals()
        http_options = {"host": settings.host, "port": settings.port}
        serve.start(proxy_location="HeadOnly", http_options=http_options, logging_config=quiet)
        try:
            serve.run(application, name=NAME, logging_config=quiet)
        except RuntimeError as error:
            raise StartError(f"the model could not be loaded: {error}") from error
        if started:
            started(url)
        stop.wait()
        if stopping:
            stopping()
        stop.run_until_second(partial(serve.delete, NAME))  # before the proxy ends, through which responses go
    finally:
        ray.shutdown()


class _StopSignals:
    """SIGTERM and Ctrl-C, from now on. A second one ends what the first one began."""

    def __init__(self) -> None:
        self._first, self._second = threading.Event(), threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: object) -> None:
        (self._second if self._first.is_set() else self._first).set()

    def wait(self) -> None:
        """Waits for the first one."""
        self._first.wait()

    def run_until_second(self, function: Callable[[], object]) -> None:
        """Runs `function` on another thread, and returns when it does, or at the second one."""

        def run() -> None:
            try:
                function()
            finally:
                self._second.set()

        threading.Thread(target=run, daemon=True).start()
        self._second.wait()


def _bind(settings: Settings, replicas: Replicas, *, check_host: bool, log_level: str = "info") -> Any:
    """An application of Ray Serve."""
    options = deployment_options(settings, replicas)
    if find_spec("ray") is None:
        raise ImportError('replicas need ray: pip install "hfstream[ray]"')
    serve = import_module("ray.serve")

    def build() -> Starlette:
        logging.basicConfig(format="%(asctime)s %(levelname)-7s %(message)s", level=logging.WARNING)
        logging.getLogger("hfstream").setLevel(log_level.upper())
        return replica_app(settings, check_host=check_host)

    return serve.deployment(serve.ingress(build)(Replica), **options).bind()


def deployment_options(settings: Settings, replicas: Replicas) -> dict[str, Any]:
    """The options of the deployment, by Ray's names.

    Raises:
        ValueError: a setting cannot be combined with replicas.
    """
    for name, reason in _NOT_WITH_REPLICAS.items():
        if getattr(settings, name):
            raise ValueError(f"{name} cannot be combined with replicas: {reason}")
    on_gpu = settings.device.startswith("cuda")
    if on_gpu and settings.device != "cuda":
        raise ValueError(f"device must be cuda with replicas, not {settings.device}: Ray gives each one a GPU")
    if replicas.minimum == replicas.maximum:
        count: dict[str, Any] = {"num_replicas": replicas.minimum}
    else:
        at_once = min(settings.max_batch_size, settings.max_concurrent_requests)
        scaling = {"min_replicas": replicas.minimum, "max_replicas": replicas.maximum}
        count = {"autoscaling_config": {**scaling, "target_ongoing_requests": max(1.0, LOAD_FACTOR * at_once)}}
    return {
        **count,
        "name": NAME,
        "max_ongoing_requests": settings.max_concurrent_requests + WITHOUT_PERMIT,
        "max_queued_requests": MAX_QUEUED,
        "backpressure_config": {"status_code": 429, "retry_after_s": 1},
        "graceful_shutdown_timeout_s": settings.shutdown_grace,
        "health_check_period_s": HEALTH_CHECK_SECONDS,
        "max_constructor_retry_count": 3,
        "ray_actor_options": {"num_cpus": settings.threads, "num_gpus": int(on_gpu)},
    }


class Replica:
    """What Ray Serve calls of a replica besides its application, which `serve.ingress` adds as `app`."""

    app: Starlette

    async def check_health(self) -> None:
        """Raises an error if the engine has failed for good: Ray then replaces this replica."""
        if error := self.app.state.backend.fatal_error:
            raise error


def replica_app(settings: Settings, *, check_host: bool) -> Starlette:
    """The application of one replica, whose start lasts until the model is loaded: only then Ray sends requests."""
    service, build_app = make_served(settings)
    application = build_app(check_host=check_host)
    run_service = application.router.lifespan_context

    @asynccontextmanager
    async def lifespan(application: Starlette) -> AsyncGenerator[None, None]:
        async with run_service(application):
            await service.ready.wait()
            if error := service.fatal_error:
                logger.error("the model could not be loaded: %s", error)
                raise error
            yield

    application.router.lifespan_context = lifespan
    return application

"""The routes of a server in front of others that generate nothing: health, /info, /metrics, /v1/models, /tokenize."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from hfstream.errors import InferenceError, NotFoundError, OverloadedError
from hfstream.version import __version__

from ..routes.request_body import parse_request
from ..routes.responses import error_response
from ..schemas.tgi import GenerateRequest
from .errors import own_errors
from .service import UpstreamService
from .upstream import CHECK_SECONDS


class UpstreamStatusRoutes:
    """Handlers of one service; each method is one route."""

    def __init__(self, service: UpstreamService) -> None:
        self._service = service
        self._pool = service.pool

    async def root(self, request: Request) -> Response:
        """The health check; a browser is redirected to the demo page, as its user would see an empty page."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("demo")
        return await self.health(request)

    async def health(self, request: Request) -> Response:
        """An empty 200 while at least one of the servers answers."""
        if any(each.healthy for each in self._pool.upstreams):
            return Response()
        return error_response(OverloadedError("No upstream answers", status_code=503, error_type="healthcheck"))

    async def info(self, request: Request) -> Response:
        """TGI's keys: those of the first server that has them, with this server's own limit."""
        settings = self._service.settings
        info: dict[str, Any] = {"model_id": None, "model_sha": None, "model_pipeline_tag": "text-generation"}
        for upstream in self._pool.upstreams:
            if upstream.healthy:
                try:
                    if upstream.is_openai:
                        info["model_id"] = upstream.model_name(None)
                    else:
                        info = await upstream.client.get_endpoint_info(timeout=CHECK_SECONDS)
                    break
                except InferenceError:
                    continue
        own = {
            "max_concurrent_requests": settings.max_concurrent_requests,
            "router": "hfstream",
            "version": __version__,
        }
        if settings.served_model_name is not None:
            own["model_id"] = settings.served_model_name
        return JSONResponse({**info, **own})

    async def metrics(self, request: Request) -> Response:
        """Counters and gauges in Prometheus' text format, with two gauges for each server."""
        running = self._service.limiter.running
        text = self._service.metrics.render(batch=running, queue=0, permits=running)
        upstreams = self._pool.upstreams
        text += _gauge("hfstream_upstream_requests", ((each.name, len(each.outstanding)) for each in upstreams))
        text += _gauge("hfstream_upstream_healthy", ((each.name, each.healthy) for each in upstreams))
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        """The models of all servers, as OpenAI's list."""
        return JSONResponse({"object": "list", "data": list((await self._models()).values())})

    async def model(self, request: Request) -> Response:
        """One model by its name, which may have slashes; for another one an error in OpenAI's words."""
        name: str = request.path_params["name"]
        models = await self._models()
        if name in models:
            return JSONResponse(models[name])
        message = f"The model `{name[:200]}` does not exist"
        error = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        return JSONResponse({"error": {**error, "http_status_code": 404}}, 404)

    async def tokenize(self, request: Request) -> Response:
        """TGI's /tokenize, where one of the servers is of TGI's kind."""
        body = await parse_request(request, GenerateRequest, self._service)
        candidates = [each for each in self._pool.upstreams if not each.is_openai]
        if not candidates:
            message = "/tokenize is not available: the model is behind OpenAI's API, which does not have it"
            raise NotFoundError(message, error_type="not_found")
        upstream = min(candidates, key=lambda each: (not each.healthy, len(each.outstanding)))
        with self._service.limiter, own_errors():
            tokens = await upstream.client.tokenize(body.inputs)
        return JSONResponse([token.model_dump() for token in tokens])

    async def _models(self) -> dict[str, dict[str, Any]]:
        name = self._service.settings.served_model_name
        if name is not None:
            return {name: {"id": name, "object": "model", "created": 0, "owned_by": name}}
        models: dict[str, dict[str, Any]] = {}
        for upstream in self._pool.upstreams:
            for model in await upstream.list_models():
                models.setdefault(model.id, model.model_dump(mode="json", exclude_unset=True))
        return models


def _gauge(name: str, values: Iterable[tuple[str, int]]) -> str:
    """Values of the same name, as of two paths at one host, are added up."""
    totals: Counter[str] = Counter()
    for upstream, value in values:
        totals[upstream] += value
    samples = "".join(f'{name}{{upstream="{upstream}"}} {total}\n' for upstream, total in totals.items())
    return f"# TYPE {name} gauge\n{samples}"

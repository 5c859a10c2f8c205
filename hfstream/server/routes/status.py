"""The GET routes that report on the server: health, /info, /metrics and /v1/models."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from hfstream.version import __version__

from ..service.backend import Backend


class StatusRoutes:
    """Handlers of one backend; each method is one route."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def root(self, request: Request) -> Response:
        """The health check; a browser is redirected to the demo page, as its user would see an empty page."""
        if "text/html" in request.headers.get("accept", ""):
            return RedirectResponse("demo")
        return await self.health(request)

    async def health(self, request: Request) -> Response:
        """An empty 200 once the model is loaded, an error before and after a failure."""
        self._backend.ensure_ready()
        return Response()

    async def info(self, request: Request) -> Response:
        """The model and the limits, with TGI's keys."""
        settings, info = self._backend.settings, self._backend.model.info
        return JSONResponse(
            {
                "model_id": settings.model_name,
                "model_sha": None,
                "model_pipeline_tag": "text-generation",
                "max_concurrent_requests": settings.max_concurrent_requests,
                "max_best_of": settings.max_best_of,
                "max_stop_sequences": settings.max_stop_sequences,
                "max_input_tokens": self._backend.max_input_tokens,
                "max_total_tokens": info.max_total_tokens,
                "validation_workers": 1,
                "max_client_batch_size": settings.max_client_batch_size,
                "router": "hfstream",
                "version": __version__,
                "sha": None,
                "docker_label": None,
            }
        )

    async def metrics(self, request: Request) -> Response:
        """Counters and gauges in Prometheus' text format."""
        batch, queue = self._backend.queue_depths
        text = self._backend.metrics.render(batch=batch, queue=queue, permits=self._backend.limiter.running)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models(self, request: Request) -> Response:
        """The one model, as OpenAI's list."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """The one model by its name, which may have slashes; for another one an error in OpenAI's words."""
        name: str = request.path_params["name"]
        if name == self._backend.settings.model_name:
            return JSONResponse(self._model())
        message = f"The model `{name[:200]}` does not exist: this server has `{self._backend.settings.model_name}`"
        error = {"message": message, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
        return JSONResponse({"error": {**error, "http_status_code": 404}}, 404)

    def _model(self) -> dict[str, Any]:
        name = self._backend.settings.model_name
        return {"id": name, "object": "model", "created": 0, "owned_by": name}

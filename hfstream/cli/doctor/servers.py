"""Which server answers, and what stands before it: told from headers, `/v1/models` and `/info`.

What holds a stream back is often a proxy whose name is in a header. For each of them there is the line that makes it
pass a stream on at once; those of nginx, HAProxy, Caddy, lighttpd and Varnish were tried, with Debian 12's packages.
Does not depend on how anything is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...types import Model
from .findings import Mend

__all__ = ["GENERIC", "HAPROXY", "NGINX", "Between", "find_between", "name_server", "running_requests"]


@dataclass(frozen=True)
class Between:
    """Something between client and server, and what to change there."""

    name: str
    header: str
    """Where its name is, as an expression for ``name: value``."""
    unbuffered: tuple[Mend, ...]
    """Passes on each token at once."""
    uncompressed: tuple[Mend, ...]
    silence: str = ""
    """What it does, unless configured otherwise, to a response in which nothing comes for a while."""
    patient: tuple[Mend, ...] = ()
    """Lets a response be silent for longer."""


X_ACCEL = Mend("the model server, as a header of the streamed response", "X-Accel-Buffering: no")
NO_TRANSFORM = Mend("the model server, as a header of the streamed response", "Cache-Control: no-cache, no-transform")
IDENTITY = Mend("or the client, as a header of the request", "Accept-Encoding: identity")

_IN_NGINX = "nginx, in the location that passes requests to the model server"

HAPROXY = Mend("HAProxy, in the section defaults, frontend or backend", "option http-no-delay")

NGINX = Between(
    "nginx",
    r"^server: (nginx|openresty|tengine)",
    (Mend(_IN_NGINX, "proxy_buffering off;"), X_ACCEL),
    (Mend(_IN_NGINX, "gzip off;"), IDENTITY),
    "nginx ends a response in which nothing comes for 60 s (proxy_read_timeout)",
    (Mend(_IN_NGINX, "proxy_read_timeout 1h;"),),
)

GENERIC = Between(
    "a proxy",
    "",
    (
        Mend(_IN_NGINX, "proxy_buffering off;"),
        X_ACCEL,
        HAPROXY,
        Mend("lighttpd", "server.stream-response-body = 2"),
        Mend("a Kubernetes ingress with nginx, as an annotation", 'nginx.ingress.kubernetes.io/proxy-buffering: "off"'),
    ),
    (Mend(_IN_NGINX, "gzip off;"), NO_TRANSFORM, IDENTITY),
)
"""Where no header says what it is."""

BETWEEN = (
    NGINX,
    Between(
        "Apache",
        r"^server: apache",
        (Mend("Apache with FastCGI, at the ProxyPass of the model server", "ProxySet flushpackets=on"), X_ACCEL),
        (Mend("Apache, in the Location of the model server", "SetEnv no-gzip 1"), IDENTITY),
        "Apache ends a response in which nothing comes for 60 s (ProxyTimeout)",
        (Mend("Apache, in the virtual host", "ProxyTimeout 3600"),),
    ),
    Between(
        "Caddy",
        r"^(server|via): .*caddy",
        (Mend("the Caddyfile, within reverse_proxy", "flush_interval -1"),),
        (
            Mend("the Caddyfile, to name what is no stream", "@rest not path /v1/* /generate_stream"),
            Mend("and to encode nothing else", "encode @rest gzip"),
            IDENTITY,
        ),
    ),
    Between(
        "Varnish",
        r"^(x-varnish: |via: .*varnish)",
        (Mend("Varnish, in vcl_backend_response", "set beresp.do_stream = true;"),),
        (Mend("Varnish, in vcl_backend_response", "set beresp.do_gzip = false;"), IDENTITY),
        "Varnish ends a response in which nothing comes for 60 s (between_bytes_timeout)",
        (Mend("Varnish, in the backend of the VCL", ".between_bytes_timeout = 1h;"),),
    ),
    Between(
        "AWS API Gateway",
        r"^(x-amz-apigw-id|apigw-requestid): ",
        (
            Mend("API Gateway, in the integration of a REST API", '"responseTransferMode": "STREAM"'),
            Mend("or a Lambda function URL in its place, in the template", "InvokeMode: RESPONSE_STREAM"),
        ),
        (IDENTITY,),
        "API Gateway ends a response after 29 s unless it streams",
        (Mend("API Gateway, in the integration of a REST API", '"responseTransferMode": "STREAM"'),),
    ),
    Between(
        "Cloudflare",
        r"^(server: cloudflare|cf-ray: )",
        (Mend("the model server, as a header of the response", "Content-Type: text/event-stream"), X_ACCEL),
        (NO_TRANSFORM, IDENTITY),
        "Cloudflare ends a response with 524 if nothing comes for about 100 s",
    ),
    Between(
        "IIS",
        r"^server: microsoft-iis|^x-powered-by: arr",
        (Mend("IIS, web.config, at the handler that passes requests on", 'responseBufferLimit="0"'),),
        (Mend("IIS, web.config", '<urlCompression doDynamicCompression="false" />'), IDENTITY),
    ),
    Between(
        "Envoy",
        r"^(server: (istio-)?envoy|x-envoy-upstream-service-time: )",
        (Mend("Envoy: take this filter out of http_filters", "envoy.filters.http.buffer"),),
        (Mend("Envoy: take this filter out of http_filters", "envoy.filters.http.compressor"), IDENTITY),
        "Envoy ends every response after 15 s unless its route says otherwise",
        (Mend("Envoy, in the route", "timeout: 0s"),),
    ),
)


def find_between(headers: Mapping[str, str]) -> Between | None:
    """The first known proxy or platform that a response's headers name; names are in lower case."""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return next((each for each in BETWEEN if any(re.search(each.header, line, re.IGNORECASE) for line in lines)), None)


_BY_OWNER = {
    "vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp", "library": "Ollama",
    "organization_owner": "LM Studio", "openai": "OpenAI", "openai-internal": "OpenAI", "lmdeploy": "LMDeploy",
    "tensorrt-llm": "TensorRT-LLM",
}  # fmt: skip
"""`owned_by` in `/v1/models`."""

_BY_HEADER = (
    (r"^server: llama\.cpp", "llama.cpp"),
    (r"^x-litellm-", "LiteLLM"),
    (r"^x-groq-", "Groq"),
    (r"^openai-processing-ms: ", "OpenAI"),
    (r"^x-inference-provider: ", "the Hugging Face router"),
    (r"^x-compute-type: ", "TGI"),
)


def name_server(
    info: Mapping[str, Any], models: Sequence[Model], headers: Mapping[str, str], fingerprint: str = ""
) -> tuple[str, str]:
    """The kind of a server and its version, each empty if unknown.

    Args:
        info: The JSON of `/info`; empty without one.
        models: The entries of `/v1/models`.
        headers: Of a streamed response, with names in lower case.
        fingerprint: The `system_fingerprint` of a chat.
    """
    if "model_id" in info:
        kind = "hfstream" if info.get("router") == "hfstream" else "TGI"
        return kind, str(info.get("version") or "")
    owners = {str(getattr(model, "owned_by", "") or "").lower() for model in models}
    for owner, kind in _BY_OWNER.items():
        if owner in owners:
            return kind, ""
    if fingerprint == "fp_ollama":
        return "Ollama", ""
    lines = [f"{name}: {value}" for name, value in headers.items()]
    for pattern, kind in _BY_HEADER:
        if any(re.search(pattern, line, re.IGNORECASE) for line in lines):
            return kind, ""
    return "", ""


_RUNNING = re.compile(
    rb"^(tgi_batch_current_size|vllm:num_requests_running|sglang:num_running_reqs"
    rb"|llamacpp:requests_processing)(?:\{[^}]*\})? ([0-9.e+]+)",
    re.MULTILINE,
)


def running_requests(metrics: bytes) -> tuple[str, float] | None:
    """The name and the value of the gauge of running requests, in Prometheus' text format; None if there is none."""
    found = [(name.decode(), float(value)) for name, value in _RUNNING.findall(metrics)]
    return (found[0][0], sum(value for _, value in found)) if found else None

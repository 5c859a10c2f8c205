"""The options of ``hfstream serve``. Does not depend on the server, so that `--help` needs no torch."""

from __future__ import annotations

import argparse
import os

__all__ = ["add_serve_options", "positive"]


def add_serve_options(serve: argparse.ArgumentParser) -> None:
    """Adds the options of the command `serve`."""
    serve.add_argument(
        "--model",
        default="bundled",
        metavar="MODEL",
        help="directory of a checkpoint, a GGUF file, the id of a model on the Hugging Face Hub, or 'bundled' "
        "(default: bundled)",
    )
    _add_upstream_options(serve)
    serve.add_argument("--served-model-name", metavar="NAME", help="the model's name for clients (default: --model)")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument(
        "--port", type=int, default=8080, help="port to listen on; 0 selects a free port (default: 8080)"
    )
    serve.add_argument(
        "--max-concurrent-requests",
        "--max_concurrent_requests",
        type=int,
        default=128,
        metavar="N",
        help="limit of concurrent requests; further ones are rejected as overloaded (default: 128)",
    )
    serve.add_argument(
        "--replicas",
        type=positive,
        metavar="N",
        help="run so many servers, each with a model and limits of its own, behind Ray Serve; needs hfstream[ray]",
    )
    serve.add_argument("--uds", metavar="PATH", help="listen on this Unix domain socket, not on a port")
    serve.add_argument(
        "--root-path", default="", metavar="PATH", help="path under which a proxy serves this server, such as /llm"
    )
    serve.add_argument(
        "--api-key",
        default=os.environ.get("HFSTREAM_API_KEY"),
        metavar="KEY",
        help="require this bearer token (default: the environment variable HFSTREAM_API_KEY, which other users of the "
        "computer cannot see, as they can see arguments)",
    )
    serve.add_argument(
        "--tokens-per-second", type=float, metavar="N", help="limit the speed of each response, for demonstrations"
    )
    serve.add_argument(
        "--tool-call-format",
        choices=["hermes", "llama3", "mistral"],
        help="how the model writes tool calls (default: as its chat template says)",
    )
    serve.add_argument(
        "--dtype",
        default="float32",
        choices=["float32", "bfloat16", "float16"],
        help="data type of the weights (default: float32)",
    )
    serve.add_argument(
        "--cors-allow-origin",
        action="append",
        metavar="ORIGIN",
        help="allow pages of this origin, such as https://example.org, to call the server, besides those of this "
        "computer; * allows all; can be used more than once",
    )
    serve.add_argument(
        "--allowed-host",
        action="append",
        dest="allowed_hosts",
        metavar="NAME",
        help="accept requests for this host name, besides this computer's; can be used more than once",
    )
    serve.add_argument("--device", default="cpu", help="torch's name of the device, such as cuda (default: cpu)")
    serve.add_argument(
        "--max-batch-size",
        type=positive,
        default=32,
        metavar="N",
        help="requests that the model runs together; further ones wait (default: 32)",
    )
    serve.add_argument(
        "--max-total-tokens",
        type=positive,
        metavar="N",
        help="tokens of a prompt and its response together (default: the model's context)",
    )
    serve.add_argument(
        "--max-input-tokens",
        type=positive,
        metavar="N",
        help="tokens of a prompt (default: one fewer than --max-total-tokens)",
    )
    serve.add_argument(
        "--max-best-of",
        type=positive,
        default=2,
        metavar="N",
        help="generations that a request with best_of may choose from (default: 2)",
    )
    serve.add_argument(
        "--max-client-batch-size",
        type=positive,
        default=4,
        metavar="N",
        help="prompts that a request may have (default: 4)",
    )
    serve.add_argument(
        "--max-stop-sequences",
        type=int,
        default=4,
        metavar="N",
        help="stop strings that a request may have (default: 4)",
    )
    serve.add_argument(
        "--max-top-n-tokens",
        type=int,
        default=5,
        metavar="N",
        help="likeliest tokens that a request may have reported at each step (default: 5)",
    )
    serve.add_argument(
        "--kv-cache-memory",
        type=_size,
        metavar="SIZE",
        help="memory for keys and values, such as 512M or 2G (default: a quarter of the memory)",
    )
    serve.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error"],
        help="info has a line for each request, debug the prompts as well (default: info)",
    )
    serve.add_argument("--threads", type=int, default=1, metavar="N", help="number of torch threads (default: 1)")


def _add_upstream_options(serve: argparse.ArgumentParser) -> None:
    """Those of a server in front of other servers."""
    serve.add_argument(
        "--upstream",
        action="append",
        dest="upstreams",
        metavar="URL",
        help="pass requests on to the server at URL, in place of a model: one with OpenAI's routes if the URL ends in "
        "/v1, else one with TGI's; can be used more than once",
    )
    serve.add_argument(
        "--upstream-api-key",
        default=os.environ.get("HFSTREAM_UPSTREAM_API_KEY"),
        metavar="KEY",
        help="bearer token to send to --upstream (default: the environment variable HFSTREAM_UPSTREAM_API_KEY)",
    )
    serve.add_argument(
        "--upstream-model",
        metavar="NAME",
        help="model to ask --upstream for where a request names none (default: the first that it lists)",
    )
    serve.add_argument(
        "--upstream-timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="how long --upstream may take until the first token, or for a whole answer (default: 600)",
    )


def positive(text: str) -> int:
    """A number of at least 1, as argparse takes it."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _size(text: str) -> int:
    from ..server.settings import parse_size  # noqa: PLC0415  an optional dependency, and slow to import

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

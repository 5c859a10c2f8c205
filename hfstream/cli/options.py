"""Command-line options. A command's module is imported when it runs, so `--help` needs neither rich nor torch."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from ..version import __version__

__all__ = ["parse_args"]

EXAMPLES = {
    "generate": """\
examples:
  hfstream generate "How do you make cheese?"
  hfstream generate "What is Deep Learning?" --url http://127.0.0.1:8080 --max-new-tokens 20
  hfstream generate "Tell me a joke" --temperature 0.9 --seed 7 --details
  hfstream generate "Once upon a time" --url http://127.0.0.1:8000/v1 --model my-model
  echo "How do you make cheese?" | hfstream generate --json | jq .token.text
""",
    "chat": """\
examples:
  hfstream chat
  hfstream chat --url http://127.0.0.1:11434/v1 --model llama3.2 --system "Be brief."
""",
    "serve": """\
examples:
  hfstream serve
  hfstream serve --port 9000 --max-concurrent-requests 8 --tokens-per-second 30
  HFSTREAM_API_KEY=secret hfstream serve --model ./my-checkpoint
  hfstream serve --model HuggingFaceTB/SmolLM2-135M-Instruct --served-model-name smollm2
""",
    "demo": """\
examples:
  hfstream demo
  hfstream demo "What is Deep Learning?" --url http://127.0.0.1:8080
""",
    "bench": """\
examples:
  hfstream bench http://127.0.0.1:8080
  hfstream bench http://127.0.0.1:8080 --requests 100 --concurrency 16 --max-new-tokens 128
""",
}


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the arguments (None: those of the process). `command` in the result is the function to call.

    Raises:
        SystemExit: The arguments are invalid (exit code 2; the usage of the command and the error are printed), or
            ``--help`` or ``--version`` was printed (0).
    """
    arguments, unknown = _build_parser().parse_known_args(argv)
    subparser: argparse.ArgumentParser = arguments.subparser
    if unknown:
        options = re.findall(r"--[a-z-]+", subparser.format_help())
        similar = difflib.get_close_matches(unknown[0].partition("=")[0], options, n=1)
        suggestion = f"; did you mean {similar[0]}?" if similar else ""
        subparser.error(f"unrecognized arguments: {' '.join(unknown)}{suggestion}")
    if getattr(arguments, "url", None) and getattr(arguments, "tokens_per_second", None):
        subparser.error("--tokens-per-second cannot be used with --url: it sets the pace of a server started here")
    if getattr(arguments, "served_model", None) and not (arguments.url or "").rstrip("/").endswith("/v1"):
        subparser.error("--model requires a URL that ends in /v1, of a server that can have several models")
    if subparser.prog.endswith(" chat") and arguments.model and arguments.url is None:
        subparser.error("--model requires --url: without it, chat talks to the bundled model")
    return arguments


def _build_parser() -> argparse.ArgumentParser:
    """The parser for all commands."""
    parser = argparse.ArgumentParser(
        prog="hfstream", description="Stream text from language models behind TGI's or OpenAI's HTTP API."
    )
    parser.add_argument("--version", action="version", version=f"hfstream {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(commands)
    _add_chat(commands)
    _add_serve(commands)
    _add_demo(commands)
    _add_bench(commands)
    return parser


def _add_generate(commands: Any) -> None:
    generate = _add_command(commands, "generate", "stream a response to the terminal")
    generate.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the prompt; if it is missing or -, it is read from stdin"
    )
    _add_server(generate)
    generate.add_argument("--details", action="store_true", help="print one line per token: text, probability, id")
    generate.add_argument("--json", action="store_true", help="print one line of JSON per token")
    _add_model(generate)
    _add_length(generate, "max_new_tokens")
    _add_sampling(generate)
    generate.add_argument("--top-k", type=int, metavar="K", help="sample from the K most likely tokens")
    generate.add_argument(
        "--top-p", type=float, metavar="P", help="sample from the most likely tokens with total probability P"
    )
    generate.add_argument(
        "--repetition-penalty", type=float, metavar="R", help="penalty for repeated tokens; 1 is none"
    )
    generate.add_argument("--stop", action="append", metavar="TEXT", help="stop at TEXT; can be used more than once")
    generate.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="speed of the server started without --url (default: 40 in a terminal, otherwise no limit)",
    )


def _add_chat(commands: Any) -> None:
    chat = _add_command(commands, "chat", "have a conversation with a model")
    _add_server(chat)
    chat.add_argument("--model", metavar="NAME", help="name of the model, if the server has several")
    chat.add_argument("--system", metavar="TEXT", help="system message")
    _add_length(chat, "max_tokens")
    _add_sampling(chat)


def _add_serve(commands: Any) -> None:
    serve = _add_command(commands, "serve", "start the reference server")
    serve.add_argument(
        "--model",
        default="bundled",
        metavar="MODEL",
        help="directory of a checkpoint, a GGUF file, the id of a model on the Hugging Face Hub, or 'bundled' "
        "(default: bundled)",
    )
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
        type=_positive,
        default=32,
        metavar="N",
        help="requests that the model runs together; further ones wait (default: 32)",
    )
    serve.add_argument(
        "--max-total-tokens",
        type=_positive,
        metavar="N",
        help="tokens of a prompt and its response together (default: the model's context)",
    )
    serve.add_argument(
        "--max-input-tokens",
        type=_positive,
        metavar="N",
        help="tokens of a prompt (default: one fewer than --max-total-tokens)",
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


def _add_demo(commands: Any) -> None:
    demo = _add_command(commands, "demo", "compare waiting and streaming, side by side")
    prompt = "How do you make cheese?"
    demo.add_argument("prompt", metavar="PROMPT", nargs="?", default=prompt, help=f"the prompt (default: {prompt})")
    _add_server(demo)
    demo.add_argument(
        "--tokens-per-second", type=float, metavar="N", help="speed of the server started without --url (default: 30)"
    )


def _add_bench(commands: Any) -> None:
    bench = _add_command(commands, "bench", "measure the speed of a server")
    bench.add_argument("url", metavar="URL", help="URL of the server")
    bench.add_argument("--api-key", metavar="KEY", help="bearer token to send")
    bench.add_argument(
        "--prompt", default="How do you make cheese?", help="the prompt (default: How do you make cheese?)"
    )
    bench.add_argument("--requests", type=_positive, default=20, metavar="N", help="number of requests (default: 20)")
    bench.add_argument("--concurrency", type=_positive, default=4, metavar="N", help="requests at a time (default: 4)")
    _add_model(bench)
    _add_length(bench, "max_new_tokens", default=64)


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--url", help="URL of the server; without it, a server with the bundled model is started for this command"
    )
    command.add_argument("--api-key", metavar="KEY", help="bearer token to send")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", dest="served_model", metavar="NAME", help="name of the model; only for a URL that ends in /v1"
    )


def _add_length(command: argparse.ArgumentParser, name: str, default: int | None = None) -> None:
    description = "maximum number of tokens to generate" + ("" if default is None else f" (default: {default})")
    # The APIs of text generation and chat use different names; accept both everywhere.
    command.add_argument(
        "--max-new-tokens", "--max-tokens", dest=name, type=int, default=default, metavar="N", help=description
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--temperature", type=float, metavar="T", help="sample with this temperature; higher is more random"
    )
    command.add_argument("--seed", type=int, metavar="N", help="random seed; the same seed gives the same response")


def _add_command(commands: Any, name: str, summary: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=_import_on_call(name), subparser=command)
    return command


def _import_on_call(name: str) -> Callable[..., int]:
    """The command's function, whose module is imported when it is called."""

    def run(*args: Any) -> int:
        module = importlib.import_module(f"{__package__}.{name}")
        code: int = getattr(module, name)(*args)
        return code

    return run


def _size(text: str) -> int:
    from ..server.settings import parse_size  # noqa: PLC0415  an optional dependency, and slow to import

    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number

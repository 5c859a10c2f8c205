"""What can be typed. Each command is imported when it is run: `--help` needs neither rich nor torch."""

from __future__ import annotations

import argparse
import difflib
import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from ..version import __version__

__all__ = ["parsed"]

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
  hfstream serve --model ./my-checkpoint --api-key "$KEY"
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


def parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was typed; exits with 2, and the words of the command that was meant, if it makes no sense."""
    arguments, unknown = _parser().parse_known_args(argv)
    if unknown:
        known = re.findall(r"--[a-z-]+", arguments.asked.format_help())
        meant = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        arguments.asked.error(f"unknown: {' '.join(unknown)}" + (f"; did you mean {meant[0]}?" if meant else ""))
    if getattr(arguments, "url", None) and getattr(arguments, "tokens_per_second", None):
        arguments.asked.error(
            "--tokens-per-second is for a server that is started here; the one at --url has its own pace"
        )
    if getattr(arguments, "served_model", None) and not (arguments.url or "").rstrip("/").endswith("/v1"):
        arguments.asked.error("--model is for servers that have several, whose URL ends in /v1")
    return arguments


def _parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    whole = argparse.ArgumentParser(prog="hfstream", description="A language model's answer, token by token.")
    whole.add_argument("--version", action="version", version=f"hfstream {__version__}")
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(commands)
    _add_chat(commands)
    _add_serve(commands)
    _add_demo(commands)
    _add_bench(commands)
    return whole


def _add_generate(commands: Any) -> None:
    generate = _command(commands, "generate", "stream an answer to the terminal")
    generate.add_argument("prompt", metavar="PROMPT", nargs="?", help="what to answer; without it, or -, from stdin")
    _add_server(generate)
    generate.add_argument("--details", action="store_true", help="a line for each token: text, probability, id")
    generate.add_argument("--json", action="store_true", help="a line of JSON for each token, for pipes")
    _add_model(generate)
    _add_length(generate, "max_new_tokens")
    _add_sampling(generate)
    generate.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="sample from the likeliest, up to probability P")
    generate.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: repeat less")
    generate.add_argument("--stop", action="append", metavar="TEXT", help="end with TEXT; may be given again")
    generate.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help="pace of a server without --url (default: 40 for a terminal)",
    )


def _add_chat(commands: Any) -> None:
    chat = _command(commands, "chat", "talk, turn by turn")
    _add_server(chat)
    chat.add_argument("--model", metavar="NAME", help="which of the server's models")
    chat.add_argument("--system", metavar="TEXT", help="what the model is told before")
    _add_length(chat, "max_tokens")
    _add_sampling(chat)


def _add_serve(commands: Any) -> None:
    serve = _command(commands, "serve", "start the reference server")
    serve.add_argument(
        "--model", default="bundled", metavar="PATH", help="'bundled', or a checkpoint's folder (default: bundled)"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8080, help="0 takes a free one (default: 8080)")
    serve.add_argument(
        "--max-concurrent-requests",
        "--max_concurrent_requests",
        type=int,
        default=128,
        metavar="N",
        help="answers at a time; one more is refused as overloaded (default: 128)",
    )
    serve.add_argument("--api-key", metavar="KEY", help="ask for this bearer token")
    serve.add_argument("--tokens-per-second", type=float, metavar="N", help="pace each answer, for demonstrations")
    serve.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"], help="of the weights")
    serve.add_argument("--threads", type=int, default=1, metavar="N", help="torch's threads (default: 1)")


def _add_demo(commands: Any) -> None:
    demo = _command(commands, "demo", "streaming and waiting, side by side")
    question = "How do you make cheese?"
    demo.add_argument("prompt", metavar="PROMPT", nargs="?", default=question, help=f"default: {question}")
    _add_server(demo)
    demo.add_argument(
        "--tokens-per-second", type=float, metavar="N", help="pace of a server without --url (default: 30)"
    )


def _add_bench(commands: Any) -> None:
    bench = _command(commands, "bench", "measure a server's streams")
    bench.add_argument("url", metavar="URL", help="the server")
    bench.add_argument("--api-key", metavar="KEY", help="sent as a bearer token")
    bench.add_argument("--prompt", default="How do you make cheese?", help="default: How do you make cheese?")
    bench.add_argument("--requests", type=_positive, default=20, metavar="N", help="how many (default: 20)")
    bench.add_argument("--concurrency", type=_positive, default=4, metavar="N", help="at a time (default: 4)")
    _add_model(bench)
    _add_length(bench, "max_new_tokens", default=64)


def _add_server(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--url", help="the server to ask; without it one is started with the bundled model, and ended afterwards"
    )
    command.add_argument("--api-key", metavar="KEY", help="sent as a bearer token")


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--model", dest="served_model", metavar="NAME", help="which of the models of a server whose URL ends in /v1"
    )


def _add_length(command: argparse.ArgumentParser, name: str, default: int | None = None) -> None:
    told = "length limit of an answer, in tokens" + ("" if default is None else f" (default: {default})")
    # Text generation and chat have two names for it, and nobody should have to know which is whose.
    command.add_argument(
        "--max-new-tokens", "--max-tokens", dest=name, type=int, default=default, metavar="N", help=told
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument("--temperature", type=float, metavar="T", help="sample; below 1 is tame, above 1 wild")
    command.add_argument("--seed", type=int, metavar="N", help="same seed, same answer")


def _command(commands: Any, name: str, does: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=does,
        description=does.capitalize() + ".",
        epilog=EXAMPLES[name],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(command=_lazily(name), asked=command)
    return command


def _lazily(name: str) -> Callable[..., int]:
    def run(*told: Any) -> int:
        module = importlib.import_module(f"{__package__}.{name}")
        code: int = getattr(module, name)(*told)
        return code

    return run


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number

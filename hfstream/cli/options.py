"""Command-line options. A command's module is imported when it runs, so `--help` needs neither rich nor torch."""

from __future__ import annotations

import argparse
import difflib
import importlib
import math
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..version import __version__
from .help_examples import EXAMPLES
from .request_options import add_api_key, add_length, add_model, add_sampling, add_server
from .serve_options import add_serve_options, positive
from .testing_options import add_chaos_options, add_mock_options, add_record_options

__all__ = ["parse_args"]


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parses the arguments (None: those of the process). `command` in the result is the function to call.

    Raises:
        SystemExit: The arguments are invalid (exit code 2; the usage of the command and the error are printed), or
            ``--help`` or ``--version`` was printed (0).
    """
    parser = _build_parser()
    words = sys.argv[1:] if argv is None else argv
    if not words:
        parser.print_help(sys.stderr)
        parser.exit(2)
    _check_command(parser, words)
    arguments, unknown = parser.parse_known_args(words)
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


def _check_command(parser: argparse.ArgumentParser, words: Sequence[str]) -> None:
    """Suggests a command for one that does not exist. argparse would only list them all."""
    name = next((word for word in words if not word.startswith("-")), None)
    if name is not None and name not in EXAMPLES:
        similar = difflib.get_close_matches(name, EXAMPLES, n=1, cutoff=0.5)
        suggestion = f"did you mean hfstream {similar[0]}?" if similar else f"there are {', '.join(EXAMPLES)}"
        parser.error(f"no command {name!r}: {suggestion}")


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
    _add_map(commands)
    _add_bench(commands)
    add_mock_options(_add_command(commands, "mock", "answer like a model, by rules or from a tape"))
    add_record_options(_add_command(commands, "record", "record the responses of a server on a tape"))
    add_chaos_options(_add_command(commands, "chaos", "put a bad network in front of a server"))
    _add_doctor(commands)
    return parser


def _add_generate(commands: Any) -> None:
    generate = _add_command(commands, "generate", "stream a response to the terminal")
    generate.add_argument(
        "prompt", metavar="PROMPT", nargs="?", help="the prompt; if it is missing or -, it is read from stdin"
    )
    add_server(generate)
    generate.add_argument("--details", action="store_true", help="print one line per token: text, probability, id")
    generate.add_argument("--json", action="store_true", help="print one line of JSON per token")
    add_model(generate)
    add_length(generate, "max_new_tokens")
    add_sampling(generate)
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
    add_server(chat)
    chat.add_argument("--model", metavar="NAME", help="name of the model, if the server has several")
    chat.add_argument("--system", metavar="TEXT", help="system message")
    add_length(chat, "max_tokens")
    add_sampling(chat)


def _add_serve(commands: Any) -> None:
    add_serve_options(_add_command(commands, "serve", "start the reference server"))


def _add_demo(commands: Any) -> None:
    demo = _add_command(commands, "demo", "compare waiting and streaming, side by side")
    prompt = "How do you make cheese?"
    demo.add_argument("prompt", metavar="PROMPT", nargs="?", default=prompt, help=f"the prompt (default: {prompt})")
    add_server(demo)
    demo.add_argument(
        "--tokens-per-second", type=float, metavar="N", help="speed of the server started without --url (default: 30)"
    )


def _add_map(commands: Any) -> None:
    command = _add_command(commands, "map", "ask the prompts of a file, several at a time")
    command.add_argument(
        "file", metavar="FILE", nargs="?", default="-", help="prompts as lines of JSON; - (default) is stdin"
    )
    add_server(command)
    command.add_argument(
        "--journal", metavar="JOURNAL", help="file that keeps the answers: a run that was interrupted goes on from it"
    )
    command.add_argument(
        "--concurrency",
        type=_concurrency,
        default="adaptive",
        metavar="N",
        help="prompts at a time, or 'adaptive' for as many as the server takes (default: adaptive)",
    )
    command.add_argument("--as-completed", action="store_true", help="print answers as they come, not in order")
    command.add_argument("--details", action="store_true", help="answers of text generation as objects, with tokens")
    add_model(command)
    add_length(command, "max_new_tokens")
    add_sampling(command)


def _concurrency(text: str) -> int | str:
    return text if text == "adaptive" else positive(text)


def _add_bench(commands: Any) -> None:
    bench = _add_command(commands, "bench", "measure the speed of a server")
    bench.add_argument("url", metavar="URL", help="URL of the server")
    add_api_key(bench)
    bench.add_argument(
        "--prompt", default="How do you make cheese?", help="the prompt (default: How do you make cheese?)"
    )
    bench.add_argument(
        "--requests", type=positive, default=20, metavar="N", help="requests at each concurrency (default: 20)"
    )
    bench.add_argument(
        "--concurrency",
        type=_numbers,
        default=[4],
        metavar="N[,N...]",
        help="requests at a time; several numbers are measured one after the other (default: 4)",
    )
    bench.add_argument(
        "--api", choices=["text", "chat"], default="text", help="text generation or chat completions (default: text)"
    )
    bench.add_argument("--json", metavar="FILE", help="write all figures to FILE; - is stdout")
    bench.add_argument("--plot", metavar="FILE.svg", help="draw them; SVG")
    add_model(bench)
    add_length(bench, "max_new_tokens", default=64)


def _add_doctor(commands: Any) -> None:
    doctor = _add_command(commands, "doctor", "say why a URL does not stream, and the line that mends it")
    doctor.add_argument("url", metavar="URL", help="URL of the server")
    add_api_key(doctor)
    doctor.add_argument(
        "--model",
        dest="model_name",
        metavar="NAME",
        help="name of the model (default: the first that the server lists)",
    )
    doctor.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="take at most so many seconds in all (default: 60)"
    )
    doctor.add_argument("--json", action="store_true", help="print what was found as JSON")


def _numbers(text: str) -> list[int]:
    return [positive(number) for number in text.split(",")]


def _seconds(text: str) -> float:
    """A positive number of seconds, as argparse takes it."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return number


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

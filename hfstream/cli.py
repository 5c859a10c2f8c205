"""The command line: `hfstream serve` and `hfstream generate`.

Answers go to stdout, as plain text and as they come; everything else goes to stderr. Exit codes: 0, 1 for what went
wrong on the way, 2 for what was typed wrong, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from tenacity import stop_after_delay

from . import InferenceClient, InferenceError, TokenStream
from .retry import retry_on_overload
from .version import __version__

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["main"]

PACE = 40.0
"""Tokens per second of the backend that `generate` starts for a person: the bundled model outruns any reader."""

PATIENCE = 30.0
"""Seconds for which `generate` asks again while the server is overloaded or still loading its model."""

GENERATE_EXAMPLES = """\
examples:
  hfstream generate "How do you make cheese?"
  hfstream generate "What is Deep Learning?" --url http://127.0.0.1:8080 --max-new-tokens 20
  hfstream generate "Tell me a joke" --temperature 0.9 --seed 7 --details
"""

SERVE_EXAMPLES = """\
examples:
  hfstream serve
  hfstream serve --port 9000 --max-concurrent-requests 8 --tokens-per-second 30
  hfstream serve --model ./my-checkpoint --api-key "$KEY"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        from rich.console import Console  # noqa: PLC0415  an extra: a library user has no need of it
    except ImportError:
        sys.stderr.write('hfstream: the command line needs rich: pip install "hfstream[cli]"\n')
        return 1
    notes = Console(stderr=True, highlight=False)
    try:
        code: int = arguments.command(arguments, notes)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at exit
        return 0
    except (InferenceError, ValueError, ImportError) as error:
        return _complain(notes, error)
    return code


def _complain(notes: Console, error: Exception) -> int:
    _say(notes, f"hfstream: {error}", style="red")
    return 1


def _say(notes: Console, text: str, *, style: str = "dim") -> None:
    # As it is: a prompt or a URL may look like rich's markup, and a line that is copied must not be broken.
    notes.print(text, style=style, markup=False, soft_wrap=True)


# generate ------------------------------------------------------------------------------------------------------------


def _generate(arguments: argparse.Namespace, notes: Console) -> int:
    names = ("max_new_tokens", "temperature", "top_k", "top_p", "repetition_penalty", "seed", "stop")
    parameters: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    with _backend(arguments, notes) as url, InferenceClient(url, token=arguments.api_key) as client:
        generate: Any = client.text_generation  # which form it takes is known when it runs

        # A person who has just started the server, or sees that it is busy, would wait a little: so do we.
        @retry_on_overload(stop=stop_after_delay(PATIENCE))
        def ask() -> TokenStream[Any]:
            stream: TokenStream[Any] = generate(arguments.prompt, stream=True, details=arguments.details, **parameters)
            return stream

        with ask() as stream:
            for item in stream:
                sys.stdout.write(f"{item}\n" if arguments.details else item)
                sys.stdout.flush()
        if not arguments.details:
            sys.stdout.write("\n")
            sys.stdout.flush()
        _sum_up(stream, notes)
    if arguments.url is None:
        _say(
            notes,
            "This was the bundled model, a demonstration. To keep it running: hfstream serve\n"
            f'then, from another terminal: hfstream generate "{arguments.prompt}" --url http://127.0.0.1:8080',
        )
    return 0


def _sum_up(stream: TokenStream[Any], notes: Console) -> None:
    metrics = stream.metrics
    first = 1000 * (metrics.time_to_first_token or 0)
    reason = getattr(stream.finish_reason, "value", stream.finish_reason)
    _say(
        notes,
        f"{metrics.tokens} tokens in {metrics.duration:.2f} s, the first after {first:.0f} ms, "
        f"then {metrics.tokens_per_second:.0f} a second; ended by {reason}.",
    )


@contextlib.contextmanager
def _backend(arguments: argparse.Namespace, notes: Console) -> Generator[str]:
    """The URL to ask: the one that was given, or a backend of our own for as long as it takes."""
    if arguments.url is not None:
        yield arguments.url
        return
    from .server import BackgroundServer, Settings, StartError  # noqa: PLC0415  an extra, and slow to import

    pace = arguments.tokens_per_second or (PACE if sys.stdout.isatty() else None)
    with contextlib.ExitStack() as stack:
        try:
            with notes.status("loading the bundled model …"):
                settings = Settings(tokens_per_second=pace, api_key=arguments.api_key)
                server = stack.enter_context(BackgroundServer(settings))
        except StartError as error:
            raise ValueError(str(error)) from error
        yield server.url


# serve ---------------------------------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace, notes: Console) -> int:
    from .server import Settings, StartError, serve  # noqa: PLC0415  an extra, and slow to import

    settings = Settings(
        model=arguments.model,
        host=arguments.host,
        port=arguments.port,
        max_concurrent_requests=arguments.max_concurrent_requests,
        api_key=arguments.api_key,
        tokens_per_second=arguments.tokens_per_second,
        dtype=arguments.dtype,
        threads=arguments.threads,
    )

    def started(url: str) -> None:
        _say(notes, f"hfstream {__version__} serves {settings.model} at {url}", style="")
        _say(notes, f'Try: hfstream generate "How do you make cheese?" --url {url}\nCtrl-C ends it.')

    try:
        serve(settings, started=started)
    except StartError as error:
        return _complain(notes, error)
    _say(notes, "Stopped.")
    return 0


# What can be typed ---------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="hfstream", description="A language model's answer, token by token.")
    parser.add_argument("--version", action="version", version=f"hfstream {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_generate(commands)
    _add_serve(commands)
    return parser


def _add_generate(commands: Any) -> None:
    generate = _command(commands, "generate", "stream an answer to the terminal", GENERATE_EXAMPLES)
    generate.set_defaults(command=_generate)
    generate.add_argument("prompt", metavar="PROMPT", help="what to answer")
    generate.add_argument("--url", help="a server to ask; without it, a backend of our own answers, and ends with it")
    generate.add_argument("--api-key", metavar="KEY", help="sent as a bearer token")
    generate.add_argument("--details", action="store_true", help="print every token with its id and log probability")
    generate.add_argument("--max-new-tokens", type=int, metavar="N", help="length limit of the answer, in tokens")
    generate.add_argument("--temperature", type=float, metavar="T", help="sample; below 1 is tame, above 1 wild")
    generate.add_argument("--top-k", type=int, metavar="K", help="sample from the K likeliest tokens")
    generate.add_argument("--top-p", type=float, metavar="P", help="sample from the likeliest, up to probability P")
    generate.add_argument("--repetition-penalty", type=float, metavar="R", help="above 1: repeat less")
    generate.add_argument("--seed", type=int, metavar="N", help="same seed, same answer")
    generate.add_argument("--stop", action="append", metavar="TEXT", help="end with TEXT; may be given again")
    generate.add_argument(
        "--tokens-per-second",
        type=float,
        metavar="N",
        help=f"pace of our own backend (default: {PACE:.0f} for a terminal, none for a pipe)",
    )


def _add_serve(commands: Any) -> None:
    serve = _command(commands, "serve", "start the reference backend", SERVE_EXAMPLES)
    serve.set_defaults(command=_serve)
    serve.add_argument("--model", default="bundled", help="'bundled', or a checkpoint's folder (default: bundled)")
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
    serve.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    serve.add_argument("--threads", type=int, default=1, metavar="N", help="torch's threads (default: 1)")


def _command(commands: Any, name: str, does: str, examples: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=does,
        description=does.capitalize() + ".",
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

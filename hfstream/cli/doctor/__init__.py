"""`hfstream doctor`: says why a URL does not stream as it should, and the line that mends it."""

from __future__ import annotations

import argparse
import json
from urllib.parse import parse_qsl, urlsplit

from rich.console import Console

from ..._model_argument import validate_model
from ...core.urls import is_url, split_credentials
from ..api_keys import key_of_environment
from ..terminal import Terminal
from .checks import examine
from .findings import Finding, Report, Severity
from .prober import MAX_REQUESTS, Prober
from .questions import MAX_TOKENS
from .rendering import render
from .words import plain, shown_url

__all__ = ["doctor"]


def doctor(arguments: argparse.Namespace, terminal: Terminal) -> int:
    """Examines a URL, and prints what was found.

    Returns 0 if there is nothing to mend, 3 for warnings, 1 for errors, and 130 after Ctrl-C, which prints what was
    found until then.
    """
    url = _check_url(arguments.url)
    variable, key = key_of_environment(url)
    used = key is not None and not arguments.api_key
    key = arguments.api_key or key
    terminal.print_note(
        f"asks {shown_url(url)} with at most {MAX_REQUESTS} short requests, for at most {MAX_TOKENS} tokens in all, "
        f"in at most {arguments.timeout:g} s" + (f", with the API key of {variable}" if used else "")
    )
    report = Report(shown_url(url))
    prober = Prober(url, key, seconds=arguments.timeout, max_tokens=MAX_TOKENS)
    code = 0
    try:
        examine(report, prober, model=arguments.model_name, key=bool(key))
    except Exception as error:  # noqa: BLE001  a server can answer anything: what was found so far is worth more than a traceback
        words = f"{type(error).__name__}: {plain(str(error))}"
        summary = "The doctor failed in the middle: please report this, with the URL's kind of server"
        severity = Severity.NOTE if report.has("streaming") else Severity.ERROR
        report.add([Finding("doctor", severity, summary, (words,))])
    except KeyboardInterrupt:
        report.add([Finding("doctor", Severity.NOTE, "Ended by Ctrl-C before all was asked")])
        code = 130
    finally:
        prober.close()
    report.requests, report.tokens, report.seconds = prober.requests, prober.tokens, prober.elapsed
    _print(report, terminal, as_json=arguments.json, secrets=_secrets(url, key))
    return code or report.exit_code


def _check_url(url: str) -> str:
    """The URL, if it is one.

    Raises:
        ValueError: It is none. The message shows no secrets.
    """
    if is_url(url):
        validate_model(url)
        return url
    if "://" in url:
        validate_model(url)  # raises, and says why
    raise ValueError(
        f"the doctor needs a URL such as http://127.0.0.1:8080 or https://router.huggingface.co/v1, not {plain(url)!r}"
    )


def _secrets(url: str, key: str | None) -> list[str]:
    """What must not be shown, although a server may repeat it: the key, and user, password and query of the URL."""
    parts = urlsplit(url)
    _, authorization = split_credentials(url)
    values = [value for _, value in parse_qsl(parts.query)]
    found = [key, parts.password, parts.username, (authorization or "").removeprefix("Basic "), *values]
    return sorted({secret.strip() for secret in found if secret and len(secret.strip()) > 4}, key=len, reverse=True)


def _print(report: Report, terminal: Terminal, *, as_json: bool, secrets: list[str]) -> None:
    report = report.without(secrets)
    if as_json:
        terminal.write(json.dumps(report.as_json(), indent=2, ensure_ascii=False) + "\n")
        return
    console = Console(highlight=False)
    console.print(render(report, min(console.width, 100)), soft_wrap=True, end="")

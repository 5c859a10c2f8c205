"""The command: what it prints, its limits, its exit codes, and what it never shows."""

from __future__ import annotations

import re
import time

import pytest

from hfstream.cli import main
from hfstream.cli.doctor import checks, features
from hfstream.cli.doctor.words import plain, redact
from hfstream.testing import Fault, Response, ScriptedServer
from tests.helpers.modules import MODULES, imports_of, within

from .conftest import Diagnose, ModelServer

KEY = "sk-secret-key-of-mine"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["doctor", *arguments])
    output = capsys.readouterr()
    return code, output.out, output.err


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SETTLE_SECONDS", 0.0)
    monkeypatch.delenv("HFSTREAM_API_KEY", raising=False)
    monkeypatch.setenv("COLUMNS", "80")


def test_the_first_line_is_the_diagnosis(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(Response.error(429, "Model is overloaded", "overloaded", Retry_After="3")) as server:
        code, output, notes = run(capsys, server.url)
        url = server.url
    assert code == 1
    lines = output.splitlines()
    assert lines[0] == "error    The server is overloaded: HTTP 429; it asks to wait 3 s"
    assert lines[1] == f"           {url}/v1/chat/completions: HTTP 429,"
    assert lines[-1].startswith("3 requests, 64 tokens asked for, ")
    assert notes.replace("\n", " ").startswith(
        f"asks {url} with at most 12 short requests, for at most 756 tokens in all, in at most 60 s"
    )


def test_the_text_is_plain_and_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(ModelServer(tokens=5)) as server:
        code, output, _ = run(capsys, server.url)
    assert code == 0
    assert "\x1b" not in output
    assert max(map(len, output.splitlines())) <= 80
    assert output.startswith("ok       It streams, token by token: the first after ")
    assert re.search(r"^works    chat, usage, tool calls, JSON of a schema, tokenize$", output, re.MULTILINE)
    assert re.search(r"^lacks    resume, text generation$", output, re.MULTILINE)


def test_a_line_that_mends_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """It is for copying: never wrapped, and alone on its line."""
    with ScriptedServer(ModelServer(tokens=5, running=1)) as server:
        code, output, _ = run(capsys, server.url)
    assert code == 3
    assert "\nmend     nginx, in the location that passes requests to the model server:\n" in output
    assert "\n             proxy_ignore_client_abort off;\n" in output


@pytest.mark.slow
def test_no_key_is_shown_even_if_the_server_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for options in ((), ("--json",)):
        with ScriptedServer(ModelServer(key="another key")) as server:
            code, output, notes = run(capsys, server.url, "--api-key", KEY, *options)
        assert code == 1
        assert "The server does not accept this API key: HTTP 401" in output
        assert "[secret]" in output
        assert KEY not in output + notes
    monkeypatch.setenv("HFSTREAM_API_KEY", KEY)
    with ScriptedServer(ModelServer(key=KEY, tokens=5)) as server:
        code, output, notes = run(capsys, server.url)
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert code == 0
    assert "with the API key of HFSTREAM_API_KEY" in notes.replace("\n", " ")
    assert KEY not in output + notes


def test_the_beginning_of_a_key_is_not_shown_either() -> None:
    """What a server says is cut off where it is long: the cut may be within the key."""
    for padding in range(120, 165):
        text = plain("x" * padding + f" {KEY}")
        assert KEY[:6] not in redact(text, [KEY])
    assert redact(f"{KEY}, {KEY} and sk-other", [KEY]) == "[secret], [secret] and sk-other"
    assert redact("nothing", [KEY]) == "nothing"


def test_user_and_password_of_the_url_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(Response.error(404, "no")) as server:
        url = server.url.replace("http://", "http://someone:secret-password@") + "?token=secret-token"
        _, output, notes = run(capsys, url, "--json")
        assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert not re.search("secret-password|secret-token|someone", output + notes)


def test_control_characters_of_a_server_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ScriptedServer(Response.error(422, "\x1b[2Jgone\x07 \u202e", "validation")) as server:
        _, output, _ = run(capsys, server.url)
    assert "gone" in output
    assert not set("\x1b\x07\u202e") & set(output)


def test_its_time_is_limited(capsys: pytest.CaptureFixture[str]) -> None:
    """A server that never answers, at every step."""
    started = time.monotonic()
    with ScriptedServer(Response([Fault.STALL])) as server:
        code, output, _ = run(capsys, server.url, "--timeout", "0.5")
    assert code == 1
    assert time.monotonic() - started < 30  # and not 60, on any machine
    assert output.startswith("error    ")


def test_a_failure_of_its_own_is_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> object:
        raise RuntimeError("impossible")

    monkeypatch.setattr(checks, "time_stream", fail)
    with ScriptedServer(ModelServer(tokens=5)) as server:
        code, output, _ = run(capsys, server.url)
    assert code == 1
    assert output.startswith("error    The doctor failed in the middle: please report this")
    assert "RuntimeError: impossible" in output
    assert "Reached 127.0.0.1" in output  # what was found before


def test_ctrl_c_shows_what_was_found(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks, "time_stream", interrupt)
    with ScriptedServer(ModelServer(tokens=5)) as server:
        code, output, _ = run(capsys, server.url)
    assert code == 130
    assert "Ended by Ctrl-C" in output


@pytest.mark.parametrize("url", ["org/model", "localhost:8080", "ftp://host", "http://"])
def test_what_is_no_url_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, output, notes = run(capsys, url)
    assert (code, output) == (1, "")
    assert notes.startswith("hfstream: ")


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan", "soon"])
def test_a_timeout_is_a_positive_number(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["doctor", "http://127.0.0.1:1", "--timeout", seconds])
    assert caught.value.code == 2
    assert "--timeout" in capsys.readouterr().err


def test_parameters_that_a_server_refuses_are_left_out(diagnose: Diagnose) -> None:
    """OpenAI's reasoning models want max_completion_tokens, and old servers have no stream_options."""
    refused = [Response.error(400, f"Unsupported parameter: '{name}'") for name in ("max_tokens", "stream_options")]
    model = ModelServer(tokens=5)
    with ScriptedServer(model, model, refused[1], *[model] * 2) as server:
        diagnosis = diagnose(server.url)
        assert "stream_options" not in server.requests[3].body.decode()
    assert diagnosis.first.startswith("It streams")


def test_the_command_imports_no_server() -> None:
    own = [module for module in MODULES if within(module, "hfstream.cli.doctor")]
    imports = [found for module in own for found in imports_of(module)]
    assert imports
    assert not [found for found in imports if within(found.name, "hfstream.server")]

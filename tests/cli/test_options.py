"""Tests of the command-line options, their help texts and errors."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hfstream import __version__
from hfstream.cli import main
from hfstream.cli.options import parse_args
from hfstream.testing import DONE, Response, ScriptedServer, token_events
from tests.helpers.command_line import TIMEOUT, run_hfstream

pytestmark = pytest.mark.slow


def test_help_of_every_command_has_examples() -> None:
    for command in ("generate", "chat", "serve", "demo", "map", "bench", "doctor"):
        done = run_hfstream(command, "--help")
        assert done.returncode == 0
        assert "examples:" in done.stdout
    assert run_hfstream("serve", "--no-such-thing").returncode == 2


def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "hfstream", "--version"], capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"hfstream {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "stream a response to the terminal"),
        (["serv"], "no command 'serv': did you mean hfstream serve?"),
        (["xyzzy"], "no command 'xyzzy': there are generate, chat, "),
    ],
)
def test_what_names_no_command_is_explained(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        parse_args(arguments)
    assert raised.value.code == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert message in stderr


def test_invalid_options_print_the_usage_of_the_command() -> None:
    for arguments, message in [
        (["serve", "--prot", "80"], "did you mean --port?"),
        (
            ["generate", "Hi", "--url", "http://127.0.0.1:9", "--tokens-per-second", "3"],
            "--tokens-per-second cannot be used with --url",
        ),
        (["generate", "Hi", "--url", "http://127.0.0.1:9", "--model", "small"], "requires a URL that ends in /v1"),
        (["chat", "--model", "small"], "--model requires --url"),
        (["bench"], "required: URL"),
    ]:
        done = run_hfstream(*arguments)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.startswith(f"usage: hfstream {arguments[0]} ")


def test_both_names_of_the_length_limit_work_for_every_command(backend: str) -> None:
    for name in ("--max-tokens", "--max-new-tokens"):
        done = run_hfstream("generate", "How do you make cheese?", "--url", backend, name, "5", "--details")
        assert len(done.stdout.splitlines()) == 5
        assert run_hfstream("chat", "--url", backend, name, "3", stdin="Hi\n").returncode == 0


def test_model_is_sent_to_a_server_with_several_models() -> None:
    with ScriptedServer(Response([b'data: {"choices":[{"text":"Hi","finish_reason":"stop"}]}\n\n', DONE])) as server:
        done = run_hfstream("generate", "Hello", "--url", f"{server.url}/v1", "--model", "small")
        assert (done.returncode, done.stdout) == (0, "Hi\n"), done.stderr
        assert server.requests[0].json()["model"] == "small"


@pytest.mark.parametrize(
    "command", [["generate", "Hi", "--url"], ["bench", "--requests", "1"]], ids=["generate", "bench"]
)
@pytest.mark.parametrize("given", [(), ("--api-key", "other")], ids=["environment", "option"])
def test_an_api_key_may_be_in_the_environment(
    command: list[str], given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFSTREAM_API_KEY", "secret")
    with ScriptedServer(Response(token_events("Hello"))) as server:
        assert main([*command, server.url, *given]) == 0
        assert {request.headers["authorization"] for request in server.requests} == {
            f"Bearer {given[-1] if given else 'secret'}"
        }


def test_a_missing_api_key_is_explained_in_words_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HFSTREAM_API_KEY", raising=False)
    with ScriptedServer(Response(status=401)) as server:
        assert main(["generate", "Hi", "--url", server.url]) == 1
    assert (
        "HTTP 401: the API key is missing or wrong: pass --api-key, or set HFSTREAM_API_KEY" in capsys.readouterr().err
    )

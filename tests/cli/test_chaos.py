"""Tests of `hfstream chaos`."""

from __future__ import annotations

import re

import httpx
import pytest

from hfstream.cli import chaos
from hfstream.testing import Response, ScriptedServer, token_events
from tests.helpers.command_line import TIMEOUT, run_hfstream, running_hfstream, stop_hfstream

pytestmark = pytest.mark.slow

LONG = token_events(*[f" {number}" for number in range(100)])


def run(url: str, *options: str, requests: int = 4) -> tuple[list[bytes | None], list[str]]:
    """The bodies that came through, None for what broke; and what the command printed after its last heading."""
    bodies: list[bytes | None] = []
    with running_hfstream("chaos", url, "--port", "0", *options) as (process, _, lines):
        for _ in range(requests):
            try:
                bodies.append(httpx.get(f"{lines[-1].split()[-1]}/path?key=secret", timeout=TIMEOUT).content)
            except httpx.TransportError:
                bodies.append(None)
        stderr = stop_hfstream(process)
    assert process.returncode == 0
    assert "secret" not in stderr
    return bodies, stderr.partition("Press Ctrl-C to stop.\n")[2].splitlines()


def test_what_was_done_to_whom_is_counted() -> None:
    with ScriptedServer(Response(LONG)) as server:
        bodies, lines = run(server.url, "--faults", "cut", "--every", "20000", "--seed", "3")
    *connections, last = lines
    assert len(connections) == 4
    whole = b"".join(LONG)
    for number, (body, line) in enumerate(zip(bodies, connections, strict=True), 1):
        outcome = "no faults" if body == whole else "cut 1"
        pattern = rf" +{number}  127\.0\.0\.1:\d+  GET /path  [\d,]+ bytes up, [\d,]+ down  {outcome}"
        assert re.fullmatch(pattern, line)
    assert {body is None for body in bodies} == {True, False}
    assert last == f"Stopped after 4 connections: cut {bodies.count(None)}."


def test_the_same_seed_does_the_same() -> None:
    def counts(seed: str) -> list[str]:
        bodies, lines = run(server.url, "--faults", "cut=1,split=4", "--every", "3000", "--seed", seed)
        assert bodies
        return [line.rpartition("  ")[2] for line in lines]

    with ScriptedServer(Response(LONG)) as server:
        first = counts("1")
        assert counts("1") == first
        assert counts("2") != first


def test_a_server_with_a_name_gets_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through a proxy that knows HTTP: the other one passes on the name that the client has written."""
    with ScriptedServer(Response(LONG)) as server:
        host = server.url.removeprefix("http://")
        for named in (True, False):
            monkeypatch.setattr(chaos, "is_address", lambda _, named=named: not named)
            with chaos.reachable(server.url) as url:
                assert (url == server.url) == (not named)
                assert httpx.get(url).content == b"".join(LONG)
            assert server.requests[-1].headers["host"] == host


def test_addresses_are_told_from_names() -> None:
    assert [chaos.is_address(host) for host in ("127.0.0.1", "::1", "localhost", "tgi", "example.org", "")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["http://127.0.0.1:9", "--faults", "fire"], 2, "'fire' is not a fault: there are split, delay, cut, reset"),
        (["http://127.0.0.1:9", "--faults", "cut=0"], 2, "'0' is not a number greater than 0"),
        (["http://127.0.0.1:9", "--every", "0"], 2, "'0' is not a number greater than 0"),
        (["http://127.0.0.1:9", "--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1, port 8082: "),
        (["nonsense"], 1, "nonsense is not the URL of a server"),
    ],
)  # fmt: skip
def test_mistakes_are_named(arguments: list[str], code: int, message: str) -> None:
    done = run_hfstream("chaos", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr

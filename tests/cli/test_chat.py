"""Tests of `hfstream chat`."""

from __future__ import annotations

import pytest

from hfstream.testing import Request, Response, ScriptedServer, chat_event, chat_events
from tests.helpers.command_line import PAUSE, TIMEOUT, TerminalProcess, run_hfstream

pytestmark = pytest.mark.slow


def test_chat_sends_the_whole_conversation() -> None:
    def respond(request: Request) -> Response:
        contents = [message["content"] for message in request.json()["messages"]]
        return Response(chat_events(f"{len(contents)}: ", contents[-1]))

    with ScriptedServer(respond) as server:
        done = run_hfstream("chat", "--url", server.url, "--system", "Be brief.", stdin="one\n\ntwo\n")
        assert (done.returncode, done.stdout) == (0, "2: one\n4: two\n")
        roles = [message["role"] for message in server.requests[-1].json()["messages"]]
        assert roles == ["system", "user", "assistant", "user"]


def test_chat_continues_after_an_error() -> None:
    with ScriptedServer(Response.error(422, "no such thing", "validation"), Response(chat_events("Yes"))) as server:
        done = run_hfstream("chat", "--url", server.url, stdin="one\ntwo\n")
        assert (done.returncode, done.stdout) == (1, "Yes\n")
        assert "hfstream: no such thing" in done.stderr
        assert [message["content"] for message in server.requests[-1].json()["messages"]] == ["two"]


def test_chat_without_a_server_exits_immediately() -> None:
    done = run_hfstream("chat", "--url", "http://127.0.0.1:9", stdin="one\ntwo\n")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("cannot connect") == 1


def test_ctrl_c_stops_a_response_but_not_the_chat() -> None:
    """Needs a terminal: only there does chat print a prompt and survive Ctrl-C."""
    first, *rest = [chat_event("Hel"), chat_event("lo")]
    with ScriptedServer(Response([first, *PAUSE, *rest]), Response(chat_events("Again"))) as server:
        with TerminalProcess("chat", "--url", server.url) as screen:
            screen.wait_for("you> ")
            screen.type("one\n")
            screen.wait_for("Hel")
            screen.interrupt("[stopped]")
            assert server.wait_until_running(0, timeout=TIMEOUT)
            screen.wait_for("you> ")
            screen.type("two\n")
            screen.wait_for("Again")
            screen.wait_for("you> ")
            screen.type("half a li")
            screen.wait_for("half a li")
            screen.interrupt("Ctrl-D ends the chat")
            screen.wait_for("you> ")
            screen.type("\x04")
        assert [message["content"] for message in server.requests[-1].json()["messages"]] == ["one", "Hel", "two"]


def test_commands_of_a_chat_are_not_sent() -> None:
    first = [chat_event("Hel"), b'data: {"error":{"message":"broken","http_status_code":422}}\n\n']
    with ScriptedServer(Response(chat_events("Yes")), Response(chat_events("/etc")), Response(first)) as server:
        with TerminalProcess("chat", "--url", server.url, "--system", "Be brief.") as screen:
            screen.wait_for("you> ")
            screen.type("one\n")
            screen.wait_for("Yes")
            screen.wait_for("you> ")
            screen.type("/rest\n")
            screen.wait_for("There is no /rest. /reset forgets the conversation")
            screen.wait_for("you> ")
            screen.type("/reset\n")
            screen.wait_for("The conversation begins anew.")
            screen.wait_for("you> ")
            screen.type("/etc/hosts\n")
            screen.wait_for("/etc\r\n")
            screen.wait_for("you> ")
            screen.type("three\n")
            screen.wait_for("Hel\r\nhfstream: broken")
            screen.wait_for("you> ")
            screen.type("/exit\n")
        asked = [[message["content"] for message in request.json()["messages"]] for request in server.requests]
        assert asked == [
            ["Be brief.", "one"],
            ["Be brief.", "/etc/hosts"],
            ["Be brief.", "/etc/hosts", "/etc", "three"],
        ]

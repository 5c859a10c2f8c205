"""Streams that something on the way holds back: buffers, compression, HTTP/1.0. Scripted, with their own pauses."""

from __future__ import annotations

import gzip
import json

import pytest

from hfstream.cli.doctor import checks
from hfstream.cli.doctor.pacing import judge_pacing
from hfstream.cli.doctor.prober import Recorded
from hfstream.cli.doctor.streaming import Streaming, buffer_size, is_delayed
from hfstream.testing import Request, Response, ScriptedServer, Step, chat_events

from .conftest import Diagnose, ModelServer, events, paced

SECONDS = 0.015
"""That a token takes to make."""


@pytest.fixture(autouse=True)
def only_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else works takes more of these slow streams, and is not the question here."""
    monkeypatch.setattr(checks._Examination, "_check_rest", lambda *_, **__: None)


def wants_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def in_one_lump(chunks: list[bytes], request: Request) -> Response:
    """As of a proxy that sends on nothing before all has come."""
    return Response([b"".join(chunks)], delay=SECONDS * len(chunks), headers={"Server": "nginx/1.22.1"})


def in_lumps_of(size: int, **headers: str) -> object:
    """As of a proxy that sends on what it has whenever a buffer is full."""

    def respond(chunks: list[bytes], request: Request) -> Response:
        steps: list[Step] = []
        waiting = b""
        for chunk in chunks:
            steps.append(SECONDS)
            waiting += chunk
            if len(waiting) > size:
                steps.append(waiting[:size])
                waiting = waiting[size:]
        return Response([*steps, waiting], headers=headers)

    return respond


def gzipped_whole(chunks: list[bytes], request: Request) -> Response:
    """As of a compressor that is never flushed."""
    if not wants_gzip(request):
        return paced(chunks, SECONDS)
    body = gzip.compress(b"".join(chunks), mtime=0)
    return Response([body], delay=SECONDS * len(chunks), headers={"Content-Encoding": "gzip"})


def gzipped_in_turn(chunks: list[bytes], request: Request) -> Response:
    """As of a compressor that is flushed after each event."""
    if not wants_gzip(request):
        return paced(chunks, SECONDS)
    return paced([gzip.compress(chunk, mtime=0) for chunk in chunks], SECONDS, headers={"Content-Encoding": "gzip"})


def in_http_1_0(chunks: list[bytes], request: Request) -> Response:
    """As of a proxy that speaks HTTP/1.0: the body ends with the connection."""
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    return paced([head, *chunks], SECONDS, raw=True)


def with_a_length(chunks: list[bytes], request: Request) -> Response:
    """As of a serverless platform, which collects a response before it sends it."""
    body = b"".join(chunks)
    headers = {"Content-Length": str(len(body)), "x-amz-apigw-id": "abc="}
    return Response([body], delay=SECONDS * len(chunks), headers=headers)


def test_tokens_one_by_one(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(tokens=8)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("It streams, token by token: the first after ")
    assert diagnosis.code == 0
    assert "print(token, end=" in diagnosis.evidence
    assert diagnosis.report["times"].keys() == {
        "time_to_first_token", "median_between_tokens", "longest_between_tokens", "last_token",
    }  # fmt: skip


def test_a_buffer_that_holds_all_back(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(in_one_lump, tokens=16)) as server:
        diagnosis = diagnose(server.url)
        assert len(server.requests) <= 12
    assert diagnosis.first.startswith("The stream is held back: all ")
    assert diagnosis.first.endswith("nginx collects them")
    assert diagnosis.lines == ["proxy_buffering off;", "X-Accel-Buffering: no"]
    assert "Server: nginx/1.22.1" in diagnosis.evidence
    assert "a request for one token was answered after" in diagnosis.evidence
    assert "proxy_read_timeout" in diagnosis.finding("silence")["summary"]
    assert diagnosis.code == 1


@pytest.mark.slow
def test_a_proxy_of_the_environment_is_suspected_first(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(ModelServer(in_one_lump, tokens=16)) as server:
        monkeypatch.setenv("HTTP_PROXY", server.url)
        diagnosis = diagnose("http://model.example:8080")
        assert diagnosis.evidence.endswith(f"the requests went through the proxy {server.url} (from HTTP_PROXY)")
    assert diagnosis.first.startswith("The stream is held back")
    assert diagnosis.lines[0] == "export NO_PROXY=model.example"


@pytest.mark.slow
def test_a_buffer_of_one_size(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(in_lumps_of(2048), tokens=40)) as server:  # type: ignore[arg-type]
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("The tokens come in lumps: ")
    assert diagnosis.first.endswith("; something before the server collects them")
    assert "a buffer of 2,048 bytes cuts events in two" in diagnosis.evidence
    assert diagnosis.lines[:2] == ["proxy_buffering off;", "X-Accel-Buffering: no"]


def test_compression_that_holds_all_back(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(gzipped_whole, tokens=16)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("Compression holds the stream back: with gzip all ")
    assert "gzip off;" in diagnosis.lines
    assert "Accept-Encoding: identity" in diagnosis.lines
    assert "again, without compression" in diagnosis.evidence
    assert diagnosis.code == 1


def test_compression_that_holds_nothing_back(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(gzipped_in_turn, tokens=8)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("It streams, token by token")
    assert diagnosis.finding("compression")["summary"].startswith("The stream is compressed (gzip)")
    assert diagnosis.code == 0


def test_a_proxy_that_speaks_http_1_0(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(in_http_1_0, tokens=8)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("A proxy answers in HTTP/1.0")
    assert diagnosis.lines[0] == "proxy_http_version 1.1;"
    assert diagnosis.code == 3
    assert diagnosis.finding("streaming")["severity"] == "ok"


@pytest.mark.slow
def test_a_platform_that_collects_whole_responses(diagnose: Diagnose) -> None:
    with ScriptedServer(ModelServer(with_a_length, tokens=20)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.endswith("AWS API Gateway collects them")
    assert '"responseTransferMode": "STREAM"' in diagnosis.lines
    assert "says that all was collected before the head was sent" in diagnosis.evidence


def test_a_server_that_sends_lumps_itself(diagnose: Diagnose) -> None:
    def respond(chunks: list[bytes], request: Request) -> Response:
        usage = json.dumps({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 40, "total_tokens": 45}})
        return paced(
            [*chat_events(" a b c", " d e f", " g h i", " j k l")[:-1], f"data: {usage}\n\n".encode()], SECONDS
        )

    with ScriptedServer(ModelServer(respond)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("The server itself sends lumps: about ")
    assert diagnosis.code == 3


def test_a_stream_under_another_name(diagnose: Diagnose) -> None:
    def respond(chunks: list[bytes], request: Request) -> Response:
        return paced(chunks, SECONDS, content_type="text/plain")

    with ScriptedServer(ModelServer(respond, tokens=6)) as server:
        diagnosis = diagnose(server.url)
    assert diagnosis.first.startswith("The stream is named text/plain")
    assert diagnosis.lines == ["Content-Type: text/event-stream"]


def test_a_stream_without_its_end(diagnose: Diagnose) -> None:
    def respond(chunks: list[bytes], request: Request) -> Response:
        return paced(chunks[:-2], SECONDS)

    with ScriptedServer(ModelServer(respond, tokens=6)) as server:
        end = diagnose(server.url).finding("end")
    assert end["summary"] == "The stream ends without [DONE]: clients that wait for it fail"
    assert end["evidence"] == ["finish reason stop", "no usage", "no [DONE]"]


@pytest.mark.parametrize(
    ("sizes", "size"),
    [([4096, 4096, 4096], 4096), ([4096, 4095, 4097], 0), ([1448, 1448, 1448], 0), ([2048], 0), ([], 0)],
)
def test_a_buffer_shows_by_its_size(sizes: list[int], size: int) -> None:
    body = b"x" * sum(sizes)
    assert buffer_size(Recorded("http://x", body=body, read_sizes=sizes)) == size


def test_whole_events_of_one_size_are_no_buffer() -> None:
    body = b"".join(events(30))
    sizes = [len(body), len(body)]
    assert buffer_size(Recorded("http://x", body=body * 2, read_sizes=sizes)) == 0


def test_lumps_of_haproxy_have_pauses_of_their_own() -> None:
    """Without ``option http-no-delay`` it sends what it has every 200 ms; these are the times of a real one."""
    lumps = [0.213 + 0.199 * lump for lump in range(8)]
    arrivals = [at for at in lumps for _ in range(8)]
    recorded = Recorded("http://x", headers={"content-type": "text/event-stream"}, arrivals=arrivals, reads=lumps)
    finding = Streaming(recorded, judge_pacing(arrivals)).finding()
    assert (
        finding.summary
        == "The tokens come in lumps: 64 tokens in 8 lumps, 199 ms apart; a proxy such as HAProxy collects them"
    )
    assert finding.mend[0].line == "option http-no-delay"
    assert len({mend.line for mend in finding.mend}) == len(finding.mend)
    assert not is_delayed(judge_pacing([at * 1.5 for at in arrivals]))
    assert not is_delayed(judge_pacing(arrivals[:24]))

"""Our client against a server that we did not write: `transformers serve`, with the bundled model.

Its streams end without ``[DONE]``, several events may come in one piece, and its errors are ``{"detail": ...}``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import hfstream
from hfstream import AsyncInferenceClient, InferenceClient
from hfstream.server import BackgroundServer, Settings

MODEL = str(Path(hfstream.__file__).parent / "server" / "bundled")
CHEESE = [{"role": "user", "content": "How do you make cheese?"}]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", MODEL]
    command += ["--device", "cpu", "--port", str(port)]
    with subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"}) as process:
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=5).close()
                    break
                except OSError:
                    assert process.poll() is None, "transformers serve did not start"
                    assert time.monotonic() < deadline, "transformers serve does not answer"
                    time.sleep(0.2)
            yield url
        finally:
            process.terminate()


def test_a_chat_streams(server: str) -> None:
    client = InferenceClient(f"{server}/v1")
    stream = client.chat_completion(CHEESE, model=MODEL, max_tokens=200, temperature=0, stream=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert "curd" in text
    assert stream.text == text
    assert stream.finish_reason == "stop"
    final = stream.final()
    assert final.choices[0].message.content == text
    assert final.usage is not None
    assert final.usage.completion_tokens > 20


def test_the_same_answer_comes_whole(server: str) -> None:
    client = InferenceClient(base_url=server, api_key="-")
    answer = client.chat.completions.create(CHEESE, model=MODEL, max_tokens=200, temperature=0)
    assert "curd" in (answer.choices[0].message.content or "")


def test_async(server: str) -> None:
    async def main() -> list[str]:
        async with AsyncInferenceClient(server) as client:

            async def ask() -> str:
                stream = await client.chat_completion(CHEESE, model=MODEL, max_tokens=200, temperature=0, stream=True)
                async for chunk in stream:
                    assert chunk.choices
                return stream.text

            return await asyncio.gather(ask(), ask(), ask())

    assert len(set(asyncio.run(main()))) == 1


def test_text_at_v1(server: str) -> None:
    client = InferenceClient(f"{server}/v1")
    stream = client.text_generation("How do you make cheese?", model=MODEL, max_new_tokens=12, stream=True)
    assert "".join(stream) == stream.final() != ""


def test_the_doctor_knows_what_it_can_do(server: str) -> None:
    options = ["--model", MODEL, "--timeout", "600", "--json"]
    command = [sys.executable, "-m", "hfstream", "doctor", f"{server}/v1", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    report = json.loads(done.stdout)
    # On a busy machine this server's own thread sends several tokens at a time, and then that is the diagnosis.
    assert report["diagnosis"].startswith(("It streams", "The tokens come in lumps"))
    assert done.returncode == (0 if report["severity"] in ("ok", "note") else 1)
    assert report["works"]["chat"] is True
    assert report["works"]["tokenize"] is False  # it has no such route
    assert report["requests"] <= 12


def test_an_error_is_told(server: str) -> None:
    with pytest.raises(hfstream.InferenceError) as caught:
        InferenceClient(server, retry=None).chat_completion(CHEESE, model="no-such-model", stream=True)
    assert caught.value.status_code in (400, 404, 422, 500)
    assert str(caught.value)


# --- with our server in front of it ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def front(server: str) -> Iterator[str]:
    with BackgroundServer(Settings(upstreams=(f"{server}/v1",), upstream_model=MODEL)) as in_front:
        yield in_front.url


def test_a_chat_through_our_server_is_the_same(server: str, front: str) -> None:
    texts = []
    for client in (InferenceClient(f"{server}/v1"), InferenceClient(f"{front}/v1")):
        stream = client.chat_completion(CHEESE, model=MODEL, max_tokens=200, temperature=0, stream=True)
        assert stream.final().choices[0].message.content
        assert stream.finish_reason == "stop"
        texts.append(stream.text)
    assert texts[0] == texts[1]
    assert "curd" in texts[0]
    whole = InferenceClient(front).chat_completion(
        CHEESE, max_tokens=200, temperature=0
    )  # no name: the model's is sent
    assert whole.choices[0].message.content == texts[0]


def test_tgis_routes_through_our_server(front: str) -> None:
    client = InferenceClient(front)
    stream = client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True)
    text = "".join(stream)
    assert text == stream.final() != ""
    assert stream.finish_reason == "length"
    assert client.text_generation("How do you make cheese?", max_new_tokens=12) == text
    assert client.health_check()


def test_a_refusal_through_our_server_has_its_words(front: str) -> None:
    with pytest.raises(hfstream.InferenceError) as caught:
        InferenceClient(front, retry=None).chat_completion(CHEESE, model="no-such-model", stream=True)
    assert caught.value.status_code in (400, 404, 422, 500)
    assert str(caught.value)

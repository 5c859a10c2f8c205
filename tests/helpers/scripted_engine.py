"""For tests of the server: an engine that generates what a script says, a small tokenizer, requests and responses."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hfstream.server.engine.protocol import (
    EngineRequest,
    ModelInfo,
    Output,
    PromptLogprob,
    RequestAccepted,
    RequestFailed,
    TokenOutput,
)

EOS = 0
CONTEXT = 100

Script = Iterable["int | Exception | None"]
"""Tokens; an exception fails the request, None makes a step without a token."""


def make_tokenizer() -> Tokenizer:
    """Byte-level with a few merges: up to 4 tokens for a character, several characters in a token; two special ones."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<eos>", "<turn>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["Hello, world! The end. Grüße 中文字符 中国 🙂🙃 naïve café üüüü"] * 9, trainer)
    return tokenizer


TOKENIZER = make_tokenizer()


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text).ids


def save_tokenizer(directory: Path) -> Path:
    """A model directory with all that is read outside the engine."""
    directory.mkdir(parents=True, exist_ok=True)
    TOKENIZER.save(str(directory / "tokenizer.json"))
    return directory


class ScriptedEngine:
    """An engine without a model: for each request it generates what `script(request)` yields.

    One token per step, a step every `interval` seconds.
    """

    def __init__(
        self,
        script: Callable[[EngineRequest], Script] = lambda request: ids("Hello, world!"),
        *,
        interval: float = 0.0,
        load: Callable[[], object] = lambda: None,
        logprob: float | None = -0.007358551,
        context: int = CONTEXT,
    ) -> None:
        """`load` is called before the engine is ready, and may wait or raise. `logprob`: that of every token."""
        self._script, self._interval, self._load, self._logprob = script, interval, load, logprob
        self._context = context
        self._requests: dict[EngineRequest, Iterator[int | Exception | None]] = {}
        self._counts: dict[EngineRequest, int] = {}
        self._end = threading.Event()
        self._unpaused = threading.Event()
        self._unpaused.set()
        self.submitted: list[EngineRequest] = []
        self.failure: Exception | None = None
        """Set by a test to make the engine fail."""
        self.lost: Exception | None = None
        """Set by a test to end the model process: requests fail with this error, then the model is loaded again."""

    def start(self, *, on_outputs: Any, on_ready: Any, on_restart: Any, on_failure: Any) -> None:
        info = ModelInfo("scripted", self._context, frozenset({EOS}), TOKENIZER.get_vocab_size(), "float32", "cpu", 0)

        def run() -> None:
            try:
                self._load()
                on_ready(info)
                while not self._end.wait(self._interval or 0.0005):
                    if self.failure:
                        raise self.failure
                    if self.lost:
                        error, self.lost, requests = self.lost, None, list(self._requests)
                        self._requests.clear()
                        on_restart(error)
                        on_outputs([RequestFailed(request, error) for request in requests])
                        self._load()
                        on_ready(info)
                    if self._unpaused.is_set() and (results := self._step()):
                        on_outputs(results)
            except Exception as error:
                on_failure(error)

        self._thread = threading.Thread(target=run, daemon=True, name="scripted-engine")
        self._thread.start()

    def pause(self) -> None:
        """No token is generated until `unpause`."""
        self._unpaused.clear()

    def unpause(self) -> None:
        self._unpaused.set()

    def set_tokenizer(self, tokenizer: str, eos_ids: frozenset[int]) -> None:
        self.tokenizer_set = True

    def submit(self, request: EngineRequest) -> None:
        assert request.grammar is None or self.tokenizer_set
        self.submitted.append(request)
        self._requests[request] = iter(self._script(request))

    def cancel(self, request: EngineRequest) -> None:
        request.cancelled = True

    def close(self, timeout: float | None = None) -> None:
        self._end.set()
        self._thread.join(timeout)

    @property
    def running(self) -> int:
        self._remove_cancelled()
        return len(self._requests)

    def _remove_cancelled(self) -> None:
        for request in [request for request in self._requests if request.cancelled]:
            self._requests.pop(request, None)

    def _step(self) -> list[Output]:
        self._remove_cancelled()
        results: list[Output] = []
        for request, script in list(self._requests.items()):
            token = next(script, EOS)
            if token is None:
                continue
            if isinstance(token, Exception):
                results.append(RequestFailed(request, token))
                self._requests.pop(request)
                continue
            if request.grammar is not None and request not in self._counts:
                results.append(RequestAccepted(request))
            count = self._counts[request] = self._counts.get(request, 0) + 1
            last = count == request.max_new_tokens or token == EOS
            top = tuple((token, self._logprob) for _ in range(request.sampling.top_n_tokens))
            results.append(TokenOutput(request, token, self._logprob, top, last, self._prompt(request, count)))
            if last:
                self._requests.pop(request)
        return results

    def _prompt(self, request: EngineRequest, count: int) -> tuple[PromptLogprob, ...]:
        if count > 1 or not request.prompt_logprobs:
            return ()
        tops = (
            tuple((token, self._logprob) for _ in range(request.sampling.top_n_tokens)) for token in request.prompt[1:]
        )
        return (PromptLogprob(None), *(PromptLogprob(self._logprob, top) for top in tops))


def endless(request: EngineRequest) -> Script:
    """A script that ends only with `max_new_tokens` or the context."""
    return iter(lambda: ids("a")[0], EOS)


# --- requests, responses and waiting ----------------------------------------------------------------------------------


TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # empty, because httpx would read all root certificates for each request
http = SimpleNamespace(
    **{
        name: partial(getattr(httpx, name), verify=TLS, timeout=120)
        for name in ("get", "options", "post", "request", "stream")
    }
)


def post(url: str, path: str, inputs: Any = "Hi", **parameters: Any) -> httpx.Response:
    response: httpx.Response = http.post(url + path, json={"inputs": inputs, "parameters": parameters})
    return response


def events(body: bytes) -> list[dict[str, Any]]:
    assert body.endswith(b"\n\n")
    blocks = [block for block in body[:-2].split(b"\n\n") if block != b":"]
    assert all(block.startswith(b"data: ") and b"\n" not in block for block in blocks)
    return [json.loads(block[6:]) for block in blocks]


def joined_text(stream: list[dict[str, Any]]) -> str:
    return "".join(event["token"]["text"] for event in stream if not event["token"]["special"])


def metric(url: str, name: str) -> int:
    lines = http.get(url + "/metrics").text.splitlines()
    return next((int(line.split()[-1]) for line in lines if line.startswith(name + " ")), 0)


def eventually(check: Callable[[], bool], within: float = 60.0) -> bool:
    end = time.monotonic() + within
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def idle(url: str) -> bool:
    """Whether no request holds a permit or a row in the batch, or waits in the queue."""
    names = ("hfstream_permits_taken", "tgi_batch_current_size", "tgi_queue_size")
    return [metric(url, name) for name in names] == [0, 0, 0]


def raw_request(url: str, path: str, body: dict[str, Any]) -> socket.socket:
    """A connection that has sent a request and read nothing."""
    content = json.dumps(body).encode()
    connection = socket.create_connection((httpx.URL(url).host, httpx.URL(url).port or 80), timeout=60)
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
    head += f"content-length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


# --- OpenAI's routes --------------------------------------------------------------------------------------------------

TEMPLATE = (
    "{% for message in messages %}{% if message.role == 'no' %}{{ raise_exception('No!') }}{% endif %}"
    "{{ message.content }}{% if message.role == 'user' %}<turn>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}>{% endif %}"
)


def save_chat_model(directory: Path) -> Path:
    """A model directory with a chat template: "Hi" becomes "Hi<turn>>"."""
    save_tokenizer(directory)
    (directory / "chat_template.jinja").write_text(TEMPLATE, "utf-8")
    return directory


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def chunks(body: bytes) -> list[dict[str, Any]]:
    """The events of a stream in OpenAI's format."""
    done = b"data: [DONE]\n\n"
    assert body.endswith(done)
    assert body.count(done) == 1
    return events(body.removesuffix(done))


def pinned(body: str) -> str:
    """A body in OpenAI's format, its one id and its one time replaced by constants."""
    ids_of_body = set(re.findall(r'"id":"((?:chatcmpl|cmpl)-[0-9a-f]{32})"', body))
    times = set(re.findall(r'"created":(\d+)', body))
    assert len(ids_of_body) == len(times) == 1
    (id_,), (created,) = ids_of_body, times
    assert abs(int(created) - time.time()) < 60
    return body.replace(id_, id_.partition("-")[0] + "-ID").replace(f'"created":{created}', '"created":0')

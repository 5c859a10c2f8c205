"""The requests that the doctor sends: a chat, a text, and what else a client may ask for. Each asks for few tokens."""

from __future__ import annotations

from typing import Any

from ...core.parameters import ChatCompletionOptions, TextGenerationOptions
from ...core.urls import service_url
from ...errors import BadRequestError, ValidationError
from .prober import Prober, Recorded

__all__ = ["MAX_TOKENS", "STREAM_TOKENS", "Questions"]

PROMPT = "How do you make cheese?"

STREAM_TOKENS = 64
"""Of a stream whose tokens are timed."""

LONG_STREAM_TOKENS = 256
"""Of one that is timed again, and of one that is closed early."""

FEW_TOKENS = 16
"""Of a stream that is only to work."""

ANSWER_TOKENS = 48
"""Of an answer that has a tool call or JSON."""

MAX_TOKENS = 2 * STREAM_TOKENS + 2 * LONG_STREAM_TOKENS + 2 * ANSWER_TOKENS + FEW_TOKENS + 4
"""Of all requests together: a stream may be sent again without a parameter, or as text; the four are one for the
baseline, one after a closed stream, and one for each refusal, should there be none."""

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "cheese",
        "schema": {
            "type": "object",
            "properties": {"name": {"type": "string", "maxLength": 12}},
            "required": ["name"],
            "additionalProperties": False,
        },
    },
}


class Questions:
    """Sends requests with a `Prober`, for one model."""

    def __init__(self, prober: Prober, model: str | None) -> None:
        self.prober: Prober = prober
        self.model: str | None = model
        self.native_text: bool = True
        """Whether text generation is TGI's route, rather than OpenAI's `/v1/completions`."""
        self._refused: set[str] = set()
        """What the server has refused, and is not asked for again."""

    def stream_chat(self, tokens: int = STREAM_TOKENS, *, compressed: bool = True, until: Any = None) -> Recorded:
        """A streamed chat, sent again once without a parameter that the server does not know."""
        recorded = self._stream_chat(tokens, compressed, until)
        if isinstance(recorded.error, BadRequestError | ValidationError):
            message = recorded.error.message
            refused = {name for name in ("stream_options", "max_tokens") if name in message} - self._refused
            if refused:
                self._refused |= refused
                recorded = self._stream_chat(tokens, compressed, until)
        return recorded

    def _stream_chat(self, tokens: int, compressed: bool, until: Any) -> Recorded:
        options: ChatCompletionOptions = {}
        if "stream_options" not in self._refused:
            options["stream_options"] = {"include_usage": True}
        return self._chat(tokens, options, stream=True, headers=_headers(compressed, until is None), until=until)

    def stream_text(self, tokens: int = STREAM_TOKENS, *, compressed: bool = True, until: Any = None) -> Recorded:
        """Streamed text generation, at the route that the server has."""
        prober = self.prober
        url = prober.url if self.native_text else service_url(prober.url, "/v1")
        options: TextGenerationOptions = {"max_new_tokens": tokens, "timeout": prober.limits(0.5)}
        options["extra_headers"] = _headers(compressed, until is None)
        factory = prober.factory if self.native_text else prober.factory_for(url)
        if not self.native_text and self.model:
            options["model"] = self.model
        exchange = factory.text_generation(PROMPT, stream=True, details=True, options=options)
        return prober.send(exchange, tokens=tokens, until=until)

    def call_tool(self) -> Recorded:
        """A chat that must be answered by a tool call."""
        required: ChatCompletionOptions = {"tools": [TOOL], "tool_choice": "required"}
        return self._chat(ANSWER_TOKENS, required, prompt="What is the weather in Paris?")

    def ask_json(self) -> Recorded:
        """A chat whose answer must fit a JSON schema."""
        return self._chat(ANSWER_TOKENS, {"response_format": SCHEMA}, prompt="Name a cheese, as JSON.")

    def send_invalid(self) -> Recorded:
        """A chat with a value of the wrong type."""
        return self._chat(1, {"extra_body": {"temperature": "hot"}})

    def send_without_key(self) -> Recorded:
        """A chat without the API key."""
        return self._chat(1, {}, without_key=True)

    def tokenize(self) -> Recorded:
        """The tokens of the prompt."""
        prober = self.prober
        return prober.send(prober.factory.tokenize(PROMPT, None, prober.limits(0.1)))

    def _chat(
        self, tokens: int, options: ChatCompletionOptions, *, prompt: str = PROMPT, stream: bool = False,
        without_key: bool = False, headers: dict[str, str] | None = None, until: Any = None,
    ) -> Recorded:  # fmt: skip
        prober = self.prober
        options = {**options, "timeout": prober.limits(1.0 if stream else 0.25), "extra_headers": headers}
        if "max_tokens" in self._refused:
            options["extra_body"] = {**(options.get("extra_body") or {}), "max_completion_tokens": tokens}
        else:
            options["max_tokens"] = tokens
        if self.model:
            options["model"] = self.model
        factory = prober.factory_without_key if without_key else prober.factory
        messages = [{"role": "user", "content": prompt}]
        exchange = factory.chat_completion(messages, stream=stream, options=options)
        return prober.send(exchange, tokens=tokens, until=until)


def _headers(compressed: bool, resumable: bool) -> dict[str, str]:
    """Headers of a streamed request.

    It allows compression, as most clients do: whether that holds the stream back is one of the questions. One that will
    be closed early is not resumable, because the server would keep it for a reconnect.
    """
    headers = {"Accept-Encoding": "gzip, deflate" if compressed else "identity"}
    return headers | ({"Prefer": "resumable"} if resumable else {})

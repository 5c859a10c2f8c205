"""Chats that fail or may be half: errors in other forms, ends that are none, streams of other APIs."""

from __future__ import annotations

from collections.abc import Mapping

from ...core.sse import encode
from ...errors import (
    BadRequestError,
    IncompleteGenerationError,
    IncompleteStreamError,
    OverloadedError,
    ServerError,
    UnexpectedResponseError,
)
from ..events import DONE, chat_event
from ..response import Response
from .entries import FINISH, HEL, LO, UnusualResponse, cut_off, error_event, event

__all__ = ["ERRORS", "OTHER_APIS", "UNFINISHED"]

ERRORS: Mapping[str, UnusualResponse] = {
    "LM Studio: an error event": error_event(
        ServerError, "Compute error.", "an error with its words twice",
        {"error": {"message": "Compute error."}, "message": "Compute error."},
    ),
    "RAGFlow: a code": error_event(
        ServerError, "no such chat", "a code that is no HTTP status",
        {"code": 102, "message": "no such chat", "data": False},
    ),
    "Cloudflare: errors": error_event(
        ServerError, "no model", "a list of errors",
        {"errors": [{"message": "no model", "code": 5007}], "success": False},
    ),
    "Databricks: a limit": error_event(
        OverloadedError, "slow down", "an `error_code`",
        {"error_code": "REQUEST_LIMIT_EXCEEDED", "message": "slow down"},
    ),
    "DashScope: throttling": error_event(
        OverloadedError, "slow down", "a code with a point", {"code": "Throttling.RateQuota", "message": "slow down"}
    ),
    "Moonshot: overloaded": error_event(
        OverloadedError, "busy", "only the type says it",
        {"error": {"type": "engine_overloaded_error", "message": "busy"}},
    ),
    "Google: exhausted": error_event(
        OverloadedError, "quota", "only `status` says it",
        {"error": {"message": "quota", "status": "RESOURCE_EXHAUSTED"}},
    ),
    "Google: a list": error_event(
        OverloadedError, "busy", "an error in a list", [{"error": {"code": 503, "message": "busy"}}]
    ),
    "Z.ai: success is false": error_event(
        ServerError, "404 NOT_FOUND", "the words in `msg`", {"code": 500, "msg": "404 NOT_FOUND", "success": False}
    ),
    "SiliconFlow: data is null": error_event(
        ServerError, "no such model", "a code and no data", {"code": 20012, "message": "no such model", "data": None}
    ),
    "Qianfan: error_msg": error_event(
        ServerError, "daily limit", "the words in `error_msg`", {"error_code": 17, "error_msg": "daily limit"}
    ),
    "Mistral: a location": error_event(
        ServerError, "body.n: bad", "FastAPI's list within the message",
        {"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "bad"}]}},
    ),
    "LiteLLM: a status as text": error_event(
        OverloadedError, "slower", "`code` is text", {"error": {"message": "slower", "type": "None", "code": "429"}}
    ),
    "an error that is true": error_event(
        ServerError, "no words left", "`error` is true", {"error": True, "message": "no words left"}
    ),
    "Groq: x_groq": error_event(
        ServerError, "over capacity", "an error beside a finish reason of success",
        {"choices": [{"delta": {}, "finish_reason": "stop"}], "x_groq": {"error": "over capacity"}},
    ),
    "SGLang: an abort": error_event(
        OverloadedError, "cache full", "the finish reason is an object",
        {"choices": [{"delta": {}, "finish_reason": {"type": "abort", "message": "cache full", "status_code": 503}}]},
    ),
    "OpenRouter: an error beside choices": error_event(
        BadRequestError, "gone", "an error, and a choice with the finish reason `error`",
        {"error": {"code": 400, "message": "gone"}, "choices": [{"delta": {"content": ""}, "finish_reason": "error"}]},
    ),
    "OpenRouter: an error in the choice": error_event(
        ServerError, "upstream", "an error in the choice",
        {"choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502, "message": "upstream"}}]},
    ),
    "OpenRouter: an error without choices": error_event(
        ServerError, "upstream", "`choices` is empty", {"choices": [], "error": {"code": 502, "message": "upstream"}}
    ),
    "vLLM: an error object": error_event(
        BadRequestError, "too long", "vLLM and SGLang report what they refuse in a 200",
        {"error": {"object": "error", "message": "too long", "type": "BadRequestError", "param": None, "code": 400}},
    ),
    "an error in the delta": error_event(
        OverloadedError, "slower", "an error in the delta",
        {"choices": [{"delta": {"error": {"code": 429, "message": "slower"}}, "finish_reason": "stop"}]},
    ),
    "MiniMax: base_resp": error_event(
        BadRequestError, "insufficient balance", "an error in `base_resp`",
        {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}, "choices": None},
    ),
}  # fmt: skip

UNFINISHED: Mapping[str, UnusualResponse] = {
    "Gemini: MALFORMED_FUNCTION_CALL": cut_off(
        IncompleteGenerationError, "Hel", "a finish reason that is a failure",
        HEL, chat_event(finish_reason="MALFORMED_FUNCTION_CALL"), DONE,
    ),
    "network_error": cut_off(
        IncompleteGenerationError, "Hel", "a finish reason that is a failure (Z.ai)",
        HEL, chat_event(finish_reason="network_error"), DONE,
    ),
    "Bedrock: an exception": cut_off(
        IncompleteGenerationError, "Hel", "gateways write the exception where the finish reason is",
        HEL, chat_event(finish_reason="internalServerException"), DONE,
    ),
    "Anthropic: an error event": UnusualResponse(
        "an event named error, from a gateway to Anthropic's API",
        Response([
            HEL, b"event: error\n", event({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}),
        ]),
        "Hel", OverloadedError, "busy",
    ),
    "an error in words": UnusualResponse(
        "an event whose data is `error: ...` (Crane)", Response([HEL, encode("error: engine died"), DONE]),
        "Hel", ServerError, "engine died",
    ),
    "an error in half of an event": UnusualResponse(
        "a gateway adds an error to an event that its server has not ended",
        Response([HEL, b'data: {"choices":[{"del\ndata: {"error":{"message":"stream_read_error"}}\n\n', DONE]),
        "Hel", ServerError, "stream_read_error",
    ),
    "half of an event, and the next": cut_off(
        UnexpectedResponseError, "Hel", "the text of the first is lost (GLM)",
        HEL, b'data: {"choices":[{"del\n' + LO, FINISH, DONE,
    ),
    "words at the end": cut_off(IncompleteStreamError, "Hel", "no event, and no JSON", HEL, "Stream ended with error."),
    "a null from a gateway": cut_off(
        IncompleteStreamError, "Hel", "a finish reason that is the word null", chat_event("Hel", finish_reason="null")
    ),
    "llama.cpp: a field error": UnusualResponse(
        "an error as a field of the event stream (until late 2025)",
        Response([HEL, b'error: {"code":400,"message":"the prompt is too long"}\n\n']),
        "Hel", BadRequestError, "the prompt is too long",
    ),
    "JSON without data:": UnusualResponse(
        "an error as JSON, outside of the event stream",
        Response([HEL, b'{"error":{"code":400,"message":"the prompt is too long"}}']),
        "Hel", BadRequestError, "the prompt is too long",
    ),
    "a finish reason on every chunk": cut_off(
        IncompleteStreamError, "Hello", "no chunk is known to be the last, and the stream is cut off",
        chat_event("Hel", finish_reason="stop"), chat_event("lo", finish_reason="stop"),
    ),
    "a page amid a stream": cut_off(
        IncompleteStreamError, "Hel", "a proxy's page", HEL, b"<html><body>502 Bad Gateway</body></html>"
    ),
    "only [DONE]": cut_off(IncompleteStreamError, "", "a stream without content", DONE),
}  # fmt: skip

OTHER_APIS: Mapping[str, UnusualResponse] = {
    "Anthropic's stream": cut_off(
        UnexpectedResponseError, "", "the stream of Anthropic's API, at a chat's URL",
        b'event: message_start\ndata: {"type":"message_start","message":{"role":"assistant","content":[]}}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"Hello"}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ),
    "OpenAI's responses": cut_off(
        UnexpectedResponseError, "", "the stream of OpenAI's Responses API, at a chat's URL",
        b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hello"}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed"}\n\n',
    ),
    "Cloudflare's own stream": cut_off(
        UnexpectedResponseError, "", "the stream of Cloudflare's own API",
        event({"response": "Hello", "p": "abc"}), DONE,
    ),
    "Ollama's own stream": cut_off(
        UnexpectedResponseError, "", "the stream of Ollama's own API",
        event({"model": "m", "message": {"role": "assistant", "content": "Hello"}, "done": False}),
    ),
}  # fmt: skip

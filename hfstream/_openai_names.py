"""What openai's client has and this one has not: which lines to write instead.

Does not depend on the objects on which such a name was looked for.
"""

from __future__ import annotations

__all__ = ["unknown_attribute"]

_STREAM_HEADERS = "write stream=True: the stream has `headers`, `request_id` and, for the whole response, `final()`"
_CHAT = "write client.chat_completion(messages, ...), which is client.chat.completions.create too"
_TEXT = "hfstream is for text generation and chat"

_INSTEAD: dict[str, dict[str, str]] = {
    "client": {
        "completions": "write client.text_generation(prompt, max_new_tokens=..., stream=...), which returns the text",
        "copy": "write client.with_options(...), or copy.copy(client)",
        "max_retries": "the client's `retry=` has its RetryPolicy",
        "default_headers": "write client.headers",
        "with_raw_response": _STREAM_HEADERS,
        "with_streaming_response": _STREAM_HEADERS,
        "responses": _CHAT,
        "beta": _CHAT,
        **dict.fromkeys(
            ("embeddings", "audio", "images", "videos", "moderations", "files", "uploads", "batches"), _TEXT
        ),
        **dict.fromkeys(("fine_tuning", "vector_stores", "containers", "conversations", "evals", "realtime"), _TEXT),
    },
    "chat.completions": {
        "stream": "write client.chat_completion(messages, stream=True): `stream.text` is the content so far, "
        "`stream.parsed` its JSON, `stream.final()` the whole completion with its tool calls",
        "with_raw_response": _STREAM_HEADERS,
        "with_streaming_response": _STREAM_HEADERS,
        **dict.fromkeys(("list", "retrieve", "update", "delete", "messages"), "hfstream does not store completions"),
    },
    "models": {
        "retrieve": "write client.models.list(), or for a TGI server client.get_endpoint_info()",
        "delete": _TEXT,
        "with_raw_response": _STREAM_HEADERS,
        "with_streaming_response": _STREAM_HEADERS,
    },
}


def unknown_attribute(owner: object, name: str, kind: str) -> AttributeError:
    """The error for an attribute that `owner` has not. `kind`: ``"client"``, ``"chat.completions"``, ``"models"``."""
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    instead = _INSTEAD[kind].get(name)
    return AttributeError(f"{message}: {instead}" if instead else message, name=name, obj=owner)

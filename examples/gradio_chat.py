"""You will see a chat in your browser with streamed responses. Needs ``pip install gradio``."""

import sys
from collections.abc import Iterator
from typing import Any

import gradio as gr

from hfstream import InferenceClient

client = InferenceClient(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")


def answer(message: str, history: list[dict[str, Any]]) -> Iterator[str]:
    # Gradio's messages have fields that the server does not accept.
    messages: list[Any] = [{"role": turn["role"], "content": _text(turn["content"])} for turn in history]
    messages.append({"role": "user", "content": message})
    with client.chat_completion(messages, max_tokens=300, stream=True) as stream:
        for _ in stream:
            yield stream.text  # Gradio expects the complete text each time; its Stop button closes the stream


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    gr.ChatInterface(answer, examples=["How do you make cheese?", "What is Deep Learning?"]).launch()

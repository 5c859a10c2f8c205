"""You will see a chat in your browser whose answers grow as the model writes them. Needs ``pip install gradio``."""

import sys
from collections.abc import Iterator
from typing import Any

import gradio as gr

from hfstream import InferenceClient

client = InferenceClient(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080")


def answer(message: str, history: list[dict[str, Any]]) -> Iterator[str]:
    # Gradio's messages have more in them than a server wants to know.
    messages: list[Any] = [{"role": said["role"], "content": _text(said["content"])} for said in history]
    messages.append({"role": "user", "content": message})
    with client.chat_completion(messages, max_tokens=300, stream=True) as stream:
        for _ in stream:
            yield stream.text  # Gradio wants all of it each time; when its Stop is pressed, the block is left


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


if __name__ == "__main__":
    gr.ChatInterface(answer, examples=["How do you make cheese?", "What is Deep Learning?"]).launch()

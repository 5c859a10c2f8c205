"""You will see a chat response chunk by chunk, then the message assembled from the chunks, and a second turn."""

import sys
from typing import Any

from hfstream import InferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

client = InferenceClient(url)
messages: list[Any] = [{"role": "user", "content": "How do you make cheese?"}]
stream = client.chat_completion(messages, temperature=0, max_tokens=24, stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

message = stream.final().choices[0].message  # assembled from the chunks
print(message.role, len(message.content or ""), "characters;", stream.finish_reason)

messages += [message, {"role": "user", "content": "What is Deep Learning?"}]
print(client.chat.completions.create(messages, temperature=0, max_tokens=24).choices[0].message.content)

"""You will see a model ask for the weather, get it, and answer.

The model is a script: the bundled one calls no tools.
"""

import json
from typing import Any

from hfstream import InferenceClient
from hfstream.testing import DONE, Response, ScriptedServer, chat_event, chat_events

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "How the weather is in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def weather(city: str) -> str:
    return f"Rain in {city}, 12 degrees."


# What a server would stream: a call, its arguments in two pieces, then the answer to what the tool said.
beginning = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
rest = {"index": 0, "function": {"arguments": '"Nuremberg"}'}}
call = [chat_event(role="assistant", tool_calls=[beginning]), chat_event(tool_calls=[rest])]
call += [chat_event(finish_reason="tool_calls"), DONE]

with ScriptedServer(Response(call), Response(chat_events("Take ", "an ", "umbrella."))) as server:
    client = InferenceClient(server.url)
    messages: list[Any] = [{"role": "user", "content": "How is the weather in Nuremberg?"}]
    while True:
        stream = client.chat_completion(messages, tools=TOOLS, stream=True)
        for chunk in stream:
            print(chunk.choices[0].delta.content or "", end="", flush=True)
        message = stream.final().choices[0].message
        if not message.tool_calls:
            break
        messages.append(message)
        for wanted in message.tool_calls:
            arguments = json.loads(wanted.function.arguments)
            print(f"{wanted.function.name}({arguments['city']})")
            messages.append({"role": "tool", "tool_call_id": wanted.id, "content": weather(**arguments)})
print()

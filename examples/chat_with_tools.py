"""You will see a model call a weather tool, and then reply with the result.

The responses come from a scripted server, because the bundled model does not call tools.
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
            "description": "Get the current weather in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]


def weather(city: str) -> str:
    return f"Rain in {city}, 12 degrees."


# What a server would stream: a tool call with its arguments in two chunks, then the reply to the tool's result.
first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
rest = {"index": 0, "function": {"arguments": '"Nuremberg"}'}}
tool_call_events = [chat_event(role="assistant", tool_calls=[first]), chat_event(tool_calls=[rest])]
tool_call_events += [chat_event(finish_reason="tool_calls"), DONE]

with ScriptedServer(Response(tool_call_events), Response(chat_events("Take ", "an ", "umbrella."))) as server:
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
        for tool_call in message.tool_calls:
            arguments = json.loads(tool_call.function.arguments)
            print(f"{tool_call.function.name}({arguments['city']})")
            messages.append({"role": "tool", "tool_call_id": tool_call.id, "content": weather(**arguments)})
print()

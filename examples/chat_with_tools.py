"""You will see a model call a weather tool, and then reply with the result.

The responses come from a scripted server, because the bundled model does not call tools.
"""

from hfstream import InferenceClient
from hfstream.testing import DONE, Response, ScriptedServer, chat_event, chat_events


def weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: its name, without the country
    """
    print(f"weather({city})")
    return f"Rain in {city}, 12 degrees."


# What a server would stream: a tool call with its arguments in two chunks, then the reply to the tool's result.
first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": '}}
rest = {"index": 0, "function": {"arguments": '"Nuremberg"}'}}
tool_call_events = [chat_event(role="assistant", tool_calls=[first]), chat_event(tool_calls=[rest])]
tool_call_events += [chat_event(finish_reason="tool_calls"), DONE]

with ScriptedServer(Response(tool_call_events), Response(chat_events("Take ", "an ", "umbrella."))) as server:
    client = InferenceClient(server.url)
    messages = [{"role": "user", "content": "How is the weather in Nuremberg?"}]
    for chunk in client.run_tools(messages, [weather], stream=True):
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

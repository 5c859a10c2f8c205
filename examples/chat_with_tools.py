"""You will see the model call a weather function, and then answer with its result."""

import sys

from hfstream import InferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"


def get_weather(city: str) -> str:
    """Get the current weather in a city.

    Args:
        city: its name, without the country
    """
    print(f"get_weather({city})")
    return "12 degrees and rainy"


client = InferenceClient(url)
messages = [{"role": "user", "content": "How is the weather in Nuremberg?"}]
for chunk in client.run_tools(messages, [get_weather], temperature=0, stream=True):
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()

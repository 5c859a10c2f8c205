"""You will see the first twelve tokens of a response, one by one, as the server generates them."""

import sys

from hfstream import InferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

client = InferenceClient(url)
for token in client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):
    print(token, end="", flush=True)
print()

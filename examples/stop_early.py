"""You will see a response that ends after its first sentence, because the program closes the stream.

Closing the stream closes the connection, and the server stops generating.
"""

import sys

from hfstream import InferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

client = InferenceClient(url)
with client.text_generation("How do you make cheese?", max_new_tokens=400, stream=True) as stream:
    for token in stream:
        print(token, end="", flush=True)
        if "." in token:
            break

print(f"\nstopped after {stream.metrics.tokens} tokens; finish_reason is {stream.finish_reason}")

"""You will see one typed object for each of twelve tokens; the last one has the finish reason."""

import sys

from hfstream import InferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

client = InferenceClient(url)
for details in client.text_generation("How do you make cheese?", max_new_tokens=12, details=True, stream=True):
    print(details, flush=True)

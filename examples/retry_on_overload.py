"""You will see two responses and, if the server is overloaded, the retries before them.

To see it retry, start ``hfstream serve --max-concurrent-requests 1 --tokens-per-second 10`` and keep it busy with a
request from another terminal.
"""

import sys

import tenacity

from hfstream import InferenceClient, TokenStream
from hfstream.retry import retry_if_overloaded, retry_on_overload, wait_retry_after

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

# retry=None: the decorators below retry. If the client retried too, the attempts would multiply.
client = InferenceClient(url, retry=None)


def print_retry(state: tenacity.RetryCallState) -> None:
    print(f"overloaded, retrying after attempt {state.attempt_number}", flush=True)


# Your own tenacity decorator. The function returns the stream; it must not iterate over it.
@tenacity.retry(
    retry=retry_if_overloaded,
    wait=wait_retry_after(tenacity.wait_random_exponential(multiplier=0.5), max_wait=10),
    stop=tenacity.stop_after_delay(60),
    before_sleep=print_retry,
    reraise=True,
)
def generate(prompt: str) -> TokenStream[str]:
    return client.text_generation(prompt, max_new_tokens=12, stream=True)


# The same with hfstream's ready-made decorator.
@retry_on_overload(attempts=10)
def generate_simply(prompt: str) -> TokenStream[str]:
    return client.text_generation(prompt, max_new_tokens=12, stream=True)


print(generate("How do you make cheese?").final())
print(generate_simply("What is Deep Learning?").final())

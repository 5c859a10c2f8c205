"""You will see two answers; before each of them, if the server is overloaded, how often it had to be asked again.

To see it wait, give the server one permit and keep that busy from another terminal:
``hfstream serve --max-concurrent-requests 1 --tokens-per-second 10``.
"""

import sys

import tenacity

from hfstream import InferenceClient, TokenStream
from hfstream.retry import retry_if_overloaded, retry_on_overload, wait_retry_after

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"

# retry=None: the wrapper asks again, so the client must not, or the attempts would multiply.
client = InferenceClient(url, retry=None)


def tell(state: tenacity.RetryCallState) -> None:
    print(f"overloaded, asking again after attempt {state.attempt_number}", flush=True)


# Your own tenacity. The function returns the stream; it does not iterate over it.
@tenacity.retry(
    retry=retry_if_overloaded,
    wait=wait_retry_after(tenacity.wait_random_exponential(multiplier=0.5), max_wait=10),
    stop=tenacity.stop_after_delay(60),
    before_sleep=tell,
    reraise=True,
)
def ask(prompt: str) -> TokenStream[str]:
    return client.text_generation(prompt, max_new_tokens=12, stream=True)


# The same, as hfstream has it ready.
@retry_on_overload(attempts=10)
def ask_simply(prompt: str) -> TokenStream[str]:
    return client.text_generation(prompt, max_new_tokens=12, stream=True)


print(ask("How do you make cheese?").final())
print(ask_simply("What is Deep Learning?").final())

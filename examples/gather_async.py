"""You will see three answers, streamed at the same time by one client, each with its time to the first token."""

import asyncio
import sys

from hfstream import AsyncInferenceClient, RetryPolicy

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
questions = ["How do you make cheese?", "What is Deep Learning?", "Why is the sky blue?"]


async def ask(client: AsyncInferenceClient, question: str) -> str:
    async with client.text_generation(question, max_new_tokens=12, stream=True) as stream:
        async for _ in stream:
            pass
    return f"{question} {stream.text!r}, the first token after {stream.metrics.time_to_first_token:.2f} s"


async def main() -> None:
    # Patient: a server with fewer permits than questions refuses some, and is asked again.
    async with AsyncInferenceClient(url, retry=RetryPolicy(attempts=20)) as client:
        for answer in await asyncio.gather(*(ask(client, question) for question in questions)):
            print(answer)


asyncio.run(main())

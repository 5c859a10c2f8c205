"""You will see three responses, streamed at the same time by one client, each with its time to first token."""

import asyncio
import sys

from hfstream import AsyncInferenceClient, RetryPolicy

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
questions = ["How do you make cheese?", "What is Deep Learning?", "Why is the sky blue?"]


async def generate(client: AsyncInferenceClient, question: str) -> str:
    async with client.text_generation(question, max_new_tokens=12, stream=True) as stream:
        async for _ in stream:
            pass
    return f"{question} {stream.text!r}, the first token after {stream.metrics.time_to_first_token:.2f} s"


async def main() -> None:
    # 20 attempts: a server that runs fewer requests at a time refuses some of them, and the client retries.
    async with AsyncInferenceClient(url, retry=RetryPolicy(attempts=20)) as client:
        for result in await asyncio.gather(*(generate(client, question) for question in questions)):
            print(result)


asyncio.run(main())

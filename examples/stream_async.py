"""You will see the same twelve tokens as in stream_text.py, streamed by the async client."""

import asyncio
import sys

from hfstream import AsyncInferenceClient

url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"


async def main() -> None:
    client = AsyncInferenceClient(url)
    async for token in await client.text_generation("How do you make cheese?", max_new_tokens=12, stream=True):
        print(token, end="", flush=True)
    print()


asyncio.run(main())

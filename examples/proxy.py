"""You will see a response that a FastAPI application streams, token by token, as Server-Sent Events.

When the browser disconnects, the stream is closed, and the server stops generating. To try it in a browser, run
``uvicorn proxy:app`` and open ``/ask?question=...``.
"""

import os
import sys
import threading
import time

import httpx
import uvicorn
from fastapi import FastAPI

from hfstream import AsyncInferenceClient
from hfstream.starlette import TokenStreamResponse

url = sys.argv[1] if __name__ == "__main__" and len(sys.argv) > 1 else os.environ.get("MODEL", "http://127.0.0.1:8080")
client = AsyncInferenceClient(url)  # one client for all requests
app = FastAPI()


@app.get("/ask")
async def ask(question: str) -> TokenStreamResponse:
    # An error before the first token is the response's status; a later one is an event.
    return TokenStreamResponse(client.text_generation(question, max_new_tokens=12, stream=True))


if __name__ == "__main__":
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    question = {"question": "How do you make cheese?"}
    with httpx.stream("GET", f"http://127.0.0.1:{port}/ask", params=question) as response:
        for line in response.iter_lines():
            print(line)
    server.should_exit = True

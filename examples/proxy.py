"""You will see a response that a FastAPI application streams, token by token, as Server-Sent Events.

When the browser disconnects, FastAPI cancels the generator, the stream is closed, and the server stops generating. To
try it in a browser, run ``uvicorn proxy:app`` and open ``/ask?question=...``.
"""

import os
import sys
import threading
import time
from collections.abc import AsyncIterator

import httpx
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response, StreamingResponse

from hfstream import AsyncInferenceClient, InferenceError, sse

url = sys.argv[1] if __name__ == "__main__" and len(sys.argv) > 1 else os.environ.get("MODEL", "http://127.0.0.1:8080")
client = AsyncInferenceClient(url)  # one client for all requests
app = FastAPI()


@app.get("/ask", response_model=None)
async def ask(question: str) -> Response:
    try:  # an error before the first token can still set the status code
        stream = await client.text_generation(question, max_new_tokens=12, stream=True)
    except InferenceError as error:
        return JSONResponse({"error": str(error)}, status_code=error.status_code or 502)

    async def events() -> AsyncIterator[bytes]:
        async with stream:
            async for token in stream:
                yield sse.encode(sse.ServerSentEvent(data=token))
        yield sse.encode(sse.ServerSentEvent(event="done", data="done"))  # the page closes its EventSource

    return StreamingResponse(events(), media_type="text/event-stream")


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

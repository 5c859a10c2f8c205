"""The service of a server in front of others: the pool of servers, and the answers that are being received.

Does not depend on HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial

from hfstream.types import Usage

from ..service.request_record import RequestRecord
from ..service.request_service import RequestService
from ..settings import Settings
from .calls import Call
from .errors import own_errors
from .output import Put, UpstreamOutput
from .pool import UpstreamPool
from .upstream import CHECK_SECONDS


class UpstreamService(RequestService):
    """What all requests need and share."""

    def __init__(self, settings: Settings) -> None:
        """Raises ValueError if one of `settings.upstreams` is no URL."""
        super().__init__(settings)
        self.pool: UpstreamPool = UpstreamPool(settings)
        self._checks: asyncio.Task[None]

    def start(self) -> None:
        """Starts to ask the servers for their health. Requests can be sent to them from now on."""
        self._loop = asyncio.get_running_loop()
        self._checks = asyncio.create_task(self._check_regularly())
        self.ready.set()

    async def close(self) -> None:
        """Ends all requests, and closes all connections."""
        self._checks.cancel()
        await super().close()
        await self.pool.close()

    def ensure_ready(self) -> None:
        """Nothing to wait for: whether a server answers is known when it is asked."""

    @contextmanager
    def submit(self, call: Call, record: RequestRecord) -> Generator[UpstreamOutput, None, None]:
        """Sends a request to one of the servers. Its connection is closed when the block is left."""
        output = UpstreamOutput(partial(self._stream if call.stream else self._fetch, call, record), self.spawn)
        self._streams.add(output)
        try:
            yield output
        finally:
            self._streams.discard(output)
            output.close()

    async def _stream(self, call: Call, record: RequestRecord, put: Put) -> None:
        stream = await self.pool.send(call)
        with own_errors():
            await stream.open()
        with own_errors(after_content=True):
            async with stream:
                async for item in stream:
                    record.mark_token(stream.finish_reason)
                    if data := call.format_item(item):
                        await put([*data])
                _count(stream.usage, record)
                if data := call.format_end(stream):
                    await put([*data])

    async def _fetch(self, call: Call, record: RequestRecord, put: Put) -> None:
        with own_errors():
            async with await self.pool.send(call) as stream:
                answer = call.format_answer(await stream.final())
        _count(answer.usage, record)
        await put([answer.text])

    async def _check_regularly(self) -> None:
        while True:
            with contextlib.suppress(Exception):  # a check that fails in an unforeseen way is not the last one
                await self.pool.check()
            await asyncio.sleep(CHECK_SECONDS)


def _count(usage: Usage | None, record: RequestRecord) -> None:
    """The tokens as the other server counts them, if it does; else one for each item of the stream."""
    if usage is not None:
        record.prompt_tokens = usage.prompt_tokens
        record.generated_tokens = usage.completion_tokens or record.generated_tokens

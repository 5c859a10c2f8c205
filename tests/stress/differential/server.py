"""A server with one stream at each path prefix: ``/12/v1/chat/completions`` is stream 12.

Not `ScriptedServer`: that one is hfstream's own. Each chunk is sent by itself.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator, Sequence

from .shapes import Stream

__all__ = ["serving"]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, streams: Sequence[Stream]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.streams = streams


class _Handler(socketserver.StreamRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := self.rfile.readline():
                size = 0
                for header in iter(self.rfile.readline, b"\r\n"):
                    name, _, value = header.partition(b":")
                    size = int(value) if name.lower() == b"content-length" else size
                self.rfile.read(size)
                self._send(self.server.streams[int(line.split()[1].split(b"/")[1])])

    def _send(self, stream: Stream) -> None:
        self.wfile.write(HEAD)
        for chunk in stream.events:
            if chunk:
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.wfile.write(b"0\r\n\r\n")


@contextlib.contextmanager
def serving(streams: Sequence[Stream]) -> Iterator[str]:
    """The URL of the server; the path's first part is the number of a stream."""
    with _Server(streams) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()

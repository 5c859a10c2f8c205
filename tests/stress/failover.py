"""Two reference servers behind one client, of which one is killed in mid-answer again and again.

    python -m tests.stress.failover [--kills 100]

Threads stream greedy answers all the time. Reports how many were whole, and how many went on at the other server.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import time

from hfstream import InferenceClient, InferenceError
from tests.helpers.ports import unused_port
from tests.stress.greedy_answers import Figures, asking

__all__ = ["failover"]

SECONDS_TO_START = 120


class _Server:
    """A reference server in a process of its own, on a port that it keeps."""

    def __init__(self) -> None:
        self._port = unused_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Returns when it is ready."""
        command = [sys.executable, "-m", "hfstream.cli", "serve", "--port", str(self._port)]
        command += ["--tokens-per-second", "150"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + SECONDS_TO_START
        with InferenceClient(self.url, retry=None, timeout=5) as client:
            while time.monotonic() < deadline:
                try:
                    if client.health_check():
                        return
                except InferenceError:
                    pass
                time.sleep(0.1)
        raise TimeoutError(f"the server is not ready after {SECONDS_TO_START} s")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def failover(*, kills: int, threads: int = 6, seed: int = 1) -> Figures:
    """Kills one of two servers `kills` times, in turn, and starts it again; `threads` ask both all the time."""
    pauses = random.Random(seed)
    servers = [_Server(), _Server()]
    try:
        with asking(*(server.url for server in servers), threads=threads) as figures:
            for kill in range(kills):
                time.sleep(pauses.uniform(0.3, 1.0))
                servers[kill % 2].kill()
                servers[kill % 2].start()
                if kill % 10 == 9:
                    print(f"  {kill + 1} kills: {figures}", flush=True)
    finally:
        for server in servers:
            server.kill()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    arguments = parser.parse_args()
    figures = failover(kills=arguments.kills)
    print(f"{arguments.kills} kills: {figures}")
    figures.exit_if_failed()


if __name__ == "__main__":
    main()

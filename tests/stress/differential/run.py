"""Makes the streams, has them read, and reports what differs. Does not depend on how a client reads."""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from hfstream import AsyncInferenceClient

from .catalogue import catalogue
from .mutations import mutated
from .readers import NO_ROUTE, PEERS, Reader, Reading, hfstream_async, hfstream_sync
from .rules import Difference, differences, reason_for
from .server import serving
from .shapes import Stream, shapes

__all__ = ["corpus", "main", "read_all"]


def corpus(count: int, seed: int) -> list[Stream]:
    """All shapes and the catalogue as they are, then the shapes changed once or twice in turn: `count` in all."""
    rng = random.Random(seed)
    plain, unusual = list(shapes()), list(catalogue())
    rest = range(count - len(plain) - len(unusual))
    return [*plain, *unusual, *(mutated(plain[at % len(plain)], rng, rng.choice((1, 1, 2))) for at in rest)]


def read_all(streams: Sequence[Stream], peers: Mapping[str, Callable[[], Reader]]) -> dict[str, list[Reading]]:
    """The readings of hfstream's two clients and of the `peers`, in the order of the streams."""
    with serving(streams) as url:
        urls = [f"{url}/{number}" for number in range(len(streams))]
        tasks = [stream.task for stream in streams]
        readings = {"hfstream": [hfstream_sync(*each) for each in zip(urls, tasks, strict=True)]}
        readings["hfstream, async"] = asyncio.run(_read_async(urls, tasks))
        with ThreadPoolExecutor(4) as pool:
            for name, make in peers.items():
                readings[name] = list(pool.map(make(), urls, tasks))
    return readings


async def _read_async(urls: Sequence[str], tasks: Sequence[str]) -> list[Reading]:
    async with AsyncInferenceClient(retry=None) as client:
        found: list[Reading] = []
        for start in range(0, len(urls), 16):
            some = zip(urls[start : start + 16], tasks[start : start + 16], strict=True)
            found += await asyncio.gather(*(hfstream_async(client, url, task) for url, task in some))
        return found


def report(streams: Sequence[Stream], readings: Mapping[str, Sequence[Reading]]) -> list[Difference]:
    """Prints the counts; returns the differences that no rule explains."""
    for name in PEERS:
        pairs = [pair for pair in zip(readings["hfstream"], readings[name], strict=True) if pair[1].error != NO_ROUTE]
        both = sum(not (ours.error or theirs.error) for ours, theirs in pairs)
        only = sum(bool(theirs.error) and not ours.error for ours, theirs in pairs)
        print(f"{name}: {len(pairs)} streams, {both} read to the end by both, {only} by hfstream only")
    found = [(each, reason_for(each)) for each in differences(streams, readings)]
    for reason, count in Counter(reason for _, reason in found if reason).most_common():
        print(f"{count:6} differences: {reason}")
    return [each for each, reason in found if reason is None]


def main() -> int:
    """The command line; returns 1 if there is a difference without a reason."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--streams", type=int, default=3000, help="how many in all")
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other changes")
    options = parser.parse_args()
    streams = corpus(options.streams, options.seed)
    started = time.monotonic()
    unexplained = report(streams, read_all(streams, PEERS))
    print(f"{len(streams)} streams, seed {options.seed}, {time.monotonic() - started:.0f} s")
    for each in unexplained[:40]:
        print(f"without a reason: {each}")
    if unexplained:
        print(f"{len(unexplained)} differences without a reason")
    return bool(unexplained)

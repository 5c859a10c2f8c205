"""The command line of the differential run."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hfstream import AsyncInferenceClient

from .mutations import mutated
from .readers import PEERS, Reading, hfstream_async, hfstream_sync
from .rules import Difference, differences, reason_for
from .server import serving
from .shapes import Stream, shapes


def corpus(count: int, seed: int) -> list[Stream]:
    """All shapes as they are, and then changed once or twice in turn, until there are `count`."""
    rng = random.Random(seed)
    plain = list(shapes())
    changed = [mutated(plain[at % len(plain)], rng, rng.choice((1, 1, 2))) for at in range(count - len(plain))]
    return plain + changed


def read_all(streams: Sequence[Stream]) -> dict[str, list[Reading]]:
    """The readings of every client, in the order of the streams."""
    with serving(streams) as url:
        urls = [f"{url}/{number}" for number in range(len(streams))]
        tasks = [stream.task for stream in streams]
        readings = {"hfstream": [hfstream_sync(*each) for each in zip(urls, tasks, strict=True)]}
        readings["hfstream, async"] = asyncio.run(_read_async(urls, tasks))
        with ThreadPoolExecutor(4) as pool:
            for name, make in PEERS.items():
                readings[name] = list(pool.map(make(), urls, tasks))
    return readings


async def _read_async(urls: Sequence[str], tasks: Sequence[str]) -> list[Reading]:
    async with AsyncInferenceClient(retry=None) as client:
        found: list[Reading] = []
        for start in range(0, len(urls), 16):
            some = zip(urls[start : start + 16], tasks[start : start + 16], strict=True)
            found += await asyncio.gather(*(hfstream_async(client, url, task) for url, task in some))
        return found


def report(streams: Sequence[Stream], readings: dict[str, list[Reading]]) -> list[Difference]:
    """Prints the counts; returns the differences that no rule explains."""
    ours = readings["hfstream"]
    for name in PEERS:
        theirs = readings[name]
        both = sum(not (a.error or b.error) for a, b in zip(ours, theirs, strict=True))
        only = sum(bool(b.error) and b.error != "has no such route" and not a.error for a, b in zip(ours, theirs, strict=True))
        asked = sum(b.error != "has no such route" for b in theirs)
        print(f"{name}: {asked} streams, {both} read to the end by both, {only} by hfstream only")
    found = list(differences(streams, readings))
    explained = Counter(reason for each in found if (reason := reason_for(each)))
    for reason, count in explained.most_common():
        print(f"  {count:5} {reason}")
    return [each for each in found if reason_for(each) is None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    streams = corpus(options.streams, options.seed)
    started = time.monotonic()
    unexplained = report(streams, read_all(streams))
    print(f"{len(streams)} streams, seed {options.seed}, {time.monotonic() - started:.0f} s")
    for each in unexplained[:40]:
        print("UNEXPLAINED", each)
    if unexplained:
        print(len(unexplained), "differences without a rule", Counter(each.kind for each in unexplained))
    return bool(unexplained)


if __name__ == "__main__":
    sys.exit(main())

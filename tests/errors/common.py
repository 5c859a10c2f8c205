"""All error classes of the client."""

from __future__ import annotations

from collections.abc import Iterator

from hfstream.errors import InferenceError

__all__ = ["CLASSES", "Class"]

Class = type[InferenceError]


def all_classes(base: Class = InferenceError) -> Iterator[Class]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__.startswith("hfstream") and not kind.__module__.startswith("hfstream.server"):
            yield from all_classes(kind)  # the server has classes of its own


CLASSES = list(all_classes())

"""How much memory there is, and how much of it keys and values may take. Does not depend on models."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import torch

CACHE_SHARE = 0.25
"""Part of the memory that keys and values may take by default."""

UNKNOWN_MEMORY = 4 << 30
"""Bytes that are assumed where the system does not say."""

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def default_cache_memory(device: torch.device) -> int:
    """Bytes of keys and values: a share of the device's memory, or of what a container may have of it."""
    if device.type == "cuda":
        return int(CACHE_SHARE * torch.cuda.mem_get_info(device)[1])
    return int(CACHE_SHARE * min(_physical_memory(), *_container_limits()))


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return UNKNOWN_MEMORY


def _container_limits() -> list[int]:
    limits = [1 << 62]
    for name in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
            limits.append(int(Path(name).read_text("ascii")))
    return limits

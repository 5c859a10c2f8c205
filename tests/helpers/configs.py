"""Configurations for tests of what a client makes of its arguments."""

from __future__ import annotations

from typing import Any

from hfstream import RetryPolicy, Timeouts
from hfstream._config import ClientConfig

URL = "http://127.0.0.1:8080"


def make_config(model: str | None = URL, **arguments: Any) -> ClientConfig:
    defaults: dict[str, Any] = {
        "token": None, "timeout": Timeouts(), "headers": None, "bill_to": None, "base_url": None, "api_key": None,
        "retry": RetryPolicy(),
    }  # fmt: skip
    return ClientConfig.from_arguments(model, **{**defaults, **arguments})

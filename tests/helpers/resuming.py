"""An exchange driven by hand whose stream can be resumed: by event ids, or by a new request, as it is greedy."""

from __future__ import annotations

from typing import Any

from tests.helpers import exchanges
from tests.helpers.exchanges import ExchangeDriver, Server

__all__ = ["GREEDY", "drive"]

GREEDY: dict[str, Any] = {"max_new_tokens": 20}


def drive(
    server: Server, *, chat: bool = False, parameters: dict[str, Any] | None = None, **options: Any
) -> ExchangeDriver:
    greedy = {} if chat else GREEDY
    options = {"resume": True, **options}
    return exchanges.drive(server, chat=chat, parameters=greedy if parameters is None else parameters, **options)

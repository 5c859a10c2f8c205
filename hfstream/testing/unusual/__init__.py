"""Unusual responses, as users of servers and gateways have reported them, and what a client should make of each.

    from hfstream.testing import UNUSUAL_RESPONSES, ScriptedServer

    with ScriptedServer(UNUSUAL_RESPONSES["LM Studio: an error event"].response) as server: ...

What can be odd in the same way at every server (line endings, chunk boundaries, lost connections) is in `faults`. Does
not depend on the client, or on how it reads a response.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..events import chat_events
from .entries import UnusualResponse, read
from .failures import ERRORS, OTHER_APIS, UNFINISHED
from .forms import FRAMING, PASSED_OVER, TEXT_ELSEWHERE, TOOL_CALLS
from .heads import HEADS
from .native import TEXT_GENERATION

__all__ = ["UNUSUAL_RESPONSES", "UnusualResponse"]

UNUSUAL_RESPONSES: Mapping[str, UnusualResponse] = {
    "as documented": read("a stream as OpenAI documents it", *chat_events("Hel", "lo")),
    **TEXT_ELSEWHERE,
    **PASSED_OVER,
    **TOOL_CALLS,
    **FRAMING,
    **ERRORS,
    **UNFINISHED,
    **OTHER_APIS,
    **HEADS,
    **TEXT_GENERATION,
}
"""All of them, by name: a short one of what is unusual, with the server that is known for it."""

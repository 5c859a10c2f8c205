"""The streams that the tests of the testing kit send."""

from __future__ import annotations

from hfstream import Timeouts
from hfstream.testing import chat_events, faults, token_events

__all__ = ["CHAT", "EVENTS", "SHORT_TIMEOUTS", "TEXT", "TEXTS"]

TEXTS = ["Grüß", " Gott", faults.UNICODE_LINE_SEPARATORS, "👩‍🚀"]
TEXT = "".join(TEXTS)
EVENTS = token_events(*TEXTS)
CHAT = chat_events(*TEXTS)
SHORT_TIMEOUTS = Timeouts(first_token=60, between_tokens=1.0)
"""Only for servers that stall: on a busy machine, other servers may also pause for a second."""

"""The number of requests that run at once."""

from __future__ import annotations

import pytest

from hfstream.errors import OverloadedError
from hfstream.server.service.admission import ConcurrencyLimiter


def test_a_permit_is_refused_when_all_are_taken_and_returned_after_errors() -> None:
    limiter = ConcurrencyLimiter(2)
    with limiter, pytest.raises(ZeroDivisionError), limiter:
        assert limiter.running == 2
        with pytest.raises(OverloadedError) as caught, limiter:
            pass
        assert (str(caught.value), caught.value.retry_after, limiter.running) == ("Model is overloaded", 1, 2)
        raise ZeroDivisionError
    assert limiter.running == 0


def test_several_permits_are_taken_together_or_not_at_all() -> None:
    limiter = ConcurrencyLimiter(3)
    with limiter.permits(2):
        with pytest.raises(OverloadedError), limiter.permits(2):
            pass
        with limiter.permits(1), limiter.permits(0):
            assert limiter.running == 3
    assert limiter.running == 0

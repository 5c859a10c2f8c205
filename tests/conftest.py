"""What all tests share: an environment of their own, both client variants, and no dependence on a fast machine."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from hfstream._transport import response_base
from tests.helpers.skips import pytest_addoption, pytest_sessionfinish, pytest_terminal_summary
from tests.helpers.variants import VARIANTS, Clients, Variant

if TYPE_CHECKING:
    from tests.helpers.shared_engine import SharedEngine

__all__ = ["pytest_addoption", "pytest_sessionfinish", "pytest_terminal_summary"]  # hooks: pytest finds them by name

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a background process of a shell: programs that tests start would inherit it, and never see Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # how long an example takes depends on what else the machine does


OUTSIDE = (
    "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSLKEYLOGFILE", "PYTEST_ADDOPTS",
)  # fmt: skip


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are processors: many tests wait for a server, or for a time to pass."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)  # before `-m` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs the bundled model is slow: its process takes seconds to start."""
    for item in items:
        if {"shared_engine", "reference_backend"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What has been imported stays: a test that collects garbage does not look through all of torch and pytest."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test uses a developer's own token, proxies or certificates, or runs pytest with the options of this run."""
    for name in OUTSIDE:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def patient_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a body is waited for as long as it takes: 50 ms may pass before a busy machine has sent it."""
    monkeypatch.setattr(response_base, "DRAIN_SECONDS", 60.0)


@pytest.fixture(scope="session")
def shared_engine() -> Iterator[SharedEngine]:
    """The bundled model: `BackgroundServer(settings, engine=shared_engine.connect())` takes no time to start."""
    from tests.helpers.shared_engine import SharedEngine  # noqa: PLC0415  the client's tests run without the server

    engine = SharedEngine()
    engine.start()
    yield engine
    engine.close()


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    found: Variant = request.param
    return found


@pytest.fixture
async def clients(variant: Variant) -> AsyncIterator[Clients]:
    clients = Clients(variant)
    yield clients
    for client in clients.made:
        await variant.close(client)

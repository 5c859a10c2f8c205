"""Copies and pickles of a client have its configuration only; what a client was made with can be read."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import tenacity

from hfstream import InferenceClient, RetryPolicy, Timeouts
from hfstream.testing import Response, ScriptedServer, token_events
from tests.helpers.variants import Clients, Variant

SECRETS = {"token": "hf_secret", "headers": {"X-Key": "secret"}, "cookies": {"session": "secret"}}
READ = ("model", "base_url", "token", "api_key", "headers", "cookies", "timeout", "provider")
COPIES: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))]


@pytest.mark.parametrize("copied", COPIES, ids=["copy", "deepcopy", "pickle"])
async def test_a_copy_has_the_configuration_and_connections_of_its_own(
    variant: Variant, clients: Clients, copied: Callable[[Any], Any]
) -> None:
    with ScriptedServer(Response(token_events("Hi", finish_reason="eos_token"))) as server:
        client = clients(server.url, retry=RetryPolicy(5, wait=tenacity.wait_fixed(1)), timeout=(5, 60), **SECRETS)
        assert await variant.rest(await variant.open(client)) == ["Hi"]
        other = copied(client)
        clients.made.append(other)
        assert {name: getattr(other, name) for name in READ} == {name: getattr(client, name) for name in READ}
        assert repr(other) == repr(client)
        await variant.close(client)
        assert await variant.rest(await variant.open(other)) == ["Hi"]  # a closed client's copy is open
        first, second = server.requests
        assert first.headers == second.headers
        assert server.connections == 2


def test_a_subclass_keeps_its_own_attributes(variant: Variant) -> None:
    for copied in COPIES:
        other = copied(_Named(variant.name))
        assert (type(other), other.name, other.model) == (_Named, variant.name, "http://h")


class _Named(InferenceClient):
    def __init__(self, name: str) -> None:
        super().__init__("http://h")
        self.name = name


def test_a_copy_shares_the_users_http_client_and_a_pickle_cannot() -> None:
    with httpx.Client() as http_client:
        client = InferenceClient("http://h", http_client=http_client)
        for copied in (copy.copy(client), copy.deepcopy(client)):
            assert copied._http_client is http_client
        with pytest.raises(TypeError, match=r"http_client= of yours cannot be pickled"):
            pickle.dumps(client)


def test_a_hook_that_cannot_be_pickled_is_named() -> None:
    client = InferenceClient("http://h", retry=RetryPolicy(before_sleep=lambda state: None))
    assert copy.deepcopy(client)._config == client._config
    with pytest.raises((AttributeError, pickle.PicklingError), match="lambda"):
        pickle.dumps(client)


def _ask(client: InferenceClient) -> str:
    return "".join(client.text_generation("Hi", stream=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_a_client_goes_to_other_processes(method: Any) -> None:
    with (
        ScriptedServer(Response(token_events("Hi", finish_reason="eos_token"))) as server,
        InferenceClient(server.url) as client,
    ):
        assert _ask(client) == "Hi"
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(_ask, [client] * 4) == ["Hi"] * 4
            pool.close()
            pool.join()


def test_what_a_client_was_made_with_can_be_read(variant: Variant) -> None:
    client = variant.client("org/name", provider="groq", bill_to="org", timeout=5, **SECRETS)
    assert (client.model, client.base_url, client.provider) == ("org/name", "org/name", "groq")
    assert (client.token, client.api_key, client.timeout) == ("hf_secret", "hf_secret", Timeouts.of(5))
    assert client.headers == {"X-Key": "secret", "X-HF-Bill-To": "org"}
    assert client.cookies == {"session": "secret"}
    for shown in (client, client.headers, client.cookies, client._config):
        assert "secret" not in f"{shown!r} {shown}"
    with pytest.raises(TypeError):  # not lost in silence
        client.headers["X-More"] = "1"
    with pytest.raises(AttributeError):
        client.model = "other"
    bare = variant.client(None)
    assert [getattr(bare, name) for name in READ] == [None, None, None, None, {}, {}, Timeouts(), None]


async def test_a_header_of_None_takes_one_away(variant: Variant, clients: Clients) -> None:
    with ScriptedServer(Response(token_events("Hi", finish_reason="eos_token"))) as server:
        client = clients(server.url, token="t", headers={"authorization": None, "X-A": None, "X-B": "1"})
        await variant.final(await variant.open(client, extra_headers={"x-b": None, "X-C": "2"}))
    headers = server.requests[0].headers
    assert {name for name in headers if name.startswith("x-")} == {"x-c"}
    assert "authorization" not in headers


@pytest.mark.parametrize("value", [5, b"secret", ["secret"]])
def test_a_header_of_another_type_is_refused_by_name(variant: Variant, value: Any) -> None:
    with pytest.raises(TypeError, match="'X-A' must be a string or None") as caught:
        variant.client("http://h", headers={"X-A": value})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "warning"),
    [
        ({"headers": {"x-hf-bill-to": "other"}, "token": "hf_x"}, "replaces 'other'"),
        ({"token": "sk-secret"}, "bill_to= has no effect"),
        ({"api_key": "sk-secret"}, "bill_to= has no effect"),
    ],
)
def test_bill_to_warns_where_huggingface_hub_does(variant: Variant, options: Any, warning: str) -> None:
    with pytest.warns(UserWarning, match=warning) as caught:
        client = variant.client("org/name", bill_to="org", **options)
    assert {**client.headers}.popitem()[1] == "org"
    assert "secret" not in str(caught[0].message)
    assert caught[0].filename.endswith("variants.py")  # where the client is made

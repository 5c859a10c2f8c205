"""You will see three tests of an application pass, without a model: run ``pytest examples/test_my_app.py``.

The fixture `scripted_server` is part of hfstream.
"""

from collections.abc import Callable

import pytest

from hfstream import InferenceClient, InferenceError
from hfstream.testing import Response, ScriptedServer, faults, token_events


def headline(client: InferenceClient, topic: str) -> str:
    """The application: one line about a topic, or a replacement text after an error."""
    try:
        with client.text_generation(f"A headline about {topic}:", stream=True) as stream:
            for token in stream:
                if "\n" in token:
                    break
    except InferenceError:
        return f"(no headline about {topic} today)"
    return stream.text.partition("\n")[0]


def test_a_headline_is_one_line(scripted_server: Callable[..., ScriptedServer]) -> None:
    server = scripted_server(Response(token_events("Cheese", " ripens", "\n", "And more")))
    assert headline(InferenceClient(server.url), "cheese") == "Cheese ripens"


@pytest.mark.parametrize("fault", ["overloaded", "drop"])
def test_after_an_error_there_is_a_replacement_text(scripted_server: Callable[..., ScriptedServer], fault: str) -> None:
    server = scripted_server(
        faults.overloaded() if fault == "overloaded" else faults.drop(token_events("Che", "ese"), after=1)
    )
    client = InferenceClient(server.url, retry=None)
    assert headline(client, "cheese") == "(no headline about cheese today)"

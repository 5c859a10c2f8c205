"""OpenAI's Responses API over HTTP, with a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from hfstream.server import BackgroundServer, Settings
from hfstream.server.engine.protocol import EngineRequest
from hfstream.server.routes import responses_api
from tests.helpers.scripted_engine import EOS, TOKENIZER, Script, ScriptedEngine, eventually, http, idle, ids, metric

PATH = "/v1/responses"
OUTPUTS: dict[str, Script] = {
    "Hi>": [*ids("aü"), EOS],
    "HiaüAgain>": [*ids("b"), EOS],
    "Be brief.HiaüAgain>": [*ids("c"), EOS],
    "break>": [*ids("ab"), RuntimeError("out of memory")],
}


def script(job: EngineRequest) -> Script:
    return OUTPUTS.get(TOKENIZER.decode(list(job.prompt)), ids("?"))


@pytest.fixture(scope="module")
def url(chat_model: Path) -> Iterator[str]:
    with BackgroundServer(Settings(model=str(chat_model)), engine=ScriptedEngine(script)) as server:
        yield server.url


def ask(url: str, text: Any = "Hi", **fields: Any) -> httpx.Response:
    response: httpx.Response = http.post(url + PATH, json={"input": text, "model": "m", **fields})
    return response


def stream(url: str, text: Any = "Hi", **fields: Any) -> list[dict[str, Any]]:
    """The events; each has its type as its name too, and there is no done event."""
    response = ask(url, text, stream=True, **fields)
    assert response.status_code == 200
    events: list[dict[str, Any]] = []
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def texts(response: dict[str, Any]) -> list[str]:
    return [part["text"] for item in response["output"] for part in item["content"]]


def without_ids(response: dict[str, Any]) -> dict[str, Any]:
    output = [{**item, "id": "msg_1"} for item in response["output"]]
    return {**response, "id": "resp_1", "created_at": 0, "output": output}


def test_the_same_response_streamed_and_whole(url: str) -> None:
    fields: dict[str, Any] = {"instructions": None, "temperature": 0, "metadata": {"k": "v"}, "user": "me"}
    whole = ask(url, **fields).json()
    events = stream(url, **fields)
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta", "output_text.delta",
        "output_text.done", "content_part.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert without_ids(events[-1]["response"]) == without_ids(whole)
    assert events[0]["response"]["status"] == events[1]["response"]["status"] == "in_progress"
    assert (texts(whole), whole["status"], whole["model"]) == (["aü"], "completed", "m")
    assert (whole["temperature"], whole["metadata"], whole["user"]) == (0.0, {"k": "v"}, "me")
    assert (whole["usage"]["input_tokens"], whole["usage"]["output_tokens"]) == (4, 3)
    assert {event["item_id"] for event in events if "item_id" in event} == {events[-1]["response"]["output"][0]["id"]}


def test_a_later_request_continues_the_conversation_without_its_instructions(url: str) -> None:
    for first in (ask(url).json(), stream(url)[-1]["response"]):
        second = ask(url, "Again", previous_response_id=first["id"]).json()
        assert (texts(second), second["previous_response_id"]) == (["b"], first["id"])
        instructed = ask(url, "Again", previous_response_id=first["id"], instructions="Be brief.").json()
        assert texts(instructed) == ["c"]
        assert texts(ask(url, "Again", previous_response_id=first["id"]).json()) == ["b"]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_response_that_is_not_stored_cannot_be_continued(url: str, streamed: bool) -> None:
    first = ask(url, store=False).json()
    refused = ask(url, "Again", previous_response_id=first["id"], stream=streamed)
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "previous_response_not_found")
    assert error["message"].startswith(f"Previous response with id '{first['id']}' not found.")


def test_items_as_input(url: str) -> None:
    again = [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        *ask(url).json()["output"],
        {"role": "user", "content": "Again"},
    ]
    assert texts(ask(url, again).json()) == ["b"]


def test_a_long_conversation_is_converted_on_another_thread(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses_api, "INLINE_ITEMS", 0)
    first = ask(url).json()
    assert texts(ask(url, "Again", previous_response_id=first["id"]).json()) == ["b"]
    assert ask(url, [{"type": "reasoning"}]).json()["error"]["param"] == "input"


def test_a_response_that_is_cut(url: str) -> None:
    whole = ask(url, max_output_tokens=1).json()
    assert (texts(whole), whole["status"]) == (["a"], "incomplete")
    assert stream(url, max_output_tokens=1)[-1]["type"] == "response.incomplete"


def test_logprobs(url: str) -> None:
    [item] = ask(url, top_logprobs=1).json()["output"]
    logprobs = item["content"][0]["logprobs"]
    assert [(each["token"], len(each["top_logprobs"])) for each in logprobs] == [("a", 1), ("ü", 1)]


def test_a_failure(url: str) -> None:
    whole = ask(url, "break")
    assert (whole.status_code, whole.json()["error"]["code"]) == (424, "generation")
    failures = metric(url, 'tgi_request_failure{err="generation"}')
    *_, error, failed = stream(url, "break")
    assert (error["type"], error["code"]) == ("error", "generation")
    assert failed["type"] == "response.failed"
    assert failed["response"]["error"]["code"] == "server_error"
    assert metric(url, 'tgi_request_failure{err="generation"}') == failures + 1
    assert eventually(lambda: idle(url))


def test_a_resumable_stream(url: str) -> None:
    body = {"input": "Hi", "stream": True}
    response = http.post(url + PATH, json=body, headers={"prefer": "resumable"})
    blocks = response.text.removesuffix("\n\n").split("\n\n")
    assert blocks[0].startswith("event: response.created\nid: ")
    assert blocks[-1].startswith("event: response.completed\nid: ")
    event_id = blocks[3].split("\n")[1].removeprefix("id: ")
    rest = http.post(url + PATH, json=body, headers={"last-event-id": event_id}).text
    assert rest == "".join(f"{block}\n\n" for block in blocks[4:])


TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {"city": {}}}}
CALLS = (
    'I look.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "weather", "arguments": {"city": "Bonn"}}\n</tool_call>'
)


def test_calls_of_functions(chat_model: Path) -> None:
    """Streamed and whole; a later request sends their outputs, and the template reads all of it."""
    engine = ScriptedEngine(lambda job: [*ids(CALLS), EOS], context=2_000)
    with BackgroundServer(Settings(model=str(chat_model)), engine=engine) as server:
        whole = ask(server.url, tools=[TOOL]).json()
        events = stream(server.url, tools=[TOOL])
        calls = [item for item in whole["output"] if item["type"] == "function_call"]
        assert [(item["name"], json.loads(item["arguments"])["city"]) for item in calls] == [
            ("weather", "Rome"), ("weather", "Bonn"),
        ]  # fmt: skip
        assert whole["output"][0]["content"][0]["text"] == "I look."
        assert [item["type"] for item in events[-1]["response"]["output"]] == ["message", *2 * ["function_call"]]
        assert (whole["status"], whole["tools"]) == ("completed", [TOOL])
        for index, item in enumerate(calls, 1):
            pieces = [event for event in events if event.get("output_index") == index and "delta" in event]
            assert "".join(event["delta"] for event in pieces) == item["arguments"]
        outputs = [{"type": "function_call_output", "call_id": item["call_id"], "output": "sunny"} for item in calls]
        assert ask(server.url, outputs, tools=[TOOL], previous_response_id=whole["id"]).status_code == 200
    prompt = TOKENIZER.decode(list(engine.submitted[-1].prompt))
    assert prompt.index("I look.") < prompt.index("Rome") < prompt.index("Bonn") < prompt.index("sunny")


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"input": []}, "input"),
        ({"input": 90 * "Hi"}, "input"),
        ({"background": True}, "background"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"metadata": {"a": 1}}, "metadata.a"),
    ],
)
def test_an_invalid_request_names_the_field(url: str, fields: dict[str, Any], param: str, streamed: bool) -> None:
    response = http.post(url + PATH, json={"input": "Hi", "stream": streamed, **fields})
    assert (response.status_code, response.json()["error"]["param"]) == (422, param)

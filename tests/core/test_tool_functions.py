"""Calls of functions as a model asks for them: found by name, arguments validated, results as text."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from hfstream.core.tool_functions import InvalidToolCallError, ToolFunctions, result_text
from hfstream.types import ChatCompletionToolCall


class City(BaseModel):
    name: str


class LookUp(BaseModel):
    """Looks up a city."""

    city: str

    def __call__(self) -> str:
        return f"found {self.city}"


class LookUpLater(LookUp):
    """Looks up a city."""

    async def __call__(self) -> str:  # type: ignore[override]
        return f"found {self.city}"


@dataclass
class Silent:
    city: str


class Service:
    def weather(self, city: str, days: int = 1) -> tuple[str, int]:
        return city, days

    def __call__(self, city: str) -> str:
        return f"service {city}"


def weather(
    place: City,
    day: Annotated[int, Field(ge=0, le=7)] = 0,
    *,
    unit: Literal["C", "F"] | None = None,
    when: datetime.date | None = None,
) -> tuple[Any, ...]:
    return place, day, unit, when


def nothing() -> str:
    return "done"


def anything(**fields: int) -> dict[str, int]:
    return fields


async def later(city: str) -> str:
    return city


def call_of(name: str, arguments: str) -> ChatCompletionToolCall:
    return ChatCompletionToolCall.model_validate({"function": {"name": name, "arguments": arguments}})


def called(tool: Any, name: str, arguments: str) -> Any:
    return ToolFunctions([tool], may_await=False).prepare(call_of(name, arguments))()


@pytest.mark.parametrize(
    ("tool", "name", "arguments", "result"),
    [
        (weather, "weather", '{"place": {"name": "Rom"}}', (City(name="Rom"), 0, None, None)),
        (weather, "weather", '{"place": {"name": "Rom"}, "day": "3", "unit": "F", "when": "2026-01-02"}',
         (City(name="Rom"), 3, "F", datetime.date(2026, 1, 2))),
        (Service().weather, "weather", '{"city": "Rom"}', ("Rom", 1)),
        (Service(), "Service", '{"city": "Rom"}', "service Rom"),
        (LookUp, "LookUp", '{"city": "Rom"}', "found Rom"),
        (nothing, "nothing", "{}", "done"),
        (nothing, "nothing", "", "done"),
        (nothing, "nothing", " \n", "done"),
        (nothing, "nothing", "null", "done"),
        (anything, "anything", '{"a": 1, "b": 2}', {"a": 1, "b": 2}),
    ],
)  # fmt: skip
def test_a_function_gets_its_arguments_as_its_annotations_say(
    tool: Any, name: str, arguments: str, result: Any
) -> None:
    assert called(tool, name, arguments) == result


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("{}", "place: Missing"),
        ('{"place": {"name": 5}}', "place.name: Input should be a valid string"),
        ('{"place": {"name": "Rom"}, "day": 8, "unit": "K"}', "day: Input should be less than or equal to 7; unit: "),
        ('{"place": {"name": "Rom"}, "days": 8}', "days: Unexpected keyword argument"),
        ('{"place": {"na', "Invalid JSON"),
        ("[1]", "Input"),
        ("null", "place: Missing"),
    ],
)
def test_arguments_that_do_not_fit_are_told(arguments: str, reason: str) -> None:
    with pytest.raises(InvalidToolCallError, match=f"^the arguments of weather are not valid: .*{reason}") as caught:
        called(weather, "weather", arguments)
    assert "errors.pydantic.dev" not in str(caught.value)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    functions = ToolFunctions([weather, nothing, {"type": "web_search"}], may_await=False)
    with pytest.raises(InvalidToolCallError, match="no tool 'wether'; the tools are: weather, nothing"):
        functions.prepare(call_of("wether", "{}"))
    with pytest.raises(InvalidToolCallError, match="the tools are: none"):
        ToolFunctions([], may_await=False).prepare(call_of("wether", "{}"))


def test_what_a_function_raises_is_not_taken_for_invalid_arguments() -> None:
    def fails(city: str) -> None:
        City.model_validate({"name": None})

    call = ToolFunctions([fails], may_await=False).prepare(call_of("fails", '{"city": "Rom"}'))
    with pytest.raises(ValueError, match="1 validation error for City"):
        call()


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{"type": "function", "function": {"name": "f"}}], "not only their description"),
        ([{"function": {"name": "f"}}], "not only their description"),
        ([Silent], "give it a method __call__"),
        ([City], "give it a method __call__"),
        ([weather, weather], "two tools have the name 'weather'"),
        ([later], "the tool later is async: use AsyncInferenceClient"),
        ([LookUpLater], "the tool LookUpLater is async"),
        ([5], "a tool is a dictionary"),
        (weather, "is a list of tools"),
    ],
)
def test_what_cannot_be_called_is_refused_at_once(tools: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        ToolFunctions(tools, may_await=False)


@pytest.mark.parametrize(("tool", "result"), [(later, "Rom"), (LookUpLater, "found Rom")])
async def test_async_functions_where_they_can_be_awaited(tool: Callable[..., Any], result: str) -> None:
    functions = ToolFunctions(iter([tool]), may_await=True)
    assert await functions.prepare(call_of(tool.__name__, '{"city": "Rom"}'))() == result


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ("Rain", "Rain"),
        ("", ""),
        (None, "null"),
        (12.5, "12.5"),
        ({"b": "ü"}, '{"b":"ü"}'),
        ([City(name="Rom")], '[{"name":"Rom"}]'),
        (Silent("Rom"), '{"city":"Rom"}'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
        ("a\udcffb\n", "a\ufffdb\n"),
        ("\ufeff\ud83d\ude00", "\ufeff\U0001f600"),  # two surrogates that are one character
    ],
)
def test_a_result_is_sent_as_text_or_json(result: Any, text: str) -> None:
    assert result_text(result) == text


def test_a_result_that_is_no_json_is_an_error() -> None:
    with pytest.raises(ValueError, match="serialize"):
        result_text(object())

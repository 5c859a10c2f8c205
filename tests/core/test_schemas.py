"""Tools made of classes and functions; which values are types."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from hfstream.core.chat_completion import chat_completion
from hfstream.core.schemas import find_schema_type, is_schema_type
from hfstream.types import ChatCompletionInputTool

OBJECT = {"type": "object", "properties": {"city": {"title": "City", "type": "string"}}, "required": ["city"]}


class City(BaseModel):
    """Looks up a city."""

    city: str


class Plain(BaseModel):
    city: str


@dataclass
class Town:
    city: str


def look_up(city: str) -> str:
    """Looks up a city."""
    return city


async def look_up_later(city: str) -> str:
    """Looks up a city.

    Later.
    """
    return city


def unannotated(city, days=1):  # type: ignore[no-untyped-def]
    return city, days


class Service:
    def look_up(self, city: str) -> str:
        """Looks up a city."""
        return city

    @staticmethod
    def fixed(city: str) -> str:
        return city

    def __call__(self, city: str) -> str:
        """Calls."""
        return city


def tools_of(*tools: Any, **more: Any) -> Any:
    spec = chat_completion("http://h", "m", [], {"tools": list(tools), **more}, stream=False, headers={})
    assert spec.body is not None
    return json.loads(spec.body)["tools"]


@pytest.mark.parametrize(
    ("tool", "name", "description"),
    [
        (City, "City", "Looks up a city."),
        (Plain, "Plain", None),
        (Town, "Town", None),
        (look_up, "look_up", "Looks up a city."),
        (look_up_later, "look_up_later", "Looks up a city.\n\nLater."),
        (Service().look_up, "look_up", "Looks up a city."),
        (Service.fixed, "fixed", None),
        (Service(), "Service", None),
    ],
)
def test_a_class_or_function_is_made_a_tool(tool: Any, name: str, description: str | None) -> None:
    (sent,) = tools_of(tool)
    assert sent["type"] == "function"
    assert sent["function"]["name"] == name
    assert sent["function"].get("description") == description
    parameters = sent["function"]["parameters"]
    assert {key: parameters[key] for key in OBJECT} == OBJECT
    assert "description" not in parameters


def test_annotations_defaults_and_descriptions_are_in_the_schema() -> None:
    def weather(place: City, day: Annotated[str, Field(description="when")], unit: Literal["c", "f"] = "c") -> None: ...

    properties = tools_of(weather)[0]["function"]["parameters"]["properties"]
    assert properties["unit"] == {"default": "c", "enum": ["c", "f"], "title": "Unit", "type": "string"}
    function: Any = weather
    assert properties["day"] == TypeAdapter(function).json_schema()["properties"]["day"]  # 2.9 has no description
    assert "#/$defs/City" in str(properties["place"])
    assert tools_of(unannotated)[0]["function"]["parameters"]["required"] == ["city"]


def test_the_docstring_says_what_the_parameters_mean() -> None:
    def forecast(place: City | None, day: str = "today", *, unit: str | None = None) -> str:
        """The weather.

        Args:
            place: the town, as in
                the atlas: exactly.
            unit (str, optional): C or F.
            missing: a parameter that does not exist

        Returns:
            A sentence.
        """
        raise NotImplementedError

    function = tools_of(forecast)[0]["function"]
    properties = function["parameters"]["properties"]
    assert function["description"] == "The weather.\n\nReturns:\n    A sentence."
    assert {name: found.get("description") for name, found in properties.items()} == {
        "place": "the town, as in the atlas: exactly.",
        "day": None,
        "unit": "C or F.",
    }
    assert (properties["day"]["default"], properties["unit"]["default"]) == ("today", None)
    assert function["parameters"]["required"] == ["place"]


class Visit(BaseModel):
    """A visit.

    Attributes:
        city: not this
        days: how long
    """

    city: Annotated[str, Field(description="where")]
    days: int = 1


def test_a_description_of_the_field_itself_comes_first() -> None:
    function = tools_of(Visit)[0]["function"]
    assert function["description"] == "A visit."
    descriptions = [found["description"] for found in function["parameters"]["properties"].values()]
    assert descriptions == ["where", "how long"]


def test_dictionaries_are_sent_as_they_are() -> None:
    tool = ChatCompletionInputTool(type="function", function={"name": "x", "parameters": {"type": "object"}})
    assert tools_of(tool, {"type": "web_search"}, look_up)[:2] == [tool, {"type": "web_search"}]


def positional(city: str, /) -> None: ...
def variadic(*cities: str) -> None: ...
def undefined(city: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821
def unknown(city: Service) -> None: ...


@pytest.mark.parametrize(
    "tool",
    [
        "look_up", 5, None, City(city="x"), lambda city: city, positional, variadic, undefined, unknown, Service, int,
        list[int], object(), partial(look_up),
    ],
)  # fmt: skip
def test_what_cannot_be_made_a_tool_is_a_TypeError(tool: Any) -> None:
    with pytest.raises(TypeError, match=r"tool|JSON schema"):
        tools_of(tool)


def test_a_partial_as_tool_says_what_to_write() -> None:
    """Its name and docstring are those of `functools.partial`; which parameters are left, a schema cannot tell."""
    with pytest.raises(TypeError, match="write a function with `def` that calls it"):
        tools_of(partial(look_up))


@pytest.mark.parametrize("tools", [look_up, City, {"type": "function"}, "look_up", 5, City(city="x")])
def test_tools_that_are_no_list_are_a_TypeError(tools: Any) -> None:
    with pytest.raises(TypeError, match="is a list of tools"):
        chat_completion("http://h", "m", [], {"tools": tools}, stream=False, headers={})


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        (look_up, {"type": "function", "function": {"name": "look_up"}}),
        (City, {"type": "function", "function": {"name": "City"}}),
        ({"function": {"name": "x"}}, {"function": {"name": "x"}}),
    ],
)
def test_a_tool_choice_may_be_what_the_tool_is(choice: Any, sent: Any) -> None:
    spec = chat_completion("http://h", "m", [], {"tool_choice": choice}, stream=False, headers={})
    assert json.loads(spec.body or b"")["tool_choice"] == sent


@pytest.mark.parametrize("value", [5, "City", City(city="x"), City.model_validate, [City], object(), None, {}])
def test_values_are_no_types(value: Any) -> None:
    assert not is_schema_type(value)
    assert find_schema_type(value) is None


@pytest.mark.parametrize("value", [City, Town, int, list[int], int | None, Literal["a"], Callable[[], int]])
def test_types_are_types(value: Any) -> None:
    assert is_schema_type(value)
    assert find_schema_type({"json_schema": {"schema": value}}) is value

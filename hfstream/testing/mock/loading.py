"""Reads rules, and reports a mistake with its file, line and field. Does not depend on how rules are used."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .documents import DocumentError, Node, read_document
from .json_values import is_array, is_object
from .rules import MODELS, Rules, When

__all__ = ["LoadedRules", "RulesError", "load_rules", "parse_rules"]

_YAML_BOOLEANS = "YAML reads yes, no, on, off, true and false as such: put them in quotes for a text"


class RulesError(ValueError):
    """Rules that cannot be used. The message names the file, the line and the field."""


@dataclass(frozen=True)
class LoadedRules:
    """Rules, and where each of them is written."""

    rules: Rules
    lines: Sequence[int]
    """The line of each rule, counted from 1; empty for rules that are not from a file."""


def load_rules(path: str | Path) -> LoadedRules:
    """Reads a file: JSON if its name ends in ``.json``, else YAML.

    Raises:
        OSError: The file cannot be read.
        ImportError: It is YAML, and PyYAML is not installed.
        RulesError: It is not valid.
    """
    try:
        document = read_document(Path(path))
    except DocumentError as error:
        line = "" if error.line is None else f", line {error.line}"
        raise RulesError(f"{path}{line}: {error}") from error
    rules = _validate(document.plain(), lambda location: f"{path}, line {document.line_of(location)}")
    return LoadedRules(rules, [rule.line for rule in _rules_of(document)])


def parse_rules(value: Mapping[str, Any]) -> LoadedRules:
    """Rules that a program has written as a dict.

    Raises:
        RulesError: They are not valid.
    """
    return LoadedRules(_validate(dict(value), lambda _: "rules"), [])


def _rules_of(document: Node) -> Sequence[Node]:
    rules: Sequence[Node] = document.value["rules"].value
    return rules


Place = Callable[[Sequence[str | int]], str]
"""Where the value is written that keys and indices lead to, in words."""


def _validate(value: Any, place: Place) -> Rules:
    if not is_object(value):
        raise RulesError(f"{place(())}: must be a mapping with the field `rules`, not {_name(value)}")
    try:
        return Rules.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = [_SPELLED.get(str(step), step) for step in first["loc"]]
        # A missing field has no line: it is reported where it should be.
        raise RulesError(f"{place(location)}: {_field(location)}{_message(first, location)}") from error


_SPELLED = {"json_text": "json", "json_body": "json"}


def _field(location: Sequence[str | int]) -> str:
    """``rule 2: `when.contains` ``: the rules are counted from 1, as they are when they answer."""
    prefix, path = "", list(location)
    if path[:1] == ["rules"] and len(path) > 1:
        prefix, path = f"rule {int(path[1]) + 1}: ", path[2:]
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    return f"{prefix}`{text}` " if text else prefix


def _message(error: Any, location: Sequence[str | int]) -> str:
    """What is wrong, in words that follow the field's name."""
    kind, given = error["type"], error["input"]
    if kind == "extra_forbidden":
        return _unknown_field(location)
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return str(error["ctx"]["error"])
    if kind == "too_short":
        return "must have at least one rule"
    return f"{_requirement(error)}, not {_name(given)}" + (f" ({_YAML_BOOLEANS})" if isinstance(given, bool) else "")


def _requirement(error: Any) -> str:
    match error["type"]:
        case "string_type":
            return "must be text"
        case "model_type" | "dict_type":
            return "must be a mapping"
        case "literal_error":
            allowed = str(error["ctx"]["expected"]).replace("'", "")
            return f"must be one of {allowed}"
        case _:
            message: str = error["msg"]  # such as "Input should be greater than 0"
            return message.replace("Input should be", "must be")


def _unknown_field(location: Sequence[str | int]) -> str:
    name = str(location[-1])
    above = next((step for step in reversed(location[:-1]) if isinstance(step, str)), "")
    fields = MODELS[above].model_fields if above in MODELS else {}
    known = [field.alias or name for name, field in fields.items()]
    if above == "rules" and name in When.model_fields:
        return "belongs in `when`"
    if above == "when" and name in known:
        return "is there twice"
    return f"is not a field{_similar(name, known)}; there are {', '.join(known)}"


def _similar(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _name(value: Any) -> str:
    return "nothing" if value is None else "a list" if is_array(value) else f"{value!r:.50}"

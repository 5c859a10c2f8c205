"""JSON and YAML with the line of each value, so that a mistake can be reported where it is.

Does not depend on what the values mean.
"""

from __future__ import annotations

import bisect
import importlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .json_values import is_array, is_object

__all__ = ["DocumentError", "Node", "read_document"]

_MAX_DEPTH = 100
"""Levels of lists and mappings inside each other. Rules have about six; many more would end the recursion."""


class DocumentError(ValueError):
    """A file that cannot be read. `line` is counted from 1; None if the parser names none."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


@dataclass(frozen=True)
class Node:
    """A value, and the line where it begins; the value of a key has the line of its key."""

    value: Any
    """A scalar, a list of nodes, or a dict of nodes by their keys."""
    line: int

    def plain(self) -> Any:
        """The value without lines."""
        if is_object(self.value):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if is_array(self.value) else self.value

    def line_of(self, path: Sequence[str | int]) -> int:
        """The line of the value that the keys and indices of `path` lead to; of the last one there is on the way."""
        node = self
        for step in path:
            try:
                node = node.value[step]
            except (KeyError, IndexError, TypeError):
                break
        return node.line


def read_document(path: Path) -> Node:
    """Reads a file: JSON if its name ends in ``.json``, else YAML.

    Raises:
        OSError: The file cannot be read.
        ImportError: It is YAML, and PyYAML is not installed.
        DocumentError: It is not valid.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError("not UTF-8", data.count(b"\n", 0, error.start) + 1) from error
    return _JSONReader(text).read() if path.suffix.lower() == ".json" else _read_yaml(text)


# JSON ----------------------------------------------------------------------------------------------------------------


class _JSONReader:
    """The parser of the standard library, called for one scalar after the other: it does not tell where values are."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_ends = [found.start() for found in re.finditer("\n", text)]
        self._decoder = json.JSONDecoder(parse_constant=_refuse_constant)
        self._at = 0

    def read(self) -> Node:
        node = self._value(0)
        self._skip_blanks()
        if self._at < len(self._text):
            raise self._error("more after the end of the document")
        return node

    def _error(self, message: str, at: int | None = None) -> DocumentError:
        return DocumentError(message, self._line(self._at if at is None else at))

    def _line(self, at: int) -> int:
        return bisect.bisect_left(self._line_ends, at) + 1

    def _skip_blanks(self) -> str:
        """The next character that is none of JSON's blanks, which stays unread; "" at the end."""
        found = re.compile(r"[ \t\n\r]*").match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def _value(self, depth: int) -> Node:
        if depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} levels")
        first = self._skip_blanks()
        line = self._line(self._at)
        if first == "{":
            return Node(self._object(depth), line)
        if first == "[":
            return Node(self._array(depth), line)
        return Node(self._scalar("a value"), line)

    def _scalar(self, what: str) -> Any:
        try:
            value, self._at = self._decoder.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            message = f"expected {what}" if error.msg == "Expecting value" else error.msg
            raise self._error(message, error.pos) from error
        except ValueError as error:
            raise self._error(str(error)) from error
        return value

    def _array(self, depth: int) -> list[Node]:
        nodes: list[Node] = []
        while self._next_item("]", first=not nodes):
            nodes.append(self._value(depth + 1))
        return nodes

    def _object(self, depth: int) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        while self._next_item("}", first=not nodes):
            start = self._at
            if self._skip_blanks() != '"':
                raise self._error("expected a name in double quotes")
            name = self._scalar("a name in double quotes")
            if name in nodes:
                raise self._error(f"`{name}` is there twice", start)
            if self._skip_blanks() != ":":
                raise self._error("expected a colon")
            self._at += 1
            nodes[name] = Node(self._value(depth + 1).value, self._line(start))
        return nodes

    def _next_item(self, end: str, *, first: bool) -> bool:
        """Reads the bracket or the comma before an item, or the end; returns whether there is an item."""
        if first:
            self._at += 1  # the opening bracket
        after = self._skip_blanks()
        if after == end and first:
            self._at += 1
            return False
        if first:
            return True
        if after not in (",", end):
            raise self._error(f"expected a comma or {end}")
        self._at += 1
        if after == end:
            return False
        self._skip_blanks()
        return True


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


# YAML ----------------------------------------------------------------------------------------------------------------


def _read_yaml(text: str) -> Node:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError as error:
        raise ImportError(
            'rules in YAML require PyYAML: pip install "hfstream[mock]"; rules in a .json file do not'
        ) from error
    loader: Any = None
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            raise DocumentError("the file is empty", 1)
        return _YAMLNodes(loader).convert(root, 0)
    except RecursionError as error:  # in PyYAML's own functions, before there are lines
        raise DocumentError(f"more than {_MAX_DEPTH} levels", None) from error
    except yaml.reader.ReaderError as error:
        message = f"the character {chr(error.character)!r}, which YAML does not allow"
        raise DocumentError(message, text.count("\n", 0, error.position) + 1) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError(str(error.problem or error.context), mark and mark.line + 1) from error
    finally:
        if loader is not None:
            loader.dispose()


class _YAMLNodes:
    """Converts PyYAML's nodes. `loader` makes the values of scalars."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def convert(self, node: Any, depth: int) -> Node:
        line = node.start_mark.line + 1
        if depth > _MAX_DEPTH:  # also an alias of what it is in
            raise DocumentError(f"more than {_MAX_DEPTH} levels", line)
        if node.id == "mapping":
            return Node(self._mapping(node, depth), line)
        if node.id == "sequence":
            return Node([self.convert(item, depth + 1) for item in node.value], line)
        try:
            value = self._loader.construct_object(node)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            kind = node.tag.rpartition(":")[2]
            raise DocumentError(f"{node.value:.50} is no {kind} in YAML: put it in quotes", line) from error
        if not isinstance(value, str | int | float | bool | None):
            raise DocumentError(f"{node.value} is a {type(value).__name__} in YAML: put it in quotes", line)
        return Node(value, line)

    def _mapping(self, node: Any, depth: int) -> dict[str, Node]:
        merges = any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value)
        self._loader.flatten_mapping(node)  # what `<<` merges comes first, and is replaced by the mapping's own
        nodes: dict[str, Node] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.id != "scalar":
                raise DocumentError("a name must be text", line)
            if key.value in nodes and not merges:
                raise DocumentError(f"`{key.value}` is there twice", line)
            nodes[key.value] = Node(self.convert(value, depth + 1).value, line)
        return nodes

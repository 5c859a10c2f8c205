"""What the docstring of a tool says: its text, and its parameters."""

from __future__ import annotations

import pytest

from hfstream.core.docstrings import split_docstring


@pytest.mark.parametrize(
    ("doc", "text", "parameters"),
    [
        ("", "", {}),
        ("Does it.", "Does it.", {}),
        ("Does it.\n\nArgs:\n    a: one\n    b: two", "Does it.", {"a": "one", "b": "two"}),
        ("Does it.\nArgs:\n  a (int): one\n  b (dict[str, int], optional): two", "Does it.", {"a": "one", "b": "two"}),
        ("Args:\n    a: one\n        goes on: here\n\n        and here\n    b:\n        two", "",
         {"a": "one goes on: here and here", "b": "two"}),
        ("Does it.\n\nArgs:\n    *args: more\n    **kwargs: all\n\nReturns:\n    a: text",
         "Does it.\n\nReturns:\n    a: text", {"args": "more", "kwargs": "all"}),
        ("Does it.\n\nAttributes:\n    a: one\n\nMore.", "Does it.\n\nMore.", {"a": "one"}),
        ("Args: none of them", "Args: none of them", {}),
        ("Args:\n    no entry here\n    a: one", "", {"a": "one"}),
        ("Does it.\n\n    a: an example, not a parameter", "Does it.\n\n    a: an example, not a parameter", {}),
    ],
)  # fmt: skip
def test_the_text_and_the_parameters(doc: str, text: str, parameters: dict[str, str]) -> None:
    assert split_docstring(doc) == (text, parameters)

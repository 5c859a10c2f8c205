"""Reading rules: JSON and YAML, and mistakes with their file, line and field."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hfstream.testing import MockServer, RulesError, faults
from hfstream.testing.mock.documents import read_document
from hfstream.testing.mock.loading import load_rules
from hfstream.testing.mock.rules import EVENT_FAULTS, RESPONSE_FAULTS, split_text

MISTAKES = {
    "an unknown field": ("rules:\n  - text: a\n    whn: {tool: x}\n", 3, "`whn` is not a field (did you mean when?)"),
    "an unknown condition": ("rules:\n  - when:\n      contain: x\n    text: a", 3, "`when.contain` is not a field"),
    "a condition outside": ("rules:\n  - contains: x\n    text: a", 2, "`contains` belongs in `when`"),
    "YAML's no": ("rules:\n  - text: no\n", 2, "`text` must be text or a list of texts, not False: put it in quotes"),
    "a number as text": ("model: 5\nrules:\n - text: a", 1, "`model` must be text, not 5"),
    "a boolean as text": ("rules:\n - text: a\n   when: {tool: on}", 3, "put them in quotes"),
    "tokens of other types": ("rules:\n  - text: [a, 1]", 2, "`text` must be text or a list of texts"),
    "an unknown fault": ("rules:\n  - text: a\n    fault: dropp\n", 3, "`fault` must be one of drop, reset, stall"),
    "an unknown error": ("rules:\n - error: overlod", 2, "one of overloaded, unauthorized, validation, unavailable"),
    "no error's status": ("rules:\n - error: 700", 2, "`error.status` must be less than or equal to 599, not 700"),
    "no pace": ("rules:\n - text: a\n   tokens_per_second: 0", 3, "`tokens_per_second` must be greater than 0, not 0"),
    "no number of a call": ("rules:\n - text: a\n   when: {call: 0}", 3, "`when.call` must be a number, or a list"),
    "no pattern": ('rules:\n - when: {matches: "("}\n   text: a', 2, "`when.matches` is not a regular expression"),
    "a pattern that is a number": ("rules:\n - when: {matches: 1}\n   text: a", 2, "a regular expression, not 1"),
    "a call without a name": ("rules:\n - tool_calls:\n   - arguments: {}\n", 3, "`tool_calls[0].name` is missing"),
    "no answer": ("rules:\n - text: a\n - delay: 1", 3, "rule 2: has no answer: give `text`"),
    "two answers": ("rules:\n - text: a\n   json: 1", 2, "rule 1: has both `text` and `json`"),
    "two more answers": ("rules:\n - text: a\n   fault: html", 2, "has more than one answer (fault, an answer)"),
    "after without a fault": ("rules:\n - text: a\n   after: 3", 2, "`after` goes with `error` and with the faults"),
    "an error in an answer": ("rules:\n - text: a\n   error: 500", 2, "`after` says how many events come before"),
    "a fault and an error": ("rules:\n - text: a\n   fault: drop\n   error: 500\n   after: 1", 2, "and `error`"),
    "a fault of nothing": ("rules:\n - fault: drop", 2, "the fault `drop` needs an answer"),
    "a size without chunks": ("rules:\n - text: a\n   size: 3", 2, "`size` goes with the fault rechunk"),
    "a wait without an error": ("rules:\n - text: a\n   retry_after: 3", 2, "`retry_after` goes with `error`"),
    "nothing to split": ("rules:\n - text: a\n   fault: split_utf8", 2, "needs a text with characters of several"),
    "nothing so unusual": ("rules:\n - unusual: x", 2, "`unusual` must be a name in hfstream"),
    "no rules": ("rules: []", 1, "`rules` must have at least one rule"),
    "rules that are none": ("rules: 5", 1, "`rules` must be a valid list, not 5"),
    "an empty rule": ("rules:\n -", 2, "rule 1: must be a mapping, not nothing"),
    "rules alone": ("- text: a", 1, "must be a mapping with the field `rules`, not a list"),
    "an empty file": ("", 1, "the file is empty"),
    "indentation": ("rules:\n  - text: a\n   fault: b", 3, "expected <block end>"),
    "a name twice": ("rules:\n - text: a\n   text: b", 3, "`text` is there twice"),
    "a date": ("rules:\n - json: 2024-01-01", 2, "2024-01-01 is a date in YAML: put it in quotes"),
    "a month that is none": ("rules:\n - text: 2024-13-45", 2, "2024-13-45 is no timestamp in YAML: put it in quotes"),
    "a number without digits": ("rules:\n - text: 0x_", 2, "0x_ is no int in YAML: put it in quotes"),
    "a tagged number": ("rules:\n - text: !!int abc", 2, "abc is no int in YAML"),
    "a tagged boolean": ("rules:\n - text: !!bool abc", 2, "abc is no bool in YAML"),
    "a long number": ("rules:\n - text: " + "9" * 5000, 2, "is no int in YAML"),
    "a long pattern": ("rules:\n - when: {matches: 'a{9999999999999}'}\n   text: a", 2, "is not a regular"),
    "a name of a header": ('rules:\n - response: {headers: {"X A": "b"}}', 2, "`response.headers` cannot be sent: the"),
    "a line end in a header": ('rules:\n - response: {headers: {"X": "b\\nc"}}', 2, "has a character that HTTP"),
    "a list as a name": ("rules:\n - ? [a]\n   : b", 2, "a name must be text"),
    "a tag": ("rules:\n - text: !!python/object:os.system a", 2, "could not determine a constructor"),
    "itself": ("rules:\n - &a {text: x, when: *a}", 2, "more than 100 levels"),
    "a character": ("rules:\n - text: \x07", 2, "the character '\\x07', which YAML does not allow"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_YAML_is_reported_with_its_line_and_field(
    text: str, line: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(RulesError) as caught:
        load_rules(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert message in str(caught.value)


JSON_MISTAKES = {
    "an unknown field": ('{"rules": [\n{"text": "a"},\n{"txt": 1}]}', 3, "rule 2: `txt` is not a field"),
    "no JSON": ('{"rules": [\n{"text": "a"},\n{"text": NaN}]}', 3, "NaN is not JSON"),
    "a missing comma": ('{"rules": [\n{"text": "a"\n"x":1}]}', 3, "expected a comma or }"),
    "a comma too many": ('{"rules": [\n{"text": "a"},]}', 2, "expected a value"),
    "an empty file": ("", 1, "expected a value"),
    "no end": ("[1", 1, "expected a comma or ]"),
    "no value": ('{"a"', 1, "expected a colon"),
    "no name": ("{1: 2}", 1, "expected a name in double quotes"),
    "no end of a text": ('{"rules":\n"a', 2, "Unterminated string"),
    "a line end in a text": ('{"rules":[{"text":"a\n"}]}', 1, "Invalid control character"),
    "half of a pair": ('{"rules":[{"text":"\\ud83d"}]}', 1, "half of a surrogate pair"),
    "depth": ("[" * 500, 1, "more than 100 levels"),
    "more": ('{"rules":[]} x', 1, "more after the end"),
    "a name twice": ('{"rules":[{"text":"a",\n"text":"b"}]}', 2, "`text` is there twice"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "message"), JSON_MISTAKES.values(), ids=JSON_MISTAKES)
def test_a_mistake_in_JSON_is_reported_with_its_line_and_field(
    text: str, line: int, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text, "utf-8")
    with pytest.raises(RulesError) as caught:
        load_rules(path)
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["rules: " + "[" * 3000 + "]" * 3000, "[" * 100_000])
def test_YAML_of_any_depth_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(RulesError, match="more than 100 levels"):
        MockServer.from_file(path)


def test_what_is_not_UTF_8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_bytes(b"rules:\n  - text: \xff\n")
    with pytest.raises(RulesError, match="line 2: not UTF-8"):
        load_rules(path)


def test_rules_of_a_program_are_checked_too() -> None:
    with pytest.raises(RulesError, match=r"^rules: rule 1: `text` must be text"):
        MockServer({"rules": [{"text": 5}]})


def test_JSON_and_YAML_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '\ufeff{"model": "m",\n "rules": [{"when": {"contains": "x", "call": [1, 2]}, "text": "a \\u00e9"},\n'
        '  {"json": [1.5, null, true]}]}'
    )
    (tmp_path / "a.yaml").write_text(
        "model: m\nrules:\n  - &first\n    when: {contains: x, call: [1, 2]}\n    text: a é\n"
        "  - json: [1.5, null, true]\n"
    )
    from_json, from_yaml = load_rules(tmp_path / "a.json"), load_rules(tmp_path / "a.yaml")
    assert from_json.rules == from_yaml.rules
    assert (from_json.lines, from_yaml.lines) == ([2, 3], [3, 6])


def test_aliases_and_merges_of_YAML_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("rules:\n  - &one {text: a, delay: 1}\n  - <<: *one\n    delay: 2\n  - *one\n")
    rules = load_rules(path).rules.rules
    assert [(rule.text, rule.delay) for rule in rules] == [(("a",), 1), (("a",), 2), (("a",), 1)]


def test_an_empty_JSON_object_and_list_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": {}, "b": [ ], "c": -1e3}\n')
    assert read_document(path).plain() == {"a": {}, "b": [], "c": -1000.0}


def test_without_PyYAML_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.yaml").write_text("rules: []")
    (tmp_path / "a.json").write_text('{"rules": [{"text": "a"}]}')
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ImportError, match=r'pip install "hfstream\[mock\]"'):
        load_rules(tmp_path / "a.yaml")
    assert load_rules(tmp_path / "a.json").rules.rules[0].text == ("a",)


def test_the_rules_in_the_documentation_are_valid(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[3] / "docs" / "guides" / "mock.md").read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.yaml"
        path.write_text(block, "utf-8")
        assert len(load_rules(path).rules.rules) >= 4


def test_every_fault_of_the_kit_has_its_name_in_rules() -> None:
    assert {*EVENT_FAULTS, *RESPONSE_FAULTS} == {*faults.__all__} - {"UNICODE_LINE_SEPARATORS", "paced"}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Milk, rennet  and\nsalt.\n", ["Milk,", " rennet", "  and", "\nsalt.\n"]),
        ("", []),
        (" ", [" "]),
        ("牛乳から a", ["牛", "乳", "か", "ら", " a"]),
    ],
)
def test_text_is_divided_into_words(text: str, tokens: list[str]) -> None:
    assert split_text(text) == tokens
    assert "".join(tokens) == text

"""@huggingface/inference and openai, unchanged, against the backend and the mock.

Needs node, and the packages in HFSTREAM_NODE_MODULES.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import KEY

PROGRAMS = Path(__file__).parent / "javascript"
MODULES = Path(os.environ["HFSTREAM_NODE_MODULES"])


@pytest.fixture
def run(tmp_path: Path) -> object:
    # node looks for packages beside the program, and knows no environment variable for modules.
    (tmp_path / "node_modules").symlink_to(MODULES)

    def node(program: str | Path, *arguments: str) -> str:
        if not (tmp_path / program).exists():
            shutil.copy(PROGRAMS / program, tmp_path)
        command = ["node", str(tmp_path / program), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True, encoding="utf-8").stdout

    return node


def test_the_program_of_the_documentation(run: object, backend: str) -> None:
    assert callable(run)
    output = run("text_generation_stream.mjs", f"{backend}/", "hf_token")
    # The answer is sampled: one of three, of which one does not name the city.
    assert re.search(r"1\. .+\n2\. .+\n3\. ", output)


BLOCK = re.compile(r"^```js\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_what_the_guide_shows(run: object, backend: str, tmp_path: Path) -> None:
    assert callable(run)
    guide = Path(__file__).parents[2] / "docs" / "guides" / "curl-and-javascript.md"
    programs = BLOCK.findall(guide.read_text(encoding="utf-8"))
    assert len(programs) == 2
    for number, program in enumerate(programs):
        path = tmp_path / f"{number}.mjs"
        path.write_text(program.replace("http://127.0.0.1:8080", backend), encoding="utf-8")
        assert re.search("milk|curd|cheese", "".join(run(path).split("\n")))


def test_a_chat_streams(run: object, backend: str) -> None:
    assert callable(run)
    assert "curd" in run("chat_completion_stream.mjs", backend, "hf_token")


def test_parameters_are_heard(run: object, backend: str) -> None:
    assert callable(run)
    last = json.loads(run("parameters.mjs", backend, "hf_token"))
    assert last["details"]["generated_tokens"] == 12
    assert last["details"]["seed"] == 7
    assert last["generated_text"]
    assert last["choices"][0]["finish_reason"] == "length"


def test_tools(run: object, backend: str) -> None:
    assert callable(run)
    seen = json.loads(run("tools.mjs", backend, "hf_token"))
    assert seen["whole"]["name"] == "get_weather"
    assert json.loads(seen["whole"]["arguments"])["city"] in ("Paris", "Rome")
    assert seen["streamed"] == seen["whole"]
    assert seen["pieces"] > 3
    assert (seen["reason"], seen["answer"]) == ("tool_calls", "assistant")


def test_a_wrong_value_is_told(run: object, backend: str) -> None:
    assert callable(run)
    output = run("errors.mjs", backend, "hf_token")
    assert output.startswith("422")
    assert "`temperature` must be strictly positive" in output


def test_a_key_is_asked_for(run: object, guarded: str) -> None:
    assert callable(run)
    assert "curd" in run("chat_completion_stream.mjs", guarded, KEY)
    assert run("errors.mjs", guarded, "another").startswith("401")


def test_the_mock(run: object, mock: Callable[..., str]) -> None:
    assert callable(run)
    url = mock(
        {"when": {"tool": "get_weather"}, "tool_calls": [{"name": "get_weather", "arguments": {"city": "Nuremberg"}}]},
        {"when": {"contains": "half"}, "text": "one two three", "fault": "drop", "after": 3},
        {"text": "Milk, rennet and salt."},
    )
    assert run("chat_completion_stream.mjs", url, "-").strip() == "Milk, rennet and salt."
    read = json.loads(run("openai_mock.mjs", f"{url}/v1"))
    assert read["text"] == read["whole"] == read["response"] == "Milk, rennet and salt."
    assert read["calls"] == [{"name": "get_weather", "arguments": '{"city": "Nuremberg"}'}]
    assert read["half"].startswith("one two")
    assert read["error"]


def test_the_program_of_the_guide_to_the_mock(run: object, mock: Callable[..., str], tmp_path: Path) -> None:
    assert callable(run)
    guide = Path(__file__).parents[2] / "docs" / "guides" / "mock.md"
    [program] = BLOCK.findall(guide.read_text(encoding="utf-8"))
    url = mock({"when": {"contains": "cheese"}, "text": "Milk, rennet and salt."})
    path = tmp_path / "mock.mjs"
    path.write_text(program.replace("http://127.0.0.1:8080", url), encoding="utf-8")
    assert run(path) == "Milk, rennet and salt."

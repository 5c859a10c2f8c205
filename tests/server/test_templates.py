"""Chat templates: where they are found, what they can write, and what becomes of those that fail."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from hfstream.errors import ValidationError
from hfstream.server import Settings
from hfstream.server.service.backend import Backend
from hfstream.server.text.chat_template import ChatTemplate
from tests.helpers.scripted_engine import ScriptedEngine, save_chat_model

TURNS = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[bot]{% endif %}"
)
CONVERSATION = [{"role": "user", "content": "Hi"}]


def model(directory: Path, *, jinja: str | None = None, **files: Any) -> Path:
    for name, content in files.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    if jinja is not None:
        (directory / "chat_template.jinja").write_text(jinja, "utf-8")
    return directory


def rendered(path: Path) -> str:
    template = ChatTemplate.load(path)
    assert template is not None
    return template.render(CONVERSATION)


@pytest.mark.parametrize("bos", ["<s>", {"content": "<s>", "lstrip": False}])
def test_a_template_of_its_own_file_and_tokens_of_both_kinds(tmp_path: Path, bos: Any) -> None:
    config = {"bos_token": bos, "eos_token": "</s>", "add_bos_token": True, "pad_token": None, "chat_template": "no"}
    assert rendered(model(tmp_path, jinja=TURNS, tokenizer_config=config)) == "<s>[user]Hi</s>[bot]"


@pytest.mark.parametrize(
    "template",
    [TURNS, [{"name": "tool_use", "template": "no"}, {"name": "default", "template": TURNS}]],
    ids=["one", "several"],
)
def test_a_template_in_the_tokenizers_settings(tmp_path: Path, template: Any) -> None:
    config = {"chat_template": template, "bos_token": "<s>"}
    assert rendered(model(tmp_path, tokenizer_config=config)) == "<s>[user]Hi[bot]"


def test_tokens_from_the_special_tokens_map(tmp_path: Path) -> None:
    tokens = {"bos_token": "<old>", "eos_token": {"content": "</s>"}, "additional_special_tokens": ["<a>"]}
    path = model(tmp_path, jinja=TURNS, tokenizer_config={"bos_token": "<s>"}, special_tokens_map=tokens)
    assert rendered(path) == "<s>[user]Hi</s>[bot]"


@pytest.mark.parametrize("config", [None, {}, {"chat_template": None}, {"chat_template": []}])
def test_a_model_without_a_template(tmp_path: Path, config: Any) -> None:
    assert ChatTemplate.load(model(tmp_path, **({} if config is None else {"tokenizer_config": config}))) is None


def test_the_last_message_is_continued_and_not_closed() -> None:
    template = ChatTemplate(TURNS, {"bos_token": "<s>", "eos_token": "</s>"})
    conversation = [*CONVERSATION, {"role": "assistant", "content": "Well, "}]
    assert template.render(conversation, continued=True) == "<s>[user]Hi</s>[assistant]Well, "
    assert template.render(conversation).endswith("Well, </s>[bot]")


def test_a_template_that_trims_is_continued_too() -> None:
    template = ChatTemplate("{% for message in messages %}<{{ message.content | trim }}>{% endfor %}", {})
    conversation = [*CONVERSATION, {"role": "assistant", "content": "Well, "}]
    assert template.render(conversation, continued=True) == "<Hi><Well,"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Template error: Roles must alternate"),
        ("{% for %}", "Template error: "),
        ("{{ messages[0].content.nothing.at_all }}", "Template error: "),
        ("{{ 1 / 0 }}", "Template error: division by zero"),
        ("{{ messages.__class__.__mro__ }}", "Template error: "),
    ],
    ids=["says no", "syntax", "undefined", "breaks", "breaks out"],
)
def test_what_goes_wrong_in_a_template_is_a_template_error(tmp_path: Path, source: str, words: str) -> None:
    template = ChatTemplate.load(model(tmp_path, jinja=source))
    assert template is not None
    with pytest.raises(ValidationError) as caught:
        template.render(CONVERSATION)
    assert str(caught.value).startswith(words)
    assert (caught.value.error_type, caught.value.status_code) == ("template_error", 422)


async def test_a_template_is_rendered_on_another_thread(tmp_path: Path) -> None:
    backend = Backend(Settings(model=str(save_chat_model(tmp_path))), ScriptedEngine())
    backend.start()
    async with asyncio.timeout(5):
        await backend.ready.wait()
    renderers: list[threading.Thread] = []

    def write(template: ChatTemplate) -> str:
        renderers.append(threading.current_thread())
        return template.render(CONVERSATION)

    assert await backend.render_prompt(write) == "Hi<turn>>"
    assert renderers[0] is not threading.current_thread()
    await backend.close()


def test_tool_calls_reach_the_template() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{{ m.tool_calls[0].function.name if m.tool_calls }}{% endfor %}", {}
    )
    call = {"function": {"name": "weather", "arguments": "{}"}}
    assert template.render([{"role": "assistant", "content": None, "tool_calls": [call]}]) == "weather"

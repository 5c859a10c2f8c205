"""Chat templates: where they are found, which tokens they can use, how a message is continued, and errors in them."""

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

TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}[{{ message.role }}]{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}[bot]{% endif %}"
)
CONVERSATION = [{"role": "user", "content": "Hi"}]


def make_model(directory: Path, *, jinja: str | None = None, **files: Any) -> Path:
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
def test_a_template_in_its_own_file_and_tokens_of_both_kinds(tmp_path: Path, bos: Any) -> None:
    config = {"bos_token": bos, "eos_token": "</s>", "add_bos_token": True, "pad_token": None, "chat_template": "no"}
    assert rendered(make_model(tmp_path, jinja=TEMPLATE, tokenizer_config=config)) == "<s>[user]Hi</s>[bot]"


@pytest.mark.parametrize(
    "template",
    [TEMPLATE, [{"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE}]],
    ids=["one", "several"],
)
def test_a_template_in_the_tokenizer_config(tmp_path: Path, template: Any) -> None:
    config = {"chat_template": template, "bos_token": "<s>"}
    assert rendered(make_model(tmp_path, tokenizer_config=config)) == "<s>[user]Hi[bot]"


def test_tokens_from_the_special_tokens_map(tmp_path: Path) -> None:
    tokens = {"bos_token": "<old>", "eos_token": {"content": "</s>"}, "additional_special_tokens": ["<a>"]}
    path = make_model(tmp_path, jinja=TEMPLATE, tokenizer_config={"bos_token": "<s>"}, special_tokens_map=tokens)
    assert rendered(path) == "<s>[user]Hi</s>[bot]"


@pytest.mark.parametrize("config", [None, {}, {"chat_template": None}, {"chat_template": []}])
def test_a_model_without_a_template(tmp_path: Path, config: Any) -> None:
    assert ChatTemplate.load(make_model(tmp_path, **({} if config is None else {"tokenizer_config": config}))) is None


def test_the_last_message_is_continued() -> None:
    template = ChatTemplate(TEMPLATE, {"bos_token": "<s>", "eos_token": "</s>"})
    conversation = [*CONVERSATION, {"role": "assistant", "content": "Well, "}]
    assert template.render(conversation, continue_final_message=True) == "<s>[user]Hi</s>[assistant]Well, "
    assert template.render(conversation).endswith("Well, </s>[bot]")


def test_the_last_message_is_continued_in_a_template_that_trims_it() -> None:
    template = ChatTemplate("{% for message in messages %}<{{ message.content | trim }}>{% endfor %}", {})
    conversation = [*CONVERSATION, {"role": "assistant", "content": "Well, "}]
    assert template.render(conversation, continue_final_message=True) == "<Hi><Well,"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('Roles must alternate') }}", "Template error: Roles must alternate"),
        ("{% for %}", "Template error: "),
        ("{{ messages[0].content.nothing.at_all }}", "Template error: "),
        ("{{ 1 / 0 }}", "Template error: division by zero"),
        ("{{ messages.__class__.__mro__ }}", "Template error: "),
    ],
    ids=["rejects", "syntax", "undefined", "fails", "escapes"],
)
def test_an_error_in_a_template_is_a_template_error(tmp_path: Path, source: str, message: str) -> None:
    template = ChatTemplate.load(make_model(tmp_path, jinja=source))
    assert template is not None
    with pytest.raises(ValidationError) as caught:
        template.render(CONVERSATION)
    assert str(caught.value).startswith(message)
    assert (caught.value.error_type, caught.value.status_code) == ("template_error", 422)


async def test_a_template_is_rendered_on_another_thread(tmp_path: Path) -> None:
    backend = Backend(Settings(model=str(save_chat_model(tmp_path))), ScriptedEngine())
    backend.start()
    async with asyncio.timeout(60):
        await backend.ready.wait()
    threads: list[threading.Thread] = []

    def render(template: ChatTemplate) -> str:
        threads.append(threading.current_thread())
        return template.render(CONVERSATION)

    assert await backend.render_prompt(render) == "Hi<turn>>"
    assert threads[0] is not threading.current_thread()
    await backend.close()


def test_tool_calls_reach_the_template() -> None:
    template = ChatTemplate(
        "{% for m in messages %}{{ m.tool_calls[0].function.name if m.tool_calls }}{% endfor %}", {}
    )
    call = {"function": {"name": "weather", "arguments": "{}"}}
    assert template.render([{"role": "assistant", "content": None, "tool_calls": [call]}]) == "weather"


ROLES = "{% for message in messages %}[{{ message.role }}]{% endfor %}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [(ROLES, "[system][user]"), (ROLES + "{# developer #}", "[developer][user]")],
)
def test_a_developer_is_a_system_to_templates_that_do_not_know_the_role(source: str, expected: str) -> None:
    conversation = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert ChatTemplate(source, {}).render(conversation) == expected


def test_variables_reach_the_template_and_arguments_cannot_be_replaced() -> None:
    template = ChatTemplate("{{ thinking | default('no') }}{{ add_generation_prompt }}", {})
    assert template.render(CONVERSATION, variables={"thinking": "yes"}) == "yesTrue"
    assert template.render(CONVERSATION, add_generation_prompt=False) == "noFalse"
    for name in ("chat_template", "messages", "add_generation_prompt", "return_assistant_tokens_mask"):
        with pytest.raises(ValidationError, match=f"`chat_template_kwargs` must not have `{name}`"):
            template.render(CONVERSATION, variables={name: "x"})

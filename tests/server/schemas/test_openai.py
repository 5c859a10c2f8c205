"""OpenAI's bodies: what is taken, what is refused and in which words, and the TGI request that each comes to."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from starlette.exceptions import HTTPException

from hfstream.errors import ValidationError
from hfstream.server.schemas.openai import ChatRequest, CompletionRequest, OpenAIRequest
from hfstream.server.routes.request_body import parse_body
from hfstream.server.schemas.tgi import GenerateRequest
from hfstream.server.schemas.validation import ValidRequest, check_streamable, validate

HI = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> ChatRequest:
    return parse_body(json.dumps({"messages": HI, **fields}).encode(), ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    return parse_body(json.dumps({"prompt": "Hi", **fields}).encode(), CompletionRequest)


async def question(asked: OpenAIRequest) -> ValidRequest:
    async def encode(text: str) -> list[int]:
        return [ord(letter) for letter in text]

    request = GenerateRequest(inputs="Hi", parameters=asked.to_parameters())
    return await validate(request, max_total_tokens=20, encode=encode, full_text=False)


EACH = pytest.mark.parametrize("ask", [chat, completion])

# --- how it is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "required"), [(ChatRequest, {"messages": HI}), (CompletionRequest, {"prompt": "Hi"})])
def test_null_is_not_given(form: type[OpenAIRequest], required: dict[str, Any]) -> None:
    nulls = dict.fromkeys(form.model_fields.keys() - required.keys())
    assert len(nulls) > 15
    given = parse_body(json.dumps({**nulls, **required}).encode(), form)
    assert given.to_parameters() == parse_body(json.dumps(required).encode(), form).to_parameters()
    assert not given.include_usage


@EACH
def test_stop_is_one_or_several(ask: Any) -> None:
    assert ask(stop="a").to_parameters().stop == ["a"]
    assert ask(stop=["a", "b"]).to_parameters().stop == ["a", "b"]


@EACH
def test_what_is_unknown_is_ignored(ask: Any) -> None:
    assert ask(user="me", metadata={"a": 1}, store=True, service_tier="auto").to_parameters() == ask().to_parameters()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_length(name: str) -> None:
    lengths = {"max_tokens": None, "max_completion_tokens": None, name: 7}
    assert chat(**lengths).to_parameters().max_new_tokens == 7
    assert chat(**{name: 7}).to_parameters().max_new_tokens == 7


def wrong(form: type[OpenAIRequest], body: str) -> str:
    with pytest.raises(HTTPException) as caught:
        parse_body(body.encode(), form)
    assert caught.value.status_code == 422
    opening = "Failed to deserialize the JSON body into the target type: "
    assert caught.value.detail.startswith(opening)
    return caught.value.detail.removeprefix(opening)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("{}", "missing field `messages` at line 1 column 2"),
        ('{"messages":"Hi"}', 'messages: invalid type: string "Hi", expected a sequence at line 1 column 16'),
        ('{"messages":null}', "messages: invalid type: null, expected a sequence at line 1 column 16"),
        (
            '{"messages":["Hi", 3]}',
            'messages[0]: invalid type: string "Hi", expected struct Message at line 1 column 17',
        ),
        ('{"messages":[{"content":"a"}]}', "messages[0]: missing field `role` at line 1 column 28"),
        (
            '{"messages":[{"role":1}]}',
            "messages[0].role: invalid type: integer `1`, expected a string at line 1 column 22",
        ),
        (
            '{"messages":[{"role":"a","content":1}]}',
            "messages[0].content: invalid type: integer `1`, expected a string or a list of parts at line 1 column 36",
        ),
        (
            '{"messages":[{"role":"a","content":["b"]}]}',
            'messages[0].content[0]: invalid type: string "b", expected struct Part at line 1 column 39',
        ),
        (
            '{"messages":[],"stream_options":true}',
            "stream_options: invalid type: boolean `true`, expected struct StreamOptions at line 1 column 36",
        ),
        (
            '{"messages":[],"max_tokens":1,"max_completion_tokens" : 2}',
            "duplicate field `max_tokens` at line 1 column 53",
        ),
        (
            '{"messages":[],"max_completion_tokens":1,\n"max_tokens":1}',
            "duplicate field `max_tokens` at line 2 column 12",
        ),
        ('{"messages":[],"tools":{}}', "tools: invalid type: map, expected a sequence at line 1 column 23"),
    ],
)
def test_a_malformed_chat(body: str, complaint: str) -> None:
    assert wrong(ChatRequest, body) == complaint


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("{}", "missing field `prompt` at line 1 column 2"),
        (
            '{"prompt":null}',
            "prompt: invalid type: null, expected a string or a list of strings at line 1 column 14",
        ),
        ('{"prompt":[7]}', "prompt[0]: invalid type: integer `7`, expected a string at line 1 column 12"),
        (
            '{"prompt":[]}',
            "prompt: Empty array detected. Do not use an empty array for the prompt. at line 1 column 10",
        ),
        (
            '{"prompt":"a","stop":5}',
            "stop: invalid type: integer `5`, expected a string or a list of strings at line 1 column 22",
        ),
        ('{"prompt":"a","logprobs":true}', "logprobs: invalid type: boolean `true`, expected u32 at line 1 column 29"),
    ],
)
def test_a_malformed_completion(body: str, complaint: str) -> None:
    assert wrong(CompletionRequest, body) == complaint


@pytest.mark.parametrize(
    ("form", "body"),
    [
        (GenerateRequest, {"inputs": "a", "parameters": {"stop": [1, 2, 3]}}),
        (ChatRequest, {"messages": HI, "stop": [1, 2, 3]}),
        (ChatRequest, {"messages": [1, 2, 3]}),
        (ChatRequest, {"messages": [{"role": "a", "content": [1, 2, 3]}]}),
        (CompletionRequest, {"prompt": [1, 2, 3]}),
    ],
)
def test_a_list_is_read_up_to_the_first_thing_wrong(form: type[pydantic.BaseModel], body: dict[str, Any]) -> None:
    """Each complaint is looked for in the text from its beginning: a million of them would hold the server up."""
    with pytest.raises(pydantic.ValidationError) as caught:
        form.model_validate_json(json.dumps(body))
    assert caught.value.error_count() == 1


# --- how it is sampled ------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize(
    ("wishes", "sampled"),
    [
        ({}, True),
        ({"temperature": 1}, True),
        ({"temperature": 0.3}, True),
        ({"temperature": 0}, False),
        ({"temperature": 0, "top_p": 0.5, "seed": 1}, False),
        ({"top_p": 1}, True),
    ],
)
async def test_temperature_0_is_greedy_and_everything_else_is_not(
    ask: Any, wishes: dict[str, Any], sampled: bool
) -> None:
    sampling = (await question(ask(**wishes))).sampling
    assert (sampling.do_sample, sampling.seed is not None) == (sampled, sampled)


@pytest.mark.parametrize(
    ("wishes", "sampled"),
    [
        ({"do_sample": False}, False),
        ({"do_sample": False, "top_k": 3}, True),
        ({"do_sample": False, "temperature": 0.5}, True),
        ({"do_sample": False, "top_p": 0.5}, True),
        ({"do_sample": False, "top_p": 1}, False),
        ({"do_sample": True}, True),
        ({"do_sample": True, "temperature": 0}, False),
    ],
)
async def test_do_sample_of_a_completion(wishes: dict[str, Any], sampled: bool) -> None:
    assert (await question(completion(**wishes))).sampling.do_sample == sampled


@EACH
async def test_wishes_reach_the_sampler(ask: Any) -> None:
    wishes: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.25, "seed": 2**64 - 1, "frequency_penalty": 1.5, "presence_penalty": -2,
    }  # fmt: skip
    found = await question(ask(**wishes, stop="x", max_tokens=4))
    assert (found.stop, found.max_new_tokens, found.details) == (("x",), 4, True)
    assert {name: getattr(found.sampling, name) for name in wishes} == wishes
    assert (await question(ask(top_p=1.0))).sampling.top_p is None


async def test_tgis_own_wishes_of_a_completion() -> None:
    found = await question(completion(top_k=3, repetition_penalty=1.5, truncate=1, logprobs=2, watermark=False))
    assert (found.sampling.top_k, found.sampling.repetition_penalty, found.sampling.top_n_tokens) == (3, 1.5, 2)
    assert found.prompt == [ord("i")]
    assert found.max_new_tokens == 19, "as far as the context goes"


async def test_top_logprobs_of_a_chat() -> None:
    assert (await question(chat(logprobs=True, top_logprobs=5))).sampling.top_n_tokens == 5


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -1}, "`temperature` must be strictly positive"),
    ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"presence_penalty": 2.1}, "`presence_penalty` must be >= -2.0 and <= 2.0"),
    ({"presence_penalty": -2.1}, "`presence_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 1.5}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"max_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"n": 2}, "`n` != 1 is not supported"),
    ({"n": 0}, "`n` != 1 is not supported"),
    ({"logit_bias": {"5": 1}}, "`logit_bias` is not supported"),
    ({"grammar": {"type": "regex", "value": "a"}}, "grammar is not supported"),
    ({"response_format": {"type": "json_object"}}, "grammar is not supported"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "grammar is not supported"),
    ({"response_format": {"type": "text"}, "grammar": {"type": "json"}}, "grammar is not supported"),
]
CHAT_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"top_logprobs": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"top_logprobs": 6, "logprobs": False}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"tools": [{}]}, "grammar is not supported, and `tools` need one"),
    ({"tools": [{}], "tool_choice": "auto"}, "grammar is not supported, and `tools` need one"),
    ({"tools": [{}], "tool_choice": {"function": {"name": "f"}}}, "grammar is not supported, and `tools` need one"),
]
COMPLETION_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"logprobs": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"typical_p": 0.5}, "`typical_p` is not supported"),
    ({"watermark": True}, "`watermark` is not supported"),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 19. Given: 0"),
    ({"echo": True}, "`echo` is not supported"),
]


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        *((chat(**fields), complaint) for fields, complaint in REFUSED + CHAT_REFUSED),
        *((completion(**fields), complaint) for fields, complaint in REFUSED + COMPLETION_REFUSED),
    ],
)
async def test_what_is_refused(asked: OpenAIRequest, complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        await question(asked)
    assert str(caught.value) == f"Input validation error: {complaint}"


FOR_NOTHING: list[dict[str, Any]] = [
    {"n": 1}, {"logit_bias": {}}, {"logit_bias": []}, {"response_format": {"type": "text"}}, {"presence_penalty": 2},
]  # fmt: skip


@pytest.mark.parametrize(
    "asked",
    [
        *(chat(**fields) for fields in FOR_NOTHING),
        *(completion(**fields) for fields in FOR_NOTHING),
        chat(tools=[]),
        chat(tools=[{}], tool_choice="none"),
        chat(tool_prompt="use them", tool_choice="auto"),
        completion(echo=False, best_of=1, logprobs=0, do_sample=None),
    ],
)
async def test_what_asks_for_nothing_is_taken(asked: OpenAIRequest) -> None:
    assert (await question(asked)).prompt


def test_several_completions_are_refused_before_the_permit() -> None:
    with pytest.raises(ValidationError, match="`best_of` != 1 is not allowed"):
        check_streamable(completion(best_of=2).to_parameters(), stream=False)


@pytest.mark.parametrize(
    ("fields", "kind", "words"),
    [
        ({"suffix": "x"}, "suffix not supported", "Suffix is not supported"),
        ({"suffix": ""}, "suffix not supported", "Suffix is not supported"),
        (
            {"prompt": ["a", "b"]},
            "batch size exceeded",
            "Number of prompts exceeds the maximum allowed batch size of 1",
        ),
    ],
)
def test_what_a_completion_cannot_be(fields: dict[str, Any], kind: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        completion(**fields).single_prompt()
    assert (caught.value.error_type, caught.value.status_code) == (kind, 422)


def test_one_prompt_may_be_a_list() -> None:
    assert completion(prompt=["a"]).single_prompt() == completion(prompt="a").single_prompt() == "a"


# --- conversations ----------------------------------------------------------------------------------------------------


def test_a_conversation_has_a_message() -> None:
    with pytest.raises(ValidationError, match="Input validation error: `messages` cannot be empty"):
        chat(messages=[]).template_messages()


@pytest.mark.parametrize(
    ("message", "continued"),
    [
        ({"role": "user", "content": "a"}, False),
        ({"role": "assistant", "content": "a"}, True),
        ({"role": "assistant", "content": None}, False),
    ],
)
def test_only_an_answer_that_was_begun_is_continued(message: dict[str, Any], continued: bool) -> None:
    assert chat(messages=[message]).continue_final_message is continued

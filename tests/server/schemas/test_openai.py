"""OpenAI's bodies: what is accepted, what is refused with which message, and the TGI request that each becomes."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from starlette.exceptions import HTTPException

from hfstream.errors import ValidationError
from hfstream.server.routes.request_body import parse_body
from hfstream.server.schemas.completions import CompletionRequest
from hfstream.server.schemas.openai import ChatRequest, OpenAIRequest
from hfstream.server.schemas.tgi import GenerateRequest
from hfstream.server.schemas.validation import Limits, ValidRequest, check_parameters, validate

LIMITS = Limits(max_total_tokens=20, max_input_tokens=19, vocab_size=200)
HI = [{"role": "user", "content": "Hi"}]


def chat(**fields: Any) -> ChatRequest:
    return parse_body(json.dumps({"messages": HI, **fields}).encode(), ChatRequest)


def completion(**fields: Any) -> CompletionRequest:
    return parse_body(json.dumps({"prompt": "Hi", **fields}).encode(), CompletionRequest)


def validated(body: OpenAIRequest) -> ValidRequest:
    request = GenerateRequest(inputs="Hi", parameters=body.to_parameters())
    check_parameters(request, LIMITS)
    return validate(request, [ord(letter) for letter in "Hi"], LIMITS)


BOTH = pytest.mark.parametrize("make", [chat, completion])

# --- parsing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "required"), [(ChatRequest, {"messages": HI}), (CompletionRequest, {"prompt": "Hi"})]
)
def test_null_means_not_given(model: type[OpenAIRequest], required: dict[str, Any]) -> None:
    nulls = dict.fromkeys(model.model_fields.keys() - required.keys())
    assert len(nulls) > 15
    given = parse_body(json.dumps({**nulls, **required}).encode(), model)
    assert given.to_parameters() == parse_body(json.dumps(required).encode(), model).to_parameters()
    assert not given.include_usage


@BOTH
def test_stop_is_a_string_or_a_list(make: Any) -> None:
    assert make(stop="a").to_parameters().stop == ["a"]
    assert make(stop=["a", "b"]).to_parameters().stop == ["a", "b"]


@BOTH
def test_unknown_fields_are_ignored(make: Any) -> None:
    assert make(user="me", metadata={"a": 1}, store=True, service_tier="auto").to_parameters() == make().to_parameters()


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_both_names_of_the_token_limit(name: str) -> None:
    limits = {"max_tokens": None, "max_completion_tokens": None, name: 7}
    assert chat(**limits).to_parameters().max_new_tokens == 7
    assert chat(**{name: 7}).to_parameters().max_new_tokens == 7


def parse_error(model: type[OpenAIRequest], body: str) -> str:
    with pytest.raises(HTTPException) as caught:
        parse_body(body.encode(), model)
    assert caught.value.status_code == 422
    prefix = "Failed to deserialize the JSON body into the target type: "
    assert caught.value.detail.startswith(prefix)
    return caught.value.detail.removeprefix(prefix)


@pytest.mark.parametrize(
    ("body", "message"),
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
def test_a_malformed_chat(body: str, message: str) -> None:
    assert parse_error(ChatRequest, body) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "missing field `prompt` at line 1 column 2"),
        (
            '{"prompt":null}',
            "prompt: invalid type: null, expected a string or a list of strings at line 1 column 14",
        ),
        (
            '{"prompt":["a",7]}',
            "prompt[1]: invalid type: integer `7`, expected a string or a list of token ids at line 1 column 16",
        ),
        ('{"prompt":[7,"a"]}', 'prompt[0]: invalid type: string "a", expected a token id at line 1 column 11'),
        ('{"prompt":[7,null]}', "prompt[0]: invalid type: null, expected a token id at line 1 column 11"),
        ('{"prompt":[["a"]]}', 'prompt[0]: invalid type: string "a", expected a token id at line 1 column 11'),
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
def test_a_malformed_completion(body: str, message: str) -> None:
    assert parse_error(CompletionRequest, body) == message


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (GenerateRequest, {"inputs": "a", "parameters": {"stop": [1, 2, 3]}}),
        (ChatRequest, {"messages": HI, "stop": [1, 2, 3]}),
        (ChatRequest, {"messages": [1, 2, 3]}),
        (ChatRequest, {"messages": [{"role": "a", "content": [1, 2, 3]}]}),
        (CompletionRequest, {"prompt": ["a", 1, 2, 3]}),
    ],
)
def test_a_list_is_read_up_to_the_first_error(model: type[pydantic.BaseModel], body: dict[str, Any]) -> None:
    """Each error is located by a scan from the start of the text: a million of them would block the server."""
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate_json(json.dumps(body))
    assert caught.value.error_count() == 1


# --- sampling ---------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("fields", "sampled"),
    [
        ({}, True),
        ({"temperature": 1}, True),
        ({"temperature": 0.3}, True),
        ({"temperature": 0}, False),
        ({"temperature": 0, "top_p": 0.5, "seed": 1}, False),
        ({"top_p": 1}, True),
    ],
)
def test_temperature_0_is_greedy_and_everything_else_is_not(make: Any, fields: dict[str, Any], sampled: bool) -> None:
    sampling = (validated(make(**fields))).sampling
    assert (sampling.do_sample, sampling.seed is not None) == (sampled, sampled)


@pytest.mark.parametrize(
    ("fields", "sampled"),
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
def test_do_sample_of_a_completion(fields: dict[str, Any], sampled: bool) -> None:
    assert (validated(completion(**fields))).sampling.do_sample == sampled


@BOTH
def test_sampling_parameters_reach_the_sampler(make: Any) -> None:
    params: dict[str, Any] = {
        "temperature": 0.5, "top_p": 0.25, "seed": 2**64 - 1, "frequency_penalty": 1.5, "presence_penalty": -2,
    }  # fmt: skip
    found = validated(make(**params, stop="x", max_tokens=4))
    assert (found.stop, found.max_new_tokens, found.details) == (("x",), 4, True)
    assert {name: getattr(found.sampling, name) for name in params} == params
    assert (validated(make(top_p=1.0))).sampling.top_p is None
    assert (validated(make(typical_p=1))).sampling.typical_p is None


@BOTH
def test_parameters_of_tgi_and_of_vllm_reach_the_sampler(make: Any) -> None:
    params: dict[str, Any] = {"top_k": 3, "min_p": 0.25, "typical_p": 0.5, "repetition_penalty": 1.5}
    sampling = validated(make(**params)).sampling
    assert {name: getattr(sampling, name) for name in params} == params


@BOTH
def test_a_logit_bias_that_is_no_map(make: Any) -> None:
    with pytest.raises(HTTPException, match='logit_bias: invalid type: string "5", expected a map'):
        make(logit_bias="5")
    with pytest.raises(HTTPException, match='logit_bias: invalid type: string "1", expected f32'):
        make(logit_bias={"5": "1"})


@BOTH
def test_logit_bias(make: Any) -> None:
    assert validated(make(logit_bias={"5": -100, "199": 0.5})).sampling.logit_bias == ((5, -100.0), (199, 0.5))


def test_a_completion_accepts_tgis_own_parameters() -> None:
    found = validated(completion(top_k=3, repetition_penalty=1.5, truncate=1, logprobs=2, watermark=False))
    assert (found.sampling.top_k, found.sampling.repetition_penalty, found.sampling.top_n_tokens) == (3, 1.5, 2)
    assert found.prompt == [ord("i")]
    assert found.max_new_tokens == 19, "to the end of the context"


def test_top_logprobs_of_a_chat() -> None:
    assert (validated(chat(logprobs=True, top_logprobs=20))).sampling.top_n_tokens == 20


# --- refused requests -------------------------------------------------------------------------------------------------

NO_SCHEMA = "`grammar` is not valid: type `json_schema` needs a `json_schema` with a `schema`"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": -1}, "`temperature` must be strictly positive"),
    ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
    ({"presence_penalty": 2.1}, "`presence_penalty` must be >= -2.0 and <= 2.0"),
    ({"presence_penalty": -2.1}, "`presence_penalty` must be >= -2.0 and <= 2.0"),
    ({"top_p": 1.5}, "`top_p` must be > 0.0 and < 1.0"),
    ({"top_p": 0}, "`top_p` must be > 0.0 and < 1.0"),
    ({"max_tokens": 0}, "`max_new_tokens` must be strictly positive"),
    ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
    ({"n": 129}, "`n` must be > 0 and <= 128. Given: 129"),
    ({"n": 0}, "`n` must be > 0 and <= 128. Given: 0"),
    ({"logit_bias": {"200": 1}}, "`logit_bias` must have ids of tokens, 0 to 199. Given: '200'"),
    ({"logit_bias": {"-1": 1}}, "`logit_bias` must have ids of tokens, 0 to 199. Given: '-1'"),
    ({"logit_bias": {"a": 1}}, "`logit_bias` must have ids of tokens, 0 to 199. Given: 'a'"),
    ({"logit_bias": {"5": 101}}, "`logit_bias` must have numbers >= -100.0 and <= 100.0. Given: 101"),
    ({"min_p": 2}, "`min_p` must be >= 0.0 and <= 1.0"),
    (
        {"grammar": {"type": "regex"}},
        "`grammar` is not valid: type `regex` needs a `value`, the pattern, which is a string",
    ),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, NO_SCHEMA),
    ({"response_format": {"type": "json_schema"}}, NO_SCHEMA),
    ({"response_format": {"type": "text"}, "grammar": {"type": "json_schema"}}, NO_SCHEMA),
]
CHAT_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"top_logprobs": 21}, "`top_n_tokens` must be >= 0 and <= 20. Given: 21"),
    ({"top_logprobs": 21, "logprobs": False}, "`top_n_tokens` must be >= 0 and <= 20. Given: 21"),
]
COMPLETION_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"logprobs": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
    ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
    ({"top_k": 0}, "`top_k` must be strictly positive"),
    ({"truncate": 0}, "`truncate` must be strictly positive and less than 19. Given: 0"),
]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        *((chat(**fields), message) for fields, message in REFUSED + CHAT_REFUSED),
        *((completion(**fields), message) for fields, message in REFUSED + COMPLETION_REFUSED),
    ],
)
def test_refused_values(body: OpenAIRequest, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validated(body)
    assert str(caught.value) == f"Input validation error: {message}"


WITHOUT_EFFECT: list[dict[str, Any]] = [
    {"n": 1}, {"logit_bias": {}}, {"logit_bias": []}, {"response_format": {"type": "text"}}, {"presence_penalty": 2},
]  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        *(chat(**fields) for fields in WITHOUT_EFFECT),
        *(completion(**fields) for fields in WITHOUT_EFFECT),
        chat(tools=[]),
        chat(tools=[{}], tool_choice="none"),
        chat(tool_prompt="use them", tool_choice="auto"),
        completion(echo=False, best_of=1, logprobs=0, do_sample=None),
    ],
)
def test_values_without_effect_are_accepted(body: OpenAIRequest) -> None:
    assert (validated(body)).prompt


@pytest.mark.parametrize(
    ("fields", "generations"),
    [({}, 1), ({"n": 3}, 3), ({"n": 3, "best_of": 5}, 5), ({"best_of": 0}, 1), ({"n": 128}, 128)],
)
def test_the_number_of_generations(fields: dict[str, Any], generations: int) -> None:
    assert completion(**fields).to_parameters().generations == generations


@pytest.mark.parametrize(
    ("fields", "error_type", "message"),
    [
        ({"suffix": "x"}, "suffix not supported", "Suffix is not supported"),
        ({"suffix": ""}, "suffix not supported", "Suffix is not supported"),
        (
            {"prompt": ["a", "b", "c"]},
            "batch size exceeded",
            "Number of prompts exceeds the maximum allowed batch size of 2",
        ),
    ],
)
def test_a_suffix_or_too_many_prompts_are_refused(fields: dict[str, Any], error_type: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message) as caught:
        completion(**fields).prompts(max_prompts=2)
    assert (caught.value.error_type, caught.value.status_code) == (error_type, 422)


def test_the_prompts_logprobs_are_needed_for_an_echo_with_logprobs() -> None:
    fields: list[dict[str, Any]] = [{}, {"echo": True}, {"logprobs": 0}, {"echo": True, "logprobs": 0}]
    assert [validated(completion(**each)).prompt_logprobs for each in fields] == [False, False, False, True]
    assert [validated(completion(**each)).echoed_prompt for each in fields] == ["", "Hi", "", "Hi"]


def test_a_request_for_no_tokens_needs_an_echo() -> None:
    assert validated(completion(echo=True, max_tokens=0)).max_new_tokens == 1
    with pytest.raises(ValidationError, match="`max_new_tokens` must be strictly positive"):
        validated(completion(max_tokens=0))


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a"], ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
        (["a", [2, 3]], ["a", [2, 3]]),
    ],
)
def test_prompts_are_texts_or_token_ids(prompt: Any, prompts: list[Any]) -> None:
    assert completion(prompt=prompt).prompts(max_prompts=2) == prompts


# --- messages ---------------------------------------------------------------------------------------------------------


def test_an_empty_list_of_messages_is_refused() -> None:
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
def test_only_an_assistant_message_with_content_is_continued(message: dict[str, Any], continued: bool) -> None:
    assert chat(messages=[message]).continues_final_message is continued


@pytest.mark.parametrize(
    ("fields", "continued"),
    [
        ({}, True),
        ({"continue_final_message": True}, True),
        ({"continue_final_message": False}, False),
        ({"add_generation_prompt": True}, False),
        ({"add_generation_prompt": False}, False),
        ({"add_generation_prompt": False, "continue_final_message": True}, True),
        ({"add_generation_prompt": None, "continue_final_message": None}, True),
    ],
)
def test_a_request_says_whether_its_last_message_is_continued(fields: dict[str, Any], continued: bool) -> None:
    assert chat(messages=[{"role": "assistant", "content": "Well,"}], **fields).continues_final_message is continued


def test_a_message_is_not_continued_and_begun_at_once() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    request = chat(messages=messages, add_generation_prompt=True, continue_final_message=True)
    with pytest.raises(ValidationError, match="cannot both be true"):
        request.template_messages()

"""The types of the public names, for mypy and pyright (both strict) to check. It is never run.

An ignored error is an assertion too: the checkers complain about an ignore that is not needed.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, assert_type

import httpx
import tenacity
from pydantic import BaseModel

from hfstream import (
    AsyncInferenceClient,
    AsyncMapResults,
    AsyncStreamManager,
    AsyncTokenStream,
    AsyncToolRunStream,
    Attempt,
    AuthenticationError,
    BadRequestError,
    BestOfSequence,
    ChatCompletion,
    ChatCompletionChoice,
    ChatCompletionChunk,
    ChatCompletionChunkChoice,
    ChatCompletionDelta,
    ChatCompletionDeltaFunction,
    ChatCompletionDeltaToolCall,
    ChatCompletionFunction,
    ChatCompletionInputMessage,
    ChatCompletionInputTool,
    ChatCompletionLogprob,
    ChatCompletionLogprobs,
    ChatCompletionMessage,
    ChatCompletionOutput,
    ChatCompletionOutputMessage,
    ChatCompletionParameters,
    ChatCompletionStreamOutput,
    ChatCompletionStreamOutputDelta,
    ChatCompletionToolCall,
    ChatCompletionTopLogprob,
    Details,
    FinishReason,
    GenerationError,
    IncompleteGenerationError,
    IncompleteStreamError,
    InferenceClient,
    InferenceConnectionError,
    InferenceError,
    InferenceTimeoutError,
    InputToken,
    InterTokenLatency,
    MapResult,
    MapResults,
    Metrics,
    Model,
    ModelList,
    NotFoundError,
    OverloadedError,
    RetryPolicy,
    ServerError,
    SimpleToken,
    StreamDetails,
    StreamResponse,
    TextGenerationError,
    TextGenerationOutput,
    TextGenerationParameters,
    TextGenerationResponse,
    TextGenerationStreamOutput,
    TextGenerationStreamResponse,
    Timeouts,
    Token,
    TokenStream,
    ToolError,
    ToolRunCompletion,
    ToolRunStream,
    UnexpectedResponseError,
    UnknownError,
    Usage,
    ValidationError,
)
from hfstream.errors import Phase
from hfstream.retry import retry_if_overloaded, retry_on_overload, wait_retry_after

# text_generation in its four forms ------------------------------------------------------------------------------------


def forms(client: InferenceClient) -> None:
    assert_type(client.text_generation("Hi"), str)
    assert_type(client.text_generation("Hi", stream=False), str)
    assert_type(client.text_generation("Hi", stream=None, details=None), str)
    assert_type(client.text_generation("Hi", details=False, max_new_tokens=12), str)
    assert_type(client.text_generation("Hi", details=True), TextGenerationResponse)
    assert_type(client.text_generation("Hi", details=True, stream=False), TextGenerationResponse)
    assert_type(client.text_generation("Hi", stream=True), TokenStream[str])
    assert_type(client.text_generation("Hi", stream=True, details=False), TokenStream[str])
    assert_type(client.text_generation("Hi", stream=True, details=True), TokenStream[StreamResponse])


def forms_known_at_run_time(client: InferenceClient, stream: bool, details: bool) -> None:
    assert_type(
        client.text_generation("Hi", stream=stream, details=details),
        str | TextGenerationResponse | TokenStream[str] | TokenStream[StreamResponse],
    )


async def async_forms(client: AsyncInferenceClient) -> None:
    assert_type(await client.text_generation("Hi"), str)
    assert_type(await client.text_generation("Hi", stream=False), str)
    assert_type(await client.text_generation("Hi", stream=None, details=None), str)
    assert_type(await client.text_generation("Hi", details=False, max_new_tokens=12), str)
    assert_type(await client.text_generation("Hi", details=True), TextGenerationResponse)
    assert_type(await client.text_generation("Hi", details=True, stream=False), TextGenerationResponse)
    assert_type(await client.text_generation("Hi", stream=True), AsyncTokenStream[str])
    assert_type(await client.text_generation("Hi", stream=True, details=False), AsyncTokenStream[str])
    assert_type(await client.text_generation("Hi", stream=True, details=True), AsyncTokenStream[StreamResponse])


async def async_forms_known_at_run_time(client: AsyncInferenceClient, stream: bool, details: bool) -> None:
    assert_type(
        await client.text_generation("Hi", stream=stream, details=details),
        str | TextGenerationResponse | AsyncTokenStream[str] | AsyncTokenStream[StreamResponse],
    )


# openai's names -------------------------------------------------------------------------------------------------------


def openai_names(client: InferenceClient) -> None:
    assert_type(client.with_options(timeout=5, max_retries=0, default_headers={"x": "y"}), InferenceClient)
    assert_type(client.models.list(), ModelList)
    assert_type(client.models.list().data, list[Model])
    assert_type(client.chat.completions.parse([], response_format=int), ChatCompletion)
    client.with_options(timeot=5)  # type: ignore[call-arg]
    client.completions  # type: ignore[attr-defined]  # noqa: B018


async def async_openai_names(client: AsyncInferenceClient) -> None:
    assert_type(client.with_options(retry=None), AsyncInferenceClient)
    assert_type(await client.models.list(timeout=5), ModelList)
    assert_type(await client.chat.completions.parse([], temperature=0), ChatCompletion)


# run_tools ------------------------------------------------------------------------------------------------------------


def look_up(city: str) -> str:
    return city


def tools(client: InferenceClient, stream: bool) -> None:
    assert_type(client.run_tools([{"role": "user", "content": "Hi"}], [look_up]), ToolRunCompletion)
    assert_type(client.run_tools([], [look_up], stream=False, max_rounds=2, temperature=0.5), ToolRunCompletion)
    assert_type(client.run_tools([], [look_up], stream=stream), ToolRunCompletion | ToolRunStream)
    with client.run_tools([], [look_up, {"type": "web_search"}], stream=True, on_tool_error="raise") as run:
        assert_type(run, ToolRunStream)
        for chunk in run:
            assert_type(chunk, ChatCompletionChunk)
        assert_type(run.current, TokenStream[ChatCompletionChunk] | None)
        assert_type(run.messages, list[ChatCompletionMessage | Mapping[str, Any]])
        client.run_tools(run.final().messages, [look_up])
        client.chat_completion(run.messages)
    client.run_tools([], [look_up], on_tool_error="ignore")  # type: ignore[call-overload]
    client.run_tools([], [look_up], temprature=1)  # type: ignore[call-overload]


def tool_errors(error: ToolError) -> None:
    assert_type(error.messages, Sequence[Any])


async def async_tools(client: AsyncInferenceClient) -> None:
    assert_type(await client.run_tools([], [look_up]), ToolRunCompletion)
    assert_type(await client.run_tools([], [look_up], stream=True), AsyncToolRunStream)
    async for chunk in client.run_tools([], [look_up], stream=True):
        assert_type(chunk, ChatCompletionChunk)


# map ------------------------------------------------------------------------------------------------------------------


def several_endpoints() -> None:
    client = InferenceClient(["http://a", "http://b"], max_concurrency="adaptive")
    assert_type(client.endpoints, tuple[str, ...])
    assert_type(client.max_concurrency, int | Literal["adaptive"] | None)
    AsyncInferenceClient(("http://a", "http://b"), max_concurrency=4)


def maps(client: InferenceClient) -> None:
    assert_type(client.map(["Hi"]), MapResults[str])
    assert_type(client.map(iter(["Hi"]), ordered=False, max_concurrency=4, journal="file", seed=1), MapResults[str])
    assert_type(client.map(["Hi"], details=True), MapResults[TextGenerationResponse])
    assert_type(client.map([[{"role": "user", "content": "Hi"}]], max_tokens=1), MapResults[ChatCompletion])
    assert_type(client.map([{"prompt": "Hi", "seed": 7}]), MapResults[Any])
    with client.map(["Hi"], max_concurrency="adaptive", progress=True) as results:
        for result in results:
            assert_type(result, MapResult[str])
            assert_type(result.output, str | None)
            assert_type(result.error, InferenceError | None)
        assert_type(results.reused, int)


async def async_maps(client: AsyncInferenceClient, prompts: AsyncIterator[str]) -> None:
    assert_type(client.map(["Hi"]), AsyncMapResults[str])
    assert_type(client.map(prompts, details=True), AsyncMapResults[TextGenerationResponse])
    async for result in client.map(prompts):
        assert_type(result, MapResult[str])


# Streams: iterated, entered, read to their end ------------------------------------------------------------------------


def loops(client: InferenceClient) -> None:
    for token in client.text_generation("Hi", stream=True):
        assert_type(token, str)
    for response in client.text_generation("Hi", stream=True, details=True):
        assert_type(response, StreamResponse)
    with client.text_generation("Hi", stream=True) as stream:
        assert_type(stream, TokenStream[str])
        assert_type(next(stream), str)
        assert_type(stream.final(), str)
        assert_type(stream.close(), None)
    with client.text_generation("Hi", stream=True, details=True) as detailed:
        assert_type(detailed, TokenStream[StreamResponse])
        assert_type(next(detailed), StreamResponse)
        assert_type(detailed.final(), TextGenerationResponse)


def stream_managers(client: AsyncInferenceClient) -> None:
    text: AsyncStreamManager[str] = client.text_generation("Hi", stream=True)
    details: AsyncStreamManager[StreamResponse] = client.text_generation("Hi", stream=True, details=True)
    chat: AsyncStreamManager[ChatCompletionChunk] = client.chat_completion(
        [{"role": "user", "content": "Hi"}], stream=True
    )
    assert_type(text.__aiter__(), AsyncIterator[str])
    assert_type(details.__aiter__(), AsyncIterator[StreamResponse])
    assert_type(chat.__aiter__(), AsyncIterator[ChatCompletionChunk])
    assert_type(asyncio.ensure_future(text), asyncio.Task[AsyncTokenStream[str]])


async def async_loops(client: AsyncInferenceClient) -> None:
    async for token in await client.text_generation("Hi", stream=True):
        assert_type(token, str)
    async for response in await client.text_generation("Hi", stream=True, details=True):
        assert_type(response, StreamResponse)
    async for token in client.text_generation("Hi", stream=True):
        assert_type(token, str)
    async for response in client.text_generation("Hi", stream=True, details=True):
        assert_type(response, StreamResponse)
    async with client.text_generation("Hi", stream=True) as stream:
        assert_type(stream, AsyncTokenStream[str])
        assert_type(await anext(stream), str)
        assert_type(await stream.final(), str)
        assert_type(await stream.aclose(), None)
    async with await client.text_generation("Hi", stream=True, details=True) as detailed:
        assert_type(detailed, AsyncTokenStream[StreamResponse])
        assert_type(await anext(detailed), StreamResponse)
        assert_type(await detailed.final(), TextGenerationResponse)


def what_a_stream_shows(stream: TokenStream[str], other: AsyncTokenStream[StreamResponse]) -> None:
    assert_type(stream.text, str)
    assert_type(stream.finish_reason, FinishReason | str | None)
    assert_type(stream.usage, Usage | None)
    assert_type(stream.headers, Mapping[str, str])
    assert_type(stream.request_id, str | None)
    assert_type(stream.metrics, Metrics)
    assert_type(stream.attempts, Sequence[Attempt])
    assert_type(other.text, str)
    assert_type(other.finish_reason, FinishReason | str | None)
    assert_type(other.usage, Usage | None)
    assert_type(other.headers, Mapping[str, str])
    assert_type(other.request_id, str | None)
    assert_type(other.metrics, Metrics)
    assert_type(other.attempts, Sequence[Attempt])


def numbers(metrics: Metrics, attempt: Attempt, usage: Usage) -> None:
    assert_type(metrics.tokens, int)
    assert_type(metrics.time_to_first_token, float | None)
    assert_type(metrics.duration, float)
    assert_type(metrics.tokens_per_second, float)
    assert_type(metrics.inter_token, InterTokenLatency)
    assert_type(metrics.inter_token.p50, float)
    assert_type(metrics.inter_token.p95, float)
    assert_type(metrics.inter_token.max, float)
    assert_type(attempt.number, int)
    assert_type(attempt.delay, float)
    assert_type(attempt.status_code, int | None)
    assert_type(attempt.error, InferenceError | None)
    assert_type(usage.prompt_tokens, int)
    assert_type(usage.completion_tokens, int)
    assert_type(usage.total_tokens, int)


# Types ----------------------------------------------------------------------------------------------------------------


def types(event: StreamResponse, answer: TextGenerationResponse) -> None:
    assert_type(event.index, int | None)
    assert_type(event.token, Token)
    assert_type(event.top_tokens, list[Token] | None)
    assert_type(event.generated_text, str | None)
    assert_type(event.details, StreamDetails | None)
    assert_type(event["token"], Any)
    assert_type(answer.generated_text, str)
    assert_type(answer.details, Details | None)


def token(token: Token, read: InputToken) -> None:
    assert_type(token.id, int)
    assert_type(token.text, str)
    assert_type(token.logprob, float | None)
    assert_type(token.special, bool)
    assert_type(read.id, int)
    assert_type(read.text, str)
    assert_type(read.logprob, float | None)


def details(last: StreamDetails, whole: Details, other: BestOfSequence) -> None:
    assert_type(last.finish_reason, FinishReason | str)
    assert_type(last.generated_tokens, int)
    assert_type(last.seed, int | None)
    assert_type(last.input_length, int | None)
    assert_type(whole.finish_reason, FinishReason | str)
    assert_type(whole.generated_tokens, int)
    assert_type(whole.seed, int | None)
    assert_type(whole.input_length, int | None)
    assert_type(whole.prefill, list[InputToken])
    assert_type(whole.tokens, list[Token])
    assert_type(whole.top_tokens, list[list[Token]] | None)
    assert_type(whole.best_of_sequences, list[BestOfSequence] | None)
    assert_type(other.generated_text, str)
    assert_type(other.tokens, list[Token])


def names_of_the_clients_before(
    output: TextGenerationOutput, event: TextGenerationStreamOutput, response: TextGenerationStreamResponse
) -> None:
    assert_type(output, TextGenerationResponse)
    assert_type(event, StreamResponse)
    assert_type(response, StreamResponse)


# chat_completion ------------------------------------------------------------------------------------------------------

HI: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]


class City(BaseModel):
    name: str


def chats(client: InferenceClient) -> None:
    assert_type(client.chat_completion(HI), ChatCompletion)
    assert_type(client.chat_completion(HI, stream=False), ChatCompletion)
    assert_type(client.chat_completion(HI, stream=None, max_tokens=5), ChatCompletion)
    assert_type(client.chat_completion(HI, stream=True), TokenStream[ChatCompletionChunk])
    assert_type(client.chat_completion(HI, stream=True, model="m").final(), ChatCompletion)
    assert_type(client.chat.completions.create(HI), ChatCompletion)
    assert_type(client.chat.completions.create(messages=HI, model="m"), ChatCompletion)
    assert_type(client.chat.completions.create(messages=HI, stream=True), TokenStream[ChatCompletionChunk])
    assert_type(client.chat.completions.create(HI, stream=True).final(), ChatCompletion)
    for chunk in client.chat_completion(HI, stream=True):
        assert_type(chunk, ChatCompletionChunk)
        assert_type(chunk.choices[0].delta.content, str | None)
    with client.chat_completion(HI, stream=True) as stream:
        assert_type(stream, TokenStream[ChatCompletionChunk])
        assert_type(next(stream), ChatCompletionChunk)
        assert_type(stream.text, str)
        assert_type(stream.usage, Usage | None)


def chats_known_at_run_time(client: InferenceClient, stream: bool) -> None:
    assert_type(client.chat_completion(HI, stream=stream), ChatCompletion | TokenStream[ChatCompletionChunk])
    assert_type(client.chat.completions.create(HI, stream=stream), ChatCompletion | TokenStream[ChatCompletionChunk])


async def async_chats(client: AsyncInferenceClient) -> None:
    assert_type(await client.chat_completion(HI), ChatCompletion)
    assert_type(await client.chat_completion(HI, stream=False), ChatCompletion)
    assert_type(await client.chat_completion(HI, stream=True), AsyncTokenStream[ChatCompletionChunk])
    assert_type(await (await client.chat_completion(HI, stream=True)).final(), ChatCompletion)
    assert_type(await client.chat.completions.create(messages=HI, model="m"), ChatCompletion)
    assert_type(await client.chat.completions.create(HI, stream=True), AsyncTokenStream[ChatCompletionChunk])
    async for chunk in client.chat_completion(HI, stream=True):
        assert_type(chunk, ChatCompletionChunk)
    async for chunk in await client.chat.completions.create(HI, stream=True):
        assert_type(chunk, ChatCompletionChunk)
    async for chunk in client.chat.completions.create(HI, stream=True):
        assert_type(chunk.choices[0].delta, ChatCompletionDelta)
    async with client.chat_completion(HI, stream=True) as stream:
        assert_type(stream, AsyncTokenStream[ChatCompletionChunk])
        assert_type(await stream.final(), ChatCompletion)


def messages(client: InferenceClient, answer: ChatCompletion, anything: list[dict[str, Any]]) -> None:
    plain: list[dict[str, str]] = [{"role": "user", "content": "Hi"}]
    typed: list[ChatCompletionInputMessage] = [{"role": "user", "content": "Hi"}]
    named = ChatCompletionInputMessage(role="user", content=[{"type": "text", "text": "Hi"}])
    message = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": "a", "content": "5"}
    client.chat_completion(plain)
    client.chat_completion(typed)
    client.chat_completion(anything)
    client.chat_completion([named, message, result])
    client.chat_completion([*plain, message])
    client.chat_completion(tuple(plain))
    client.chat_completion(message for message in plain)
    client.chat_completion([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}])
    client.chat_completion("Hi")  # type: ignore[arg-type]  # a list of messages
    client.chat_completion(["Hi"])  # type: ignore[list-item]  # each with its role
    client.chat_completion()  # type: ignore[call-overload]


def parts_of_a_request(client: InferenceClient) -> None:
    tool: ChatCompletionInputTool = {
        "type": "function",
        "function": {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {}}},
    }
    loose: dict[str, Any] = {"type": "function", "function": {"name": "g", "parameters": City}}
    client.chat_completion(
        HI, tools=[tool, loose], tool_choice="auto", frequency_penalty=0.1, logit_bias={"5": 1.5}, logprobs=True,
        max_completion_tokens=5, max_tokens=5, n=2, parallel_tool_calls=False, presence_penalty=0.1,
        reasoning_effort="low", seed=1, stop="x", stream_options={"include_usage": True}, temperature=0,
        tool_prompt="x", top_logprobs=2, top_p=0.5, user="u", model="m", timeout=Timeouts(total=1),
        extra_body={"a": None}, extra_headers={"a": "b"},
    )  # fmt: skip
    client.chat_completion(HI, tools=[{"type": "function", "function": {"name": "f"}}], stop=["x"])
    client.chat_completion(HI, tool_choice={"type": "function", "function": {"name": "f"}})
    client.chat_completion(HI, tool_choice={"function": {"name": "f"}})
    client.chat_completion(HI, response_format=City)
    client.chat_completion(HI, response_format={"type": "text"})
    client.chat_completion(HI, response_format={"type": "json_object"})
    client.chat_completion(HI, response_format={"type": "json_object", "value": {"properties": {}}})
    client.chat_completion(HI, response_format={"type": "regex", "value": "a+"})
    client.chat_completion(
        HI, response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": City, "strict": True}}
    )
    client.text_generation("Hi", grammar=City)
    client.text_generation("Hi", grammar={"type": "json", "value": City})
    given: ChatCompletionParameters = {"max_tokens": 5, "stop": None}
    whole: ChatCompletion = client.chat_completion(HI, **given)
    assert_type(whole, ChatCompletion)
    client.chat_completion(HI, max_token=5)  # type: ignore[call-overload]  # it is max_tokens
    client.chat_completion(HI, max_tokens="5")  # type: ignore[call-overload]  # a number
    client.chat_completion(HI, stream="yes")  # type: ignore[call-overload]  # True or False
    client.chat.completions.create(HI, max_token=5)  # type: ignore[call-overload]
    wrong: ChatCompletionParameters = {"max_new_tokens": 5}  # type: ignore[typeddict-unknown-key]  # text generation's
    client.chat_completion(HI, **wrong)


def chat_completion_types(whole: ChatCompletion, chunk: ChatCompletionChunk) -> None:
    assert_type(whole.id, str)
    assert_type(whole.created, int)
    assert_type(whole.choices, list[ChatCompletionChoice])
    assert_type(whole.usage, Usage | None)
    assert_type(whole.parsed, Any)
    assert_type(whole["anything"], Any)
    assert_type(whole.choices[0].finish_reason, str | None)
    assert_type(whole.choices[0].logprobs, ChatCompletionLogprobs | None)
    assert_type(whole.choices[0].message, ChatCompletionMessage)
    assert_type(whole.choices[0].message.content, str | None)
    assert_type(whole.choices[0].message.parsed, Any)
    assert_type(whole.choices[0].message.tool_calls, list[ChatCompletionToolCall] | None)
    assert_type(chunk.choices, list[ChatCompletionChunkChoice])
    assert_type(chunk.usage, Usage | None)
    assert_type(chunk.choices[0].delta, ChatCompletionDelta)
    assert_type(chunk.choices[0].delta.reasoning_content, str | None)
    assert_type(chunk.choices[0].delta.tool_calls, list[ChatCompletionDeltaToolCall] | None)


def tool_call_types(call: ChatCompletionToolCall, delta: ChatCompletionDeltaToolCall) -> None:
    assert_type(call.id, str)
    assert_type(call.function, ChatCompletionFunction)
    assert_type(call.function.arguments, str)
    assert_type(delta.index, int | None)
    assert_type(delta.function, ChatCompletionDeltaFunction | None)


def a_chats_logprobs(logprobs: ChatCompletionLogprobs, one: ChatCompletionLogprob) -> None:
    assert_type(logprobs.content, list[ChatCompletionLogprob] | None)
    assert_type(one.logprob, float | None)
    assert_type(one.top_logprobs, list[ChatCompletionTopLogprob])


def a_chats_names_of_the_clients_before(
    output: ChatCompletionOutput,
    message: ChatCompletionOutputMessage,
    chunk: ChatCompletionStreamOutput,
    delta: ChatCompletionStreamOutputDelta,
) -> None:
    assert_type(output, ChatCompletion)
    assert_type(message, ChatCompletionMessage)
    assert_type(chunk, ChatCompletionChunk)
    assert_type(delta, ChatCompletionDelta)


# What a server says of itself -----------------------------------------------------------------------------------------


def services(client: InferenceClient) -> None:
    assert_type(client.get_endpoint_info(), dict[str, Any])
    assert_type(client.get_endpoint_info(model="http://127.0.0.1:8080", timeout=1), dict[str, Any])
    assert_type(client.health_check(), bool)
    assert_type(client.health_check("http://127.0.0.1:8080"), bool)
    assert_type(client.tokenize("Hi"), list[SimpleToken])
    assert_type(client.list_models(), list[Model])


async def async_services(client: AsyncInferenceClient) -> None:
    assert_type(await client.get_endpoint_info(), dict[str, Any])
    assert_type(await client.health_check(timeout=Timeouts(total=1)), bool)
    assert_type(await client.tokenize("Hi", model="http://127.0.0.1:8080"), list[SimpleToken])
    assert_type(await client.list_models(), list[Model])


def what_a_service_says(token: SimpleToken, model: Model) -> None:
    assert_type(token.start, int)
    assert_type(token.text, str)
    assert_type(model.id, str)
    assert_type(model.created, int | None)


# Errors ---------------------------------------------------------------------------------------------------------------


def errors(error: InferenceError, late: InferenceTimeoutError, cut: InferenceConnectionError) -> None:
    assert_type(error.message, str)
    assert_type(error.status_code, int | None)
    assert_type(error.error_type, str | None)
    assert_type(error.retryable, bool)
    assert_type(error.request_id, str | None)
    assert_type(error.retry_after, float | None)
    assert_type(error.partial_text, str)
    assert_type(error.response_body, str | None)
    assert_type(late.phase, Phase)
    builtin: tuple[TimeoutError, ConnectionError] = (late, cut)
    assert_type(builtin[0].errno, int | None)


def tree() -> None:
    named: list[type[TextGenerationError]] = [
        ValidationError,
        GenerationError,
        OverloadedError,
        IncompleteGenerationError,
        UnknownError,
    ]
    others: list[type[InferenceError]] = [
        *named,
        BadRequestError,
        AuthenticationError,
        NotFoundError,
        ServerError,
        InferenceTimeoutError,
        InferenceConnectionError,
        IncompleteStreamError,
        UnexpectedResponseError,
    ]
    assert_type(others[0](), InferenceError)


# What clients and calls are told --------------------------------------------------------------------------------------


def limits() -> None:
    assert_type(Timeouts(connect=1, first_token=2.5, between_tokens=None, total=60), Timeouts)
    assert_type(Timeouts().total, float | None)
    assert_type(RetryPolicy(attempts=5, max_wait=2), RetryPolicy)
    assert_type(
        RetryPolicy(wait=tenacity.wait_fixed(1) + tenacity.wait_random(0, 1), stop=tenacity.stop_after_delay(30)),
        RetryPolicy,
    )
    assert_type(RetryPolicy().attempts, int)
    assert_type(RetryPolicy().max_wait, float)
    Timeouts(read=1)  # type: ignore[call-arg]  # httpx's name for it, not ours
    Timeouts(total="60")  # type: ignore[arg-type]  # seconds are numbers
    RetryPolicy(retries=5)  # type: ignore[call-arg]  # there is no such field
    RetryPolicy(wait=1.0)  # type: ignore[arg-type]  # a wait is one of tenacity's strategies


def clients(http: httpx.Client, async_http: httpx.AsyncClient) -> None:
    InferenceClient()
    InferenceClient("http://127.0.0.1:8080", token="t", timeout=Timeouts(), retry=RetryPolicy(), http_client=http)
    InferenceClient(base_url="http://127.0.0.1:8080", api_key="t", timeout=5, retry=3, headers={}, cookies={})
    InferenceClient("org/name", token=False, timeout=None, retry=None, bill_to="org")
    AsyncInferenceClient("http://127.0.0.1:8080", timeout=2.5, retry=None, http_client=async_http)
    assert_type(InferenceClient().model, str | None)
    assert_type(AsyncInferenceClient().model, str | None)
    InferenceClient(http_client=async_http)  # type: ignore[arg-type]  # the other face's client
    AsyncInferenceClient(http_client=http)  # type: ignore[arg-type]
    InferenceClient(retries=3)  # type: ignore[call-arg]  # there is no such argument
    InferenceClient("http://127.0.0.1:8080", "token")  # type: ignore[call-arg]  # all but the model go by their names


def with_blocks(client: InferenceClient) -> None:
    with client as same:
        assert_type(same, InferenceClient)


async def async_with_blocks(client: AsyncInferenceClient) -> None:
    async with client as same:
        assert_type(same, AsyncInferenceClient)


def parameters(client: InferenceClient) -> None:
    chosen: TextGenerationParameters = {"max_new_tokens": 5, "stop": ["."], "temperature": None}
    # No assert_type: where several overloads take a ** argument, mypy says Any. pyright checks these two.
    text: str = client.text_generation("Hi", **chosen)
    stream: TokenStream[str] = client.text_generation("Hi", stream=True, **chosen)
    assert_type(text, str)
    assert_type(stream, TokenStream[str])
    client.text_generation(
        "Hi", do_sample=True, frequency_penalty=0.1, grammar={"type": "json", "value": {}}, repetition_penalty=1.1,
        return_full_text=True, seed=1, stop_sequences=["x"], top_k=3, top_n_tokens=2, top_p=0.9, truncate=10,
        typical_p=0.8, watermark=True, adapter_id="a", best_of=2, decoder_input_details=True, model="org/name",
        timeout=Timeouts(total=1), extra_body={"a": 1}, extra_headers={"a": "b"},
    )  # fmt: skip
    wrong: TextGenerationParameters = {"max_tokens": 5}  # type: ignore[typeddict-unknown-key]  # it is max_new_tokens
    client.text_generation("Hi", **wrong)


def wrong_parameters(client: InferenceClient) -> None:
    client.text_generation("Hi", max_tokens=5)  # type: ignore[call-overload]  # the name is max_new_tokens
    client.text_generation("Hi", max_new_tokens="5")  # type: ignore[call-overload]  # a number
    client.text_generation("Hi", stop=".")  # type: ignore[call-overload]  # a list
    client.text_generation("Hi", stream="yes")  # type: ignore[call-overload]  # True or False
    client.text_generation()  # type: ignore[call-overload]  # a prompt there must be
    client.text_generation("Hi", True)  # type: ignore[call-overload]  # all but the prompt go by their names


def wrong_async_parameters(client: AsyncInferenceClient) -> None:
    client.text_generation("Hi", max_tokens=5)  # type: ignore[call-overload]
    client.text_generation("Hi", stream=True, max_tokens=5)  # type: ignore[call-overload]


async def wrong_ways_to_read(client: AsyncInferenceClient) -> None:
    async for _ in client.text_generation("Hi"):  # type: ignore[attr-defined]  # a whole answer, not a stream
        pass
    for _ in client.text_generation("Hi", stream=True):  # type: ignore[attr-defined]  # an `async for` is meant
        pass


# Wrappers -------------------------------------------------------------------------------------------------------------


@retry_on_overload()
def ask(client: InferenceClient, prompt: str) -> TokenStream[str]:
    return client.text_generation(prompt, stream=True)


@retry_on_overload(attempts=3, wait=tenacity.wait_fixed(1), stop=tenacity.stop_after_delay(9), max_wait=5)
async def ask_async(client: AsyncInferenceClient, prompt: str) -> AsyncTokenStream[str]:
    return await client.text_generation(prompt, stream=True)


@tenacity.retry(retry=retry_if_overloaded, wait=wait_retry_after(tenacity.wait_fixed(1), max_wait=5))
def ask_with_tenacity(client: InferenceClient, prompt: str) -> str:
    return client.text_generation(prompt)


async def wrappers_keep_signatures(client: InferenceClient, async_client: AsyncInferenceClient) -> None:
    assert_type(ask(client, "Hi"), TokenStream[str])
    assert_type(await ask_async(async_client, "Hi"), AsyncTokenStream[str])
    assert_type(ask_with_tenacity(client, "Hi"), str)
    ask(client, 1)  # type: ignore[arg-type]  # the prompt is a text

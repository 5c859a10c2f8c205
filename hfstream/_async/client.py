"""The asynchronous client: the methods that users call.

Does not depend on how a request is sent and read (`stream`), or on what is sent (`_request_factory`).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, overload

from .. import _transport, types
from .._config import ClientConfig, check_http_client
from .._signatures import coroutine_function, with_parameters_of
from .._stream_manager import AsyncStreamManager
from ..core.parameters import ChatCompletionOptions, TextGenerationOptions
from ..core.retry import RetryPolicy
from ..core.timeouts import Timeouts, TimeoutTypes
from ..errors import InferenceError, OverloadedError
from .resources import AsyncChat, AsyncModels
from .tools_client import AsyncToolsClient

if TYPE_CHECKING:
    import httpx

    from .._transport import AsyncHTTP
    from ..core.exchange import Exchange
    from ..core.observers import Call, CallObserver
    from .stream import AsyncTokenStream

__all__ = ["AsyncInferenceClient"]


class AsyncInferenceClient(AsyncToolsClient):
    """A client for a server that generates text, token by token."""

    _made_http: AsyncHTTP

    def __init__(
        self,
        model: str | Sequence[str] | None = None,
        *,
        provider: str | None = None,
        token: str | bool | None = None,
        timeout: TimeoutTypes = Timeouts(),  # noqa: B008  immutable, and the signature shows the limits
        headers: Mapping[str, str | None] | None = None,
        cookies: Mapping[str, str] | None = None,
        bill_to: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        default_headers: Mapping[str, str | None] | None = None,
        max_retries: int | None = None,
        retry: RetryPolicy | int | None = RetryPolicy(),  # noqa: B008
        resume: bool = False,
        observers: Sequence[Callable[[Call], CallObserver]] = (),
        max_concurrency: int | Literal["adaptive"] | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        """Makes a client. It connects on the first call.

        Args:
            model: a URL, or the id of a model on the Hugging Face Hub. The `model` of a call takes precedence. Or the
                URLs of several servers with the same model: a request goes to the one with the fewest outstanding
                requests; one that is overloaded or fails rests for a while, and retries go to another.
            provider: the provider that runs a model id behind the Hugging Face router; with None or "auto" the router
                chooses. Has no effect on a URL.
            token: sent as a bearer token. With None, `HF_TOKEN` from the environment is sent to huggingface.co and
                to no other host; with False, no token is sent.
            timeout: a `Timeouts`, or seconds for `connect`, `first_token` and `between_tokens`; None for no limits. A
                pair ``(connect, read)`` and an httpx.Timeout are taken too: `read` is the limit for the other two.
            headers: sent with every request. They replace the client's own headers of the same name; a value of None
                takes one away.
            cookies: sent with every request.
            bill_to: the organisation to bill, on huggingface.co.
            base_url: another name for `model`, as in openai's client.
            api_key: another name for `token`, as in openai's client.
            default_headers: another name for `headers`, as in openai's client.
            max_retries: the number of attempts without the first, as in openai's client: ``max_retries=2`` is
                ``retry=3``.
            retry: when to send a request again, up to the first content; an int is the number of attempts including
                the first, None turns retries off.
            resume: continue a stream whose connection is lost, so that the loop gets every token once. A server that
                numbers its events continues after the last one received, for sampled responses and chat as well. TGI
                gets a new request with the prompt and the text so far; this is done for text generation with greedy
                decoding and `max_new_tokens` only, where the result is the same. Otherwise the error says why not.
            observers: told of each call that generates: its attempts, its first token, its end. Each is a subclass of
                `hfstream.observers.CallObserver`, or `hfstream.otel.OpenTelemetry`.
            max_concurrency: how many requests of `text_generation` and `chat_completion` may run at once; the others
                wait, in the order of the calls. A stream counts until it is read to its end, closed or dropped.
                "adaptive" finds the number by trying: it rises until the server refuses requests, or lets them wait for
                their first token. None for no limit.
            http_client: your own httpx client, for proxies, TLS or transports. It is used as configured, and you close
                it. Its sockets have one read timeout, the larger of `first_token` and `between_tokens`; the smaller
                one is checked when bytes arrive.

        Raises:
            ValueError: an invalid value, or both names of one argument.
            TypeError: an argument of another type.
        """
        self._config = ClientConfig.from_arguments(
            model,
            token=token,
            timeout=timeout,
            headers=headers,
            bill_to=bill_to,
            base_url=base_url,
            api_key=api_key,
            default_headers=default_headers,
            max_retries=max_retries,
            retry=retry,
            cookies=cookies,
            provider=provider,
            resume=resume,
            observers=observers,
            max_concurrency=max_concurrency,
        )
        check_http_client(http_client, is_async=True)
        self._http_client = http_client

    @property
    def _http(self) -> AsyncHTTP:
        """Made on its first use, because httpx is imported for it."""
        try:
            return self._made_http
        except AttributeError:  # two threads may be here at once: both get what one of them has made
            http: AsyncHTTP = self.__dict__.setdefault("_made_http", _transport.AsyncHTTP(self._http_client))
            return http

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[False] | None = None,
        stream: Literal[False] | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Coroutine[Any, Any, str]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[True],
        stream: Literal[False] | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Coroutine[Any, Any, types.TextGenerationResponse]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[False] | None = None,
        stream: Literal[True],
        **options: Unpack[TextGenerationOptions],
    ) -> AsyncStreamManager[str]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[True],
        stream: Literal[True],
        **options: Unpack[TextGenerationOptions],
    ) -> AsyncStreamManager[types.StreamResponse]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: bool | None = None,
        stream: bool | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> (
        Coroutine[Any, Any, str | types.TextGenerationResponse]
        | AsyncStreamManager[str]
        | AsyncStreamManager[types.StreamResponse]
    ): ...

    @coroutine_function
    @with_parameters_of(TextGenerationOptions)
    def text_generation(
        self,
        prompt: str,
        *,
        details: bool | None = None,
        stream: bool | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> Any:
        """Generates text after `prompt`.

        Args:
            prompt: the text to continue.
            details: return typed objects with token ids, log probabilities and the finish reason, instead of text.
            stream: return a stream of tokens, as the server generates them, instead of the whole text.
            options: the server's parameters, such as `max_new_tokens`, `temperature`, `top_p`, `stop`, `seed` (see
                `TextGenerationParameters` for all), and `model`, `timeout`, `extra_body`, `extra_headers` for this
                call.

        Returns:
            A `str`, or with `details` a `TextGenerationResponse`. With `stream` a stream of `str`, one for each token
            that has text, or with `details` of `StreamResponse`, one for each token.

            With ``stream=True`` the call returns when the first token has been received: an overloaded server, or one
            that refuses the request, raises here and not in the loop.

        Raises:
            OverloadedError: the server is overloaded, and the retry policy allows no further attempt.
            ValidationError: the server refuses these values.
            InferenceTimeoutError, InferenceConnectionError: the server is too slow, or cannot be reached.
            InferenceError: any other failure; see `hfstream.errors`.
            TypeError: an unknown parameter.
            ValueError: neither the call nor the client has a model.
        """
        exchange = self._requests.text_generation(prompt, stream=bool(stream), details=bool(details), options=options)
        token_stream = self._new_stream(exchange)
        return AsyncStreamManager(token_stream) if stream else self._read_result(token_stream)

    @overload
    def chat_completion(
        self,
        messages: types.Messages,
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, types.ChatCompletion]: ...

    @overload
    def chat_completion(
        self,
        messages: types.Messages,
        *,
        stream: Literal[True],
        **options: Unpack[ChatCompletionOptions],
    ) -> AsyncStreamManager[types.ChatCompletionChunk]: ...

    @overload
    def chat_completion(
        self,
        messages: types.Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Coroutine[Any, Any, types.ChatCompletion] | AsyncStreamManager[types.ChatCompletionChunk]: ...

    @coroutine_function
    @with_parameters_of(ChatCompletionOptions)
    def chat_completion(
        self,
        messages: types.Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Any:
        """Generates the next message of a conversation. Also available as ``client.chat.completions.create``.

        Args:
            messages: the conversation so far, ``[{"role": "user", "content": "Hi"}]``. The message of an earlier
                response, ``response.choices[0].message``, can be passed as it is.
            stream: return a stream of chunks, as the server generates them, instead of the whole response.
            options: the server's parameters, such as `max_tokens`, `temperature`, `tools`, `response_format` (see
                `ChatCompletionParameters` for all), and `model`, `timeout`, `extra_body`, `extra_headers` for this
                call. For a client with a URL, `model` may be the name of a model on that server.

        Returns:
            A `ChatCompletion`, or with `stream` a stream of `ChatCompletionChunk`, whose `text` is the text received so
            far and whose `final()` returns the whole `ChatCompletion`, with tool calls and usage.

            With ``stream=True`` the call returns when the first content has been received: an overloaded server, or one
            that refuses the request, raises here and not in the loop.

        Raises:
            OverloadedError: the server is overloaded, and the retry policy allows no further attempt.
            ValidationError, BadRequestError: the server refuses these values.
            InferenceTimeoutError, InferenceConnectionError: the server is too slow, or cannot be reached.
            InferenceError: any other failure; see `hfstream.errors`.
            TypeError: an unknown parameter.
            ValueError: neither the call nor the client has a model.
        """
        exchange = self._requests.chat_completion(messages, stream=bool(stream), options=options)
        token_stream = self._new_stream(exchange)
        return AsyncStreamManager(token_stream) if stream else self._read_result(token_stream)

    @property
    def chat(self) -> AsyncChat:
        """``client.chat.completions.create`` is `chat_completion`, as in openai's client."""
        return AsyncChat(self)

    @property
    def models(self) -> AsyncModels:
        """``client.models.list`` is `list_models`, as in openai's client."""
        return AsyncModels(self)

    async def get_endpoint_info(
        self,
        *,
        model: str | None = None,
        timeout: TimeoutTypes = None,
    ) -> dict[str, Any]:
        """The model, limits and version of a TGI server, from `/info`.

        Raises:
            NotFoundError: the server is not TGI, and has no `/info`.
            InferenceError: any other failure.
            ValueError: neither the call nor the client has a URL.
        """
        info: dict[str, Any] = await self._call(self._requests.info(model, timeout))
        return info

    async def health_check(self, model: str | None = None, *, timeout: TimeoutTypes = None) -> bool:
        """Whether the server is ready for requests. One request, without retries.

        False for a server that responds with 503 or another 5xx, as while it loads. A server that does not respond
        raises.

        Raises:
            InferenceConnectionError, InferenceTimeoutError: the server cannot be reached, or is too slow.
            NotFoundError, AuthenticationError: the URL has no `/health`, or not for this token.
            ValueError: neither the call nor the client has a URL.
        """
        try:
            await self._call(self._requests.health(model, timeout))
        except InferenceError as error:
            if isinstance(error, OverloadedError) or (error.status_code or 0) >= 500:
                return False
            raise
        return True

    async def tokenize(
        self, text: str, *, model: str | None = None, timeout: TimeoutTypes = None
    ) -> list[types.SimpleToken]:
        """The tokens of `text` for the model of a TGI server, with the special tokens that its tokenizer adds.

        Raises:
            InferenceError: the server has no `/tokenize`, or refuses the text.
            ValueError: neither the call nor the client has a URL.
        """
        tokens: list[types.SimpleToken] = await self._call(self._requests.tokenize(text, model, timeout))
        return tokens

    async def list_models(self, *, model: str | None = None, timeout: TimeoutTypes = None) -> list[types.Model]:
        """The models that the server lists at `/v1/models`; without a URL, those of the Hugging Face router.

        Raises:
            InferenceError: the request failed.
        """
        models: list[types.Model] = await self._call(self._requests.models(model, timeout))
        return models

    async def _call(self, exchange: Exchange[Any, Any]) -> Any:
        return await self._read_result(self._new_stream(exchange))

    def _new_stream(self, exchange: Exchange[Any, Any]) -> AsyncTokenStream[Any]:
        from .stream import AsyncTokenStream  # noqa: PLC0415  what is not needed to make a client is imported later

        return AsyncTokenStream(self._http, exchange)

    async def _read_result(self, token_stream: AsyncTokenStream[Any]) -> Any:
        async with token_stream:
            return await token_stream.final()

    async def aclose(self) -> None:
        """Closes the client. Its calls and streams end, those included that are still opening."""
        await self._http.close()

    close = aclose  # huggingface_hub's name

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

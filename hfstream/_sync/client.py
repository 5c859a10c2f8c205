"""The synchronous client: the methods that users call. `stream` sends the requests, and the core decides."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

import httpx

from .._config import ClientConfig
from .._transport import SyncHTTP
from ..core.exchange import Exchange
from ..core.parameters import ChatCompletionOptions, Messages, TextGenerationOptions
from ..core.retry import RetryPolicy
from ..core.timeouts import Timeouts
from ..errors import InferenceError, OverloadedError
from ..types import ChatCompletion, ChatCompletionChunk, Model, SimpleToken, StreamResponse, TextGenerationResponse
from .stream import TokenStream

__all__ = ["InferenceClient"]


class InferenceClient:
    """A client for a server that generates text, token by token."""

    def __init__(
        self,
        model: str | None = None,
        *,
        provider: str | None = None,
        token: str | bool | None = None,
        timeout: Timeouts | float | None = Timeouts(),  # noqa: B008  immutable, and the signature shows the limits
        headers: Mapping[str, str] | None = None,
        cookies: Mapping[str, str] | None = None,
        bill_to: str | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        retry: RetryPolicy | int | None = RetryPolicy(),  # noqa: B008
        resume: bool = False,
        http_client: httpx.Client | None = None,
    ) -> None:
        """Makes a client. It connects when it is first used.

        Args:
            model: a URL, or the id of a model on the Hugging Face hub; a `model` given to a call wins.
            provider: who runs the model behind the Hugging Face router, for a model id; None or "auto" leaves it to the
                router. Of no effect on a URL.
            token: sent as a bearer token. Without one, `HF_TOKEN` from the environment goes to huggingface.co and
                nowhere else; False sends none there either.
            timeout: limits in seconds; a number sets the first three of `Timeouts`, None lifts them all.
            headers: sent with every request, and win over ours.
            cookies: sent with every request.
            bill_to: organisation to bill, on huggingface.co.
            base_url: another name for `model`, as in openai's client.
            api_key: another name for `token`, as in openai's client.
            retry: how often and how patiently to ask again until the first content has come; an int is the number of
                attempts in all, None is never again.
            resume: go on with streams whose connection is lost, so that the loop sees every token once. A server that
                numbers its events, when it is asked to, goes on from the last one, for sampled answers and chat too.
                A plain TGI is asked anew with prompt and text so far, for text generation and where that is sound:
                greedy, with `max_new_tokens`. Where neither can be, the error says why.
            http_client: your own httpx client, for proxies, TLS or transports. Used as it is, and never closed by us.
                Its sockets know one read limit, the larger of `first_token` and `between_tokens`; the smaller is
                checked whenever bytes arrive.

        Raises:
            ValueError: a value that cannot be, or both names of one thing.
        """
        self._config = ClientConfig.of(
            model,
            token=token,
            timeout=timeout,
            headers=headers,
            bill_to=bill_to,
            base_url=base_url,
            api_key=api_key,
            retry=retry,
            cookies=cookies,
            provider=provider,
            resume=resume,
        )
        self._http = SyncHTTP(http_client)

    @property
    def model(self) -> str | None:
        """The URL or model id that calls go to if they name no other."""
        return self._config.model

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[False] | None = None,
        stream: Literal[False] | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> str: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[True],
        stream: Literal[False] | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> TextGenerationResponse: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[False] | None = None,
        stream: Literal[True],
        **options: Unpack[TextGenerationOptions],
    ) -> TokenStream[str]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: Literal[True],
        stream: Literal[True],
        **options: Unpack[TextGenerationOptions],
    ) -> TokenStream[StreamResponse]: ...

    @overload
    def text_generation(
        self,
        prompt: str,
        *,
        details: bool | None = None,
        stream: bool | None = None,
        **options: Unpack[TextGenerationOptions],
    ) -> str | TextGenerationResponse | TokenStream[str] | TokenStream[StreamResponse]: ...

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
            prompt: what the text shall follow on.
            details: typed objects with token ids, log probabilities and the finish reason, instead of text.
            stream: the tokens one by one, as they are made, instead of the whole text.
            options: the server's parameters, such as `max_new_tokens`, `temperature`, `top_p`, `stop`, `seed` (all of
                them: `TextGenerationParameters`), and `model`, `timeout`, `extra_body`, `extra_headers` for this call.

        Returns:
            Without `stream` a `str`, or with `details` a `TextGenerationResponse`. With it a stream: of `str`, one for
            each token that is text, or with `details` of `StreamResponse`, one for each token.

            With ``stream=True`` the request has been sent and the first token is there when the stream is: a server
            that is overloaded, or refuses the request, raises here and not in the loop.

        Raises:
            OverloadedError: the server has too much to do, and the retry policy is used up.
            ValidationError: the server does not take these values.
            InferenceTimeoutError, InferenceConnectionError: the server is too slow, or not there.
            InferenceError: anything else that went wrong; see `hfstream.errors`.
            TypeError: a parameter that does not exist.
            ValueError: there is no model to ask.
        """
        exchange = self._config.text_generation(prompt, stream=bool(stream), details=bool(details), options=options)
        token_stream: TokenStream[Any] = TokenStream(self._http, exchange)
        return token_stream.open() if stream else self._read_result(token_stream)

    @overload
    def chat_completion(
        self,
        messages: Messages,
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion: ...

    @overload
    def chat_completion(
        self,
        messages: Messages,
        *,
        stream: Literal[True],
        **options: Unpack[ChatCompletionOptions],
    ) -> TokenStream[ChatCompletionChunk]: ...

    @overload
    def chat_completion(
        self,
        messages: Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion | TokenStream[ChatCompletionChunk]: ...

    def chat_completion(
        self,
        messages: Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Any:
        """Answers the last of `messages`. Also to be had as ``client.chat.completions.create``.

        Args:
            messages: the conversation so far, ``[{"role": "user", "content": "Hi"}]``. A message of an earlier answer,
                ``answer.choices[0].message``, may stand among them as it is.
            stream: the chunks one by one, as they are made, instead of the whole answer.
            options: the server's parameters, such as `max_tokens`, `temperature`, `tools`, `response_format` (all of
                them: `ChatCompletionParameters`), and `model`, `timeout`, `extra_body`, `extra_headers` for this call.
                Where the client has a URL, `model` may be the name of a model there.

        Returns:
            A `ChatCompletion`, or with `stream` a stream of `ChatCompletionChunk`, whose `text` is what has come so far
            and whose `final()` is the whole `ChatCompletion`, tool calls and usage included.

            With ``stream=True`` the request has been sent and the first content is there when the stream is: a server
            that is overloaded, or refuses the request, raises here and not in the loop.

        Raises:
            OverloadedError: the server has too much to do, and the retry policy is used up.
            ValidationError, BadRequestError: the server does not take these values.
            InferenceTimeoutError, InferenceConnectionError: the server is too slow, or not there.
            InferenceError: anything else that went wrong; see `hfstream.errors`.
            TypeError: a parameter that does not exist.
            ValueError: there is no model to ask.
        """
        exchange = self._config.chat_completion(messages, stream=bool(stream), options=options)
        token_stream: TokenStream[Any] = TokenStream(self._http, exchange)
        return token_stream.open() if stream else self._read_result(token_stream)

    @property
    def chat(self) -> Chat:
        """``client.chat.completions.create`` is `chat_completion`, as in openai's client."""
        return Chat(self)

    def get_endpoint_info(
        self,
        *,
        model: str | None = None,
        timeout: Timeouts | float | None = None,
    ) -> dict[str, Any]:
        """What a TGI server says of itself: its model, its limits, its version.

        Raises:
            NotFoundError: the server is of another kind, and has no `/info`.
            InferenceError: anything else that went wrong.
            ValueError: there is no URL to ask.
        """
        info: dict[str, Any] = self._call(self._config.info(model, timeout))
        return info

    def health_check(self, model: str | None = None, *, timeout: Timeouts | float | None = None) -> bool:
        """Whether the server is ready to answer. Asked once, without retries.

        False is what the server says: 503 while it loads or is ill. One that says nothing raises.

        Raises:
            InferenceConnectionError, InferenceTimeoutError: the server is not there, or too slow.
            NotFoundError, AuthenticationError: there is no `/health` at this address, or not for this token.
            ValueError: there is no URL to ask.
        """
        try:
            self._call(self._config.health(model, timeout))
        except InferenceError as error:
            if isinstance(error, OverloadedError) or (error.status_code or 0) >= 500:
                return False
            raise
        return True

    def tokenize(
        self, text: str, *, model: str | None = None, timeout: Timeouts | float | None = None
    ) -> list[SimpleToken]:
        """The tokens of `text` as the model of a TGI server reads it, those included that it wants added.

        Raises:
            InferenceError: the server has no such route, or refuses the text.
            ValueError: there is no URL to ask.
        """
        tokens: list[SimpleToken] = self._call(self._config.tokenize(text, model, timeout))
        return tokens

    def list_models(self, *, model: str | None = None, timeout: Timeouts | float | None = None) -> list[Model]:
        """The models that the server offers at `/v1/models`; without a URL, those of the Hugging Face router.

        Raises:
            InferenceError: what went wrong.
        """
        models: list[Model] = self._call(self._config.models(model, timeout))
        return models

    def _call(self, exchange: Exchange[Any, Any]) -> Any:
        return self._read_result(TokenStream(self._http, exchange))

    def _read_result(self, token_stream: TokenStream[Any]) -> Any:
        with token_stream:
            return token_stream.final()

    def close(self) -> None:
        """Closes the client, and ends its calls and streams, those too that are still opening."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self._config.redacted_model!r})"


class ChatCompletions:
    """``client.chat.completions``, as openai's client has it."""

    def __init__(self, client: InferenceClient) -> None:
        self._client = client

    @overload
    def create(
        self,
        messages: Messages,
        *,
        stream: Literal[False] | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion: ...

    @overload
    def create(
        self,
        messages: Messages,
        *,
        stream: Literal[True],
        **options: Unpack[ChatCompletionOptions],
    ) -> TokenStream[ChatCompletionChunk]: ...

    @overload
    def create(
        self,
        messages: Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> ChatCompletion | TokenStream[ChatCompletionChunk]: ...

    def create(
        self,
        messages: Messages,
        *,
        stream: bool | None = None,
        **options: Unpack[ChatCompletionOptions],
    ) -> Any:
        """The client's `chat_completion`."""
        return self._client.chat_completion(messages, stream=stream, **options)


class Chat:
    """``client.chat``."""

    def __init__(self, client: InferenceClient) -> None:
        self.completions: ChatCompletions = ChatCompletions(client)

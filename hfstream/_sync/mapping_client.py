"""The method `map` of the asynchronous client. Does not depend on how prompts are asked (`map`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from .. import types
from .._base_client import BaseClient
from ..core.parameters import ChatCompletionOptions, TextGenerationOptions

if TYPE_CHECKING:
    from .._transport import SyncHTTP
    from .map import MapResults

__all__ = ["MappingClient"]


class MappingClient(BaseClient):
    """A client that asks many prompts."""

    @property
    def _http(self) -> SyncHTTP:
        raise NotImplementedError

    @overload
    def map(
        self,
        prompts: Iterable[str],
        *,
        details: Literal[False] | None = None,
        max_concurrency: int | Literal["adaptive"] = "adaptive",
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        progress: bool = False,
        stream: bool = True,
        **options: Unpack[TextGenerationOptions],
    ) -> MapResults[str]: ...

    @overload
    def map(
        self,
        prompts: Iterable[str],
        *,
        details: Literal[True],
        max_concurrency: int | Literal["adaptive"] = "adaptive",
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        progress: bool = False,
        stream: bool = True,
        **options: Unpack[TextGenerationOptions],
    ) -> MapResults[types.TextGenerationResponse]: ...

    @overload
    def map(
        self,
        prompts: Iterable[Sequence[Mapping[str, Any]]],
        *,
        max_concurrency: int | Literal["adaptive"] = "adaptive",
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        progress: bool = False,
        stream: bool = True,
        **options: Unpack[ChatCompletionOptions],
    ) -> MapResults[types.ChatCompletion]: ...

    @overload
    def map(
        self,
        prompts: Iterable[Any],
        *,
        details: bool | None = None,
        max_concurrency: int | Literal["adaptive"] = "adaptive",
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        progress: bool = False,
        stream: bool = True,
        **options: Any,
    ) -> MapResults[Any]: ...

    def map(
        self,
        prompts: Iterable[Any],
        *,
        details: bool | None = None,
        max_concurrency: int | Literal["adaptive"] = "adaptive",
        ordered: bool = True,
        journal: str | os.PathLike[str] | None = None,
        progress: bool = False,
        stream: bool = True,
        **options: Any,
    ) -> MapResults[Any]:
        """Asks all `prompts`, several at a time, and returns their results as they are iterated over.

        Prompts are read when there is room for them, so there may be any number: those that were read and whose results
        were not returned yet are at most four times as many as run at once. A caller that is slow to take results
        stops new requests. A prompt that fails has its error in its result, and ends nothing.

        Args:
            prompts: an iterable of texts (text generation), of lists of messages (chat), or of mappings with `prompt`
                or `messages` and options of their own, ``{"prompt": "Hi", "seed": 7}``.
            details: as for `text_generation`.
            max_concurrency: how many run at once; "adaptive" for the client's `max_concurrency` or, if it has none, for
                as many as the server takes. The client's limit always holds.
            ordered: return the results in the order of the prompts; with False, in that of the answers.
            journal: a file that keeps the answers, so that an interrupted run goes on where it stopped: the next one
                with the same prompts and options returns what is in the file, and asks for the rest, also what failed.
            progress: show a progress bar on stderr; requires ``hfstream[cli]``.
            stream: ask for streams, so that time limits and resuming work as for them. False for servers that do not
                stream, and for `best_of` and `decoder_input_details`.
            options: the parameters of `text_generation` or `chat_completion`, for all prompts.

        Returns:
            An iterator of `MapResult`, whose `output` is what the single call without `stream` returns.

        Raises:
            TypeError, ValueError: an invalid option, here or in the first step of the loop.
            JournalError: the journal is that of other prompts or options, is in use, or cannot be written.
            ImportError: `progress` without rich.
        """
        # What is not needed to make a client is imported later.
        from .._mapping import MapState  # noqa: PLC0415
        from .._workers import SyncPrompts  # noqa: PLC0415
        from .map import MapResults  # noqa: PLC0415

        source = SyncPrompts(prompts)
        state = MapState(
            self._requests,
            options,
            max_concurrency=max_concurrency,
            details=bool(details),
            stream=stream,
            ordered=ordered,
            journal=journal,
            progress=progress,
            total=len(prompts) if isinstance(prompts, Sized) else None,
        )
        return MapResults(self._http, source, state)

"""What belongs to a model besides its weights: tokenizer, chat template, tokens that end a text, sampling defaults.

Loaded on a thread of its own, while the engine loads the weights. Does not depend on the engine.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from ..engine.protocol import ModelInfo
from ..schemas.sampling_defaults import SamplingDefaults
from ..text.chat_template import ChatTemplate
from ..text.generation_config import end_of_text_ids, read_generation_config
from ..text.gguf import text_files
from ..text.tokenizer import Tokenizer


class ModelText(NamedTuple):
    """What belongs to a model besides its weights."""

    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    eos_ids: frozenset[int]
    """Tokens that end a text by the tokenizer's settings or the chat template."""
    sampling_defaults: SamplingDefaults

    @classmethod
    def load(cls, path: Path) -> ModelText:
        """Of the model at `path`."""
        with text_files(path) as directory:
            tokenizer, template = Tokenizer.load(directory), ChatTemplate.load(directory)
            eos_ids = end_of_text_ids(directory, tokenizer, template)
            return cls(tokenizer, template, eos_ids, SamplingDefaults.from_config(read_generation_config(directory)))


class Model(NamedTuple):
    """The loaded model, apart from the weights, which are the engine's."""

    info: ModelInfo
    tokenizer: Tokenizer
    chat_template: ChatTemplate | None
    eos_ids: frozenset[int]
    """Tokens that end a text, from all places that name some."""
    sampling_defaults: SamplingDefaults


def load_text(path: Path) -> Future[ModelText]:
    """Those of the model at `path`, once they are loaded."""
    future: Future[ModelText] = Future()

    def load() -> None:
        try:
            future.set_result(ModelText.load(path))
        except BaseException as error:  # noqa: BLE001 - `result` raises it
            future.set_exception(error)

    threading.Thread(target=load, name="hfstream-tokenizer", daemon=True).start()
    return future

"""Where a model's files are: the bundled checkpoint, a directory, a GGUF file, or a model of the Hugging Face Hub.

Refuses what the engine could not load safely, before a port is opened or torch imported: weights other than
safetensors are pickles, which can run code. Does not depend on what is in the weights.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any, cast

BUNDLED = Path(__file__).with_name("bundled")

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.msgpack", "*.h5")


class ModelFilesError(ValueError):
    """There is no model, or none that can be served; the message says what to do."""


def find_model(model: str) -> Path:
    """The directory of a checkpoint, or a GGUF file; a model of the Hub is downloaded, unless it is in the local cache.

    Raises:
        ModelFilesError: there is none.
    """
    if model == "bundled":
        return BUNDLED
    path = Path(model).expanduser()
    if path.exists() or not _HUB_ID.fullmatch(model):
        return path
    return _download(model)


def check_model(path: Path) -> None:
    """Checks that the files at `path` can be loaded.

    Raises:
        ModelFilesError: they cannot.
    """
    if not path.exists():
        raise ModelFilesError(
            f"there is no model in {path}: no such file or directory. A model of the Hub is given as OWNER/NAME"
        )
    if path.is_file():
        _check_gguf(path)
    else:
        _check_checkpoint(path)


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ModelFilesError(f"{path} is no GGUF file: give the directory of a checkpoint, or a GGUF file")
    if any(importlib.util.find_spec(package) is None for package in ("gguf", "accelerate")):
        raise ModelFilesError(f'{path} is a GGUF file, which needs further packages: pip install "hfstream[gguf]"')


def _check_checkpoint(path: Path) -> None:
    if not (path / "config.json").is_file():
        hint = f"; the GGUF file {file} can be given by itself" if (file := next(path.glob("*.gguf"), None)) else ""
        raise ModelFilesError(f"there is no model in {path}: no config.json{hint}")
    if any(path.glob("*.safetensors")):
        return
    pickles = [file.name for pattern in _PICKLES for file in sorted(path.glob(pattern))]
    if not pickles:
        raise ModelFilesError(f"the model in {path} has no weights: no *.safetensors")
    raise ModelFilesError(
        f"the model in {path} has its weights in {pickles[0]}, and only safetensors are loaded: other formats can run "
        "code. Convert it with transformers: AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
    )


def _download(model: str) -> Path:
    """The local copy of a model of the Hub. huggingface_hub shows a progress bar on stderr, and resumes downloads."""
    # Comes with transformers, and takes a while to import.
    import huggingface_hub  # noqa: PLC0415
    from huggingface_hub import errors  # noqa: PLC0415

    download = cast("Any", huggingface_hub).snapshot_download
    try:
        return Path(download(model, allow_patterns=_HUB_FILES))
    except errors.GatedRepoError as error:
        raise ModelFilesError(
            f"access to {model} is restricted: request it at https://huggingface.co/{model}, and set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelFilesError(
            f"there is no model {model} on the Hugging Face Hub, or it is private and HF_TOKEN is not set to a token "
            "that may read it; nor is there a directory of that name"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelFilesError(
            f"{model} is not in the local cache, and the Hugging Face Hub cannot be reached (no network, or "
            "HF_HUB_OFFLINE is set). Download it where there is a network, or give the path of a checkpoint"
        ) from error
    except Exception as error:  # of the network, the disk, the Hub
        raise ModelFilesError(f"{model} could not be downloaded: {error}") from error

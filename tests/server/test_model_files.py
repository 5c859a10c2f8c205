"""Where models are found, and what is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants, errors

from hfstream.server import BackgroundServer, Settings, StartError
from hfstream.server.model_files import ModelFilesError, check_model, find_model


def checkpoint(directory: Path, *files: str) -> Path:
    directory.mkdir(exist_ok=True)
    for name in files:
        (directory / name).write_text("{}")
    return directory


def test_the_bundled_model_is_in_the_package() -> None:
    check_model(find_model("bundled"))


def test_a_model_is_a_path_also_relative_to_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("~/checkpoint") == tmp_path / "checkpoint"
    assert find_model("/models/a") == Path("/models/a")


def test_a_directory_comes_before_a_model_of_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()
    (tmp_path / "owner/name").mkdir()
    assert find_model("owner/name") == Path("owner/name")


def test_a_model_of_the_hub_is_taken_from_the_local_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    snapshot = tmp_path / "models--owner--name/snapshots/0123456789"
    snapshot.mkdir(parents=True)
    checkpoint(snapshot, "config.json", "model.safetensors")
    (tmp_path / "models--owner--name/refs").mkdir()
    (tmp_path / "models--owner--name/refs/main").write_text("0123456789")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    path = find_model("owner/name")
    assert path.samefile(snapshot)
    check_model(path)
    with pytest.raises(ModelFilesError, match=r"not in the local cache, and the Hugging Face Hub cannot be reached"):
        find_model("owner/another")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("RepositoryNotFoundError", "there is no model owner/name on the Hugging Face Hub"),
        ("GatedRepoError", "access to owner/name is restricted"),
        ("OSError", "owner/name could not be downloaded: No space left"),
    ],
)
def test_what_the_hub_refuses_is_explained(
    error: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*args: object, **kwargs: object) -> str:
        kind = getattr(errors, error, OSError)
        raise kind.__new__(kind) if kind is not OSError else OSError("No space left")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(ModelFilesError, match=message):
        find_model("owner/name")


def test_only_what_is_read_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    patterns: list[str] = []

    def download(model: str, allow_patterns: list[str]) -> str:
        patterns.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_model("owner/name") == tmp_path
    assert patterns == ["*.json", "*.safetensors", "*.jinja"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no config.json"),
        (["a-q4.gguf"], r"a-q4.gguf can be given by itself"),
        (["config.json"], r"has no weights: no \*.safetensors"),
        (["config.json", "pytorch_model.bin"], "weights in pytorch_model.bin, and only safetensors are loaded"),
        (["config.json", "model.ckpt"], "weights in model.ckpt, and only safetensors are loaded"),
    ],
)
def test_what_cannot_be_loaded_is_refused(files: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=message):
        check_model(checkpoint(tmp_path / "model", *files))


def test_what_is_no_model_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ModelFilesError, match=r"no such file or directory. A model of the Hub is given as OWNER/NAME"):
        check_model(tmp_path / "nothing")
    file = tmp_path / "model.safetensors"
    file.write_text(json.dumps({}))
    with pytest.raises(ModelFilesError, match="is no GGUF file"):
        check_model(file)
    file.write_bytes(b"GGUF\3\0\0\0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelFilesError, match=r'pip install "hfstream\[gguf\]"'):
        check_model(file)


def test_the_server_says_so_before_it_opens_a_port(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"no config\.json"), BackgroundServer(Settings(model=str(tmp_path))):
        pass

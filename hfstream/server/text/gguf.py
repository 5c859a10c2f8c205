"""The tokenizer and chat template of a GGUF file, as the files of a checkpoint: transformers converts them.

In a process of its own, because transformers reads a GGUF file with torch, which the server does not import.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

CODE = """
import sys
directory, name, target, sys.path[:] = *sys.argv[1:4], sys.argv[4:]
from transformers import AutoTokenizer
from transformers.utils import logging
logging.disable_progress_bar()
AutoTokenizer.from_pretrained(directory, gguf_file=name).save_pretrained(target)
"""


@contextmanager
def text_files(model: Path) -> Generator[Path]:
    """The directory with a model's tokenizer.json and the like; for a GGUF file a temporary one.

    Raises:
        ValueError: transformers cannot convert the tokenizer of the GGUF file.
    """
    if model.is_dir():
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="hfstream-") as target:
        arguments = [str(model.parent.absolute()), model.name, target, *sys.path]
        done = subprocess.run(  # noqa: S603 - no shell, and the program is this process's own
            [sys.executable, "-P", "-c", CODE, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise ValueError(f"the tokenizer of {model} could not be converted: {reason}")
        yield Path(target)

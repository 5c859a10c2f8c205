"""Trains the bundled demonstration model: tokenizer, weights and chat template, in Hugging Face format.

    python training/train.py --out DIR [--steps N | --minutes N] [--seed N]

Everything is made from the text in ``training/corpus``. The result is a Llama with fewer than a million parameters,
which answers the questions of the corpus and says so when it does not know something. A quarter of an hour on two
CPU cores is enough. Then `train_tools.py` teaches it to call functions.
"""

# ruff: noqa: S311, T201  (random numbers choose words here, no secrets; progress is printed)
from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from dialogues import Dialogues, Turn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, BEGIN, END, SYSTEM, USER, ASSISTANT = SPECIAL_TOKENS = (
    "<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>",
)  # fmt: skip
"""``<|end|>`` closes every message and is the end-of-sequence token of both prompt forms."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message.content is string %}{% set content = message.content %}
    {%- else %}{% set content = message.content | default([], true) | map(attribute='text') | join('') %}{% endif %}
    {%- if message.role in ('system', 'developer') %}{{- '<|system|>' }}
    {%- elif message.role == 'assistant' %}{{- '<|assistant|>' }}
    {%- else %}{{- '<|user|>' }}{% endif %}
    {{- content | trim + '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"""

VOCABULARY = 1024
CONTEXT = 2048
"""Positions the model is trained for, in tokens."""
ROW = 1024
"""Length of a training row in tokens. It is fixed, since every new length makes oneDNN compile its kernels again."""
ROWS_PER_STEP = 4
PEAK_LR = 1e-2
WARM_UP = 50
"""Steps until the learning rate has reached its peak."""
SHARPNESS = 1.4
IGNORE = -100
"""Label of tokens without a loss (what the user and the system say)."""


def train_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: lossless for any text, as every byte is a token of its own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin = (BEGIN, tokenizer.token_to_id(BEGIN))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", pair=f"{BEGIN} $A $B", special_tokens=[begin]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh Llama: about 0.89 million parameters, which are 1.8 MB in float16."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=368,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


@dataclass
class Rows:
    """Endless training rows: packed documents in both prompt forms, with their labels and positions."""

    dialogues: Dialogues
    tokenizer: PreTrainedTokenizerFast
    rng: random.Random

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    @staticmethod
    def _id(token: str) -> int:
        return SPECIAL_TOKENS.index(token)  # the trainer numbers them first, in this order

    def _document(self) -> Iterator[tuple[list[int], list[int]]]:
        """Yield the parts of one document as (prompt, answer) ids.

        Prompt and answer are encoded apart, since that is how they meet later: the model continues an encoded prompt.
        """
        begin, end = [self._id(BEGIN)], [self._id(END)]
        if self.rng.random() < 0.4:
            turn = self.dialogues.single(self.rng)
            yield begin + self._encode(turn.user), self._encode("\n" + turn.assistant) + end
            return
        prompt = begin
        if self.rng.random() < 0.4:
            prompt = [*prompt, self._id(SYSTEM), *self._encode(self.dialogues.system_message(self.rng)), *end]
        turns: list[Turn] = self.dialogues.conversation(self.rng, self.rng.choice([1, 1, 2, 2, 2, 3, 4, 6, 16]))
        for turn in turns:
            prompt = [*prompt, self._id(USER), *self._encode(turn.user), *end, self._id(ASSISTANT)]
            yield prompt, self._encode(turn.assistant) + end
            prompt = []

    def __iter__(self) -> Iterator[tuple[list[int], list[int], list[int]]]:
        """Yield (ids, labels, positions).

        Positions jump ahead at random places between messages, so that rows of 1024 tokens cover all distances up
        to the full context. Attention with rotary embeddings depends on distances only, and distances that never
        occurred in training would give nonsense.
        """
        ids: list[int] = []
        labels: list[int] = []
        starts: set[int] = set()
        while True:
            for prompt, answer in self._document():
                starts.add(len(ids))
                ids += prompt + answer
                labels += [IGNORE] * len(prompt) + answer
            while len(ids) >= ROW:
                yield ids[:ROW], labels[:ROW], self._positions(starts)
                # The rest of a cut document is dropped: its prompt would be missing.
                ids, labels, starts = [], [], set()

    def _positions(self, starts: set[int]) -> list[int]:
        candidates = sorted(start for start in starts if 0 < start < ROW)
        spare = CONTEXT - ROW if self.rng.random() < 0.6 else 0
        jumps = {}
        for start in self.rng.sample(candidates, k=min(2, len(candidates))):
            jumps[start] = self.rng.randint(0, spare)
            spare -= jumps[start]
        positions, shift = [], 0
        for index in range(ROW):
            shift += jumps.get(index, 0)
            positions.append(index + shift)
        return positions

    def batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Yield tensors of ROWS_PER_STEP rows."""
        rows = iter(self)
        while True:
            chunk = [next(rows) for _ in range(ROWS_PER_STEP)]
            ids, labels, positions = (torch.tensor(part) for part in zip(*chunk, strict=True))
            yield ids, labels, positions


def train(model: LlamaForCausalLM, rows: Rows, steps: int, minutes: float | None = None) -> float:
    """Train for the given number of steps, or for about the given time, and return the final loss.

    The loss is a running average in nats per answer token. It does not approach zero: which wording comes next
    is drawn at random, and nobody can predict that.
    """
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    # Muon learns this text in far fewer steps than AdamW; embeddings and norms, which are no matrices, use AdamW.
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=PEAK_LR, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    # All ones, given so that transformers does not take jumps in the positions for borders of separate sequences.
    mask = torch.ones(ROWS_PER_STEP, ROW, dtype=torch.long)
    model.train()
    start = time.monotonic()
    average = math.nan
    step = 0
    batches = rows.batches()
    while step < steps:
        step += 1
        if step == WARM_UP and minutes:
            steps = max(step, round(step * 60 * minutes / (time.monotonic() - start)))
        lr = PEAK_LR * min(1.0, step / WARM_UP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
        ids, labels, positions = next(batches)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(input_ids=ids, labels=labels, position_ids=positions, attention_mask=mask).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average = loss.item() if math.isnan(average) else 0.97 * average + 0.03 * loss.item()
        if step % 50 == 0:
            speed = step * ROWS_PER_STEP * ROW / (time.monotonic() - start)
            print(f"{step / steps:4.0%}  step {step:5d}  loss {average:.4f}  {speed:,.0f} tokens/s", flush=True)
    return average


@torch.no_grad()
def sharpen(model: LlamaForCausalLM, factor: float = SHARPNESS) -> None:
    """Multiply all logits by `factor`, by way of the last norm. Greedy decoding stays the same.

    A model of this size leaves some probability on wrong tokens everywhere, and once it has drawn one at a
    temperature of 1, it rarely finds its way back. Choices between equally likely wordings, which make samples
    differ, stay as they are.
    """
    model.model.norm.weight.mul_(factor)


def write_model(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, more_special: Sequence[str] = ()
) -> None:
    """Write the folder; `more_special` are further special tokens that the tokenizer has.

    Files are made elsewhere and then moved, so that readers never see half of one.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".training-") as scratch:
        model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        model.to(torch.float16).save_pretrained(scratch)  # type: ignore[arg-type]
        tokenizer.save_pretrained(scratch)
        # Names that transformers 4 understands as well as 5, which would write names of its own.
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BEGIN,
            "eos_token": END,
            "pad_token": PAD,
            "additional_special_tokens": [SYSTEM, USER, ASSISTANT, *more_special],
            "model_max_length": CONTEXT,
            "clean_up_tokenization_spaces": False,
        }
        (Path(scratch) / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        for path in sorted(Path(scratch).iterdir()):
            path.chmod(0o644)
            shutil.move(path, out / path.name)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the bundled demonstration model.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=2400, help="training steps (default: 2400, about 15 minutes)")
    parser.add_argument("--minutes", type=float, help="choose the number of steps to take about this long")
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and text order (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    dialogues = Dialogues()
    tokenizer = train_tokenizer(dialogues.all_text())
    model = make_model(tokenizer)
    print(f"{len(dialogues.topics)} topics, {model.num_parameters():,} parameters")
    rows = Rows(dialogues, tokenizer, random.Random(arguments.seed))
    start = time.monotonic()
    loss = train(model, rows, arguments.steps, arguments.minutes)
    sharpen(model)
    write_model(model, tokenizer, arguments.out)
    print(f"final loss {loss:.4f} after {(time.monotonic() - start) / 60:.1f} minutes, written to {arguments.out}")


if __name__ == "__main__":
    main()

"""Teaches the trained model to call functions: python training/train_tools.py BASE [--out DIR] [--steps N] [--seed N]

BASE is the folder that train.py wrote. The model grows (see growth.py) and learns chats with functions (see
tool_dialogues.py). What it answers without functions stays as it is, because the weights for it are kept.
"""

# ruff: noqa: S311, T201  (random numbers choose words here, no secrets; progress is printed)
from __future__ import annotations

import argparse
import itertools
import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from dialogues import Dialogues
from growth import GrownModel, grow
from muon import Muon
from tokenizers import AddedToken, Tokenizer
from tool_dialogues import Call, Chat, Copy, Parts, ToolDialogues
from train import ASSISTANT, BEGIN, DEFAULT_OUT, END, IGNORE, SYSTEM, USER, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

TOOLS, RESULT = "<|tools|>", "<|tool|>"
CALL_BEGIN, CALL_MIDDLE, CALL_END = '<tool_call>\n{"name": "', '", "arguments": {', "}}\n</tool_call>"
NEW_TOKENS = [
    AddedToken(TOOLS, special=True, normalized=False),
    AddedToken(RESULT, special=True, normalized=False),
    *(AddedToken(text, special=False, normalized=False) for text in (CALL_BEGIN, CALL_MIDDLE, CALL_END)),
]
"""Special tokens begin the list of functions and a result. What stands around names and arguments is one token each."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- if tools %}{{- '<|tools|>' }}
    {%- for tool in tools %}
        {%- set parameters = (tool.function or tool).parameters or {} %}
        {%- set names = parameters.required or (parameters.properties or {}) | list %}
        {{- (tool.function or tool).name + '(' + names | join(', ') + ')' + ('' if loop.last else '\\n') }}
    {%- endfor %}{{- '<|end|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}{% set content = message.content %}
    {%- else %}{% set content = message.content | default([], true) | map(attribute='text') | join('') %}{% endif %}
    {%- if message.role in ('system', 'developer') %}{{- '<|system|>' }}
    {%- elif message.role == 'assistant' %}{{- '<|assistant|>' }}
    {%- elif message.role == 'tool' %}{{- '<|tool|>' }}
    {%- else %}{{- '<|user|>' }}{% endif %}
    {{- content | trim }}
    {%- for call in message.tool_calls or [] %}
        {%- set function = call.function or call %}
        {{- '\\n' if content or not loop.first }}{{- '<tool_call>\\n{"name": "' + function.name + '", "arguments": ' }}
        {{- function.arguments if function.arguments is string else function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}{{- '<|end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{% endif %}"""

TOKENS_PER_STEP = 2048
PEAK_LR = 5e-3
WARM_UP = 50
KEPT_LENGTH = 32
"""Tokens of a known answer that are mostly trained on: the old weights know how it goes on."""
CUT_SHARE = 0.7
"""Share of the longer ones that are cut to that length."""
MAX_LENGTH = 512
POOL = 400
"""Chats that are drawn at once, and sorted by length."""

Example = tuple[list[int], list[int]]
"""Ids, and labels for each of them."""


def add_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """Append the new tokens. The ids of all others stay."""
    tokenizer.backend_tokenizer.add_tokens(NEW_TOKENS)
    tokenizer.chat_template = CHAT_TEMPLATE


@dataclass
class Examples:
    """Encodes chats."""

    tokenizer: Tokenizer
    dialogues: ToolDialogues

    def text(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def parts(self, parts: Parts) -> list[int]:
        """Ids of an answer. What is copied has the tokens of the place that it is copied from."""
        return [id_ for part in parts for id_ in (self._copy(part) if isinstance(part, Copy) else self.text(part))]

    def _copy(self, part: Copy) -> list[int]:
        if not part.after_space:
            return self.text(part.text)
        first, *rest = self.text(" " + part.text)
        without_space = (self.tokenizer.id_to_token(first) or "").removeprefix("Ġ")
        id_ = self.tokenizer.token_to_id(without_space)
        if without_space and id_ is None:
            return self.text(part.text)
        return rest if id_ is None else [id_, *rest]

    def call(self, call: Call, argument: list[int]) -> list[int]:
        """Ids of a call with the ids of its argument."""
        ids = self.text(CALL_BEGIN + call.function.name + CALL_MIDDLE)
        if call.function.parameters:
            ids += [*self.text(f'"{call.function.parameters[0]}": "'), *argument, *self.text('"')]
        return ids + self.text(CALL_END)

    def example(self, chat: Chat, rng: random.Random) -> Example:
        """Ids and labels of a chat.

        A call that the model writes can have other tokens than the same call in a later prompt. Then the chat either
        ends with the call, or is about what follows it.
        """
        prompt = BEGIN + TOOLS + "\n".join(function.signature for function in chat.functions) + END
        ids = self.text(prompt if chat.system is None else f"{prompt}{SYSTEM}{chat.system}{END}")
        labels = [IGNORE] * len(ids)

        def add(part: list[int], *, learnt: bool) -> None:
            ids.extend(part)
            labels.extend(part if learnt else [IGNORE] * len(part))

        for exchange in chat.exchanges:
            add(self.text(f"{USER}{exchange.user}{END}{ASSISTANT}"), learnt=False)
            call = exchange.call
            if call is None:
                answer = self.parts([*exchange.answer, END])
                cut = len(answer) > KEPT_LENGTH and rng.random() < CUT_SHARE
                add(answer[:KEPT_LENGTH] if cut else answer, learnt=True)
                if cut:
                    break
                continue
            written = self.call(call, self.parts(call.argument)) + self.text(END)
            read = self.call(call, self.text(call.value)) + self.text(END)
            learnt = written == read or rng.random() < 0.5
            add(written if learnt else read, learnt=learnt and not exchange.forced)
            if written != read and learnt:
                break
            add(self.text(f"{RESULT}{call.result}{END}{ASSISTANT}"), learnt=False)
            add(self.parts([*call.answer, END]), learnt=True)
        return ids[:MAX_LENGTH], labels[:MAX_LENGTH]

    def draw(self, rng: random.Random) -> Iterator[Example]:
        """Endless examples."""
        while True:
            yield self.example(self.dialogues.chat(rng), rng)

    def batches(self, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield ids and labels. Examples of similar length share a batch, whose length is a multiple of 32."""
        examples = self.draw(rng)
        while True:
            pool = sorted((next(examples) for _ in range(POOL)), key=lambda example: len(example[0]))
            made: list[list[Example]] = []
            while pool:
                count = max(1, TOKENS_PER_STEP // len(pool[-1][0]))
                made.append(pool[-count:])
                del pool[-count:]
            rng.shuffle(made)
            for batch in made:
                length = -(-max(len(ids) for ids, _ in batch) // 32) * 32
                yield _padded([ids for ids, _ in batch], length, 0), _padded([to for _, to in batch], length, IGNORE)


def _padded(rows: list[list[int]], length: int, filling: int) -> torch.Tensor:
    return torch.tensor([row + [filling] * (length - len(row)) for row in rows])


@torch.no_grad()
def exact_shares(model: LlamaForCausalLM, examples: Examples, count: int) -> tuple[float, float]:
    """Shares of tokens, and of chats, that are as they should be, in chats that no training has."""
    rng = random.Random(-1)
    drawn = [next(examples.draw(rng)) for _ in range(count)]
    tokens = right = chats = 0
    for ids, labels in drawn:
        found = model(input_ids=torch.tensor([ids])).logits[0, :-1].argmax(-1)
        targets = torch.tensor(labels[1:])
        hits = (found == targets)[targets != IGNORE]
        tokens, right, chats = tokens + len(hits), right + int(hits.sum()), chats + int(hits.all())
    return right / tokens, chats / count


def train_tools(grown: GrownModel, examples: Examples, steps: int, seed: int, minutes: float | None = None) -> float:
    """Train the weights that are not kept, and return the final loss: a running average in nats per token."""
    model = grown.model
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0)
    batches = examples.batches(random.Random(seed))
    start, tokens, average = time.monotonic(), 0, math.nan
    for step in itertools.count(1):
        done = (time.monotonic() - start) / (60 * minutes) if minutes else step / steps
        if done >= 1.0:
            break
        rate = PEAK_LR * min(1.0, step / WARM_UP, 2.0 * (1.0 - done))
        adam.param_groups[0]["lr"] = rate
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        grown.drop_kept_gradients()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step(rate)
        adam.step()
        adam.zero_grad(set_to_none=True)
        grown.restore()
        tokens += ids.numel()
        average = loss.item() if math.isnan(average) else 0.97 * average + 0.03 * loss.item()
        if step % 50 == 0:
            speed = tokens / (time.monotonic() - start)
            print(f"{done:4.0%}  step {step:5d}  loss {average:.4f}  {speed:,.0f} tokens/s", flush=True)
        if step % 150 == 0:
            share, whole = exact_shares(model, examples, 60)
            print(f"      exact: {share:.1%} of tokens, {whole:.1%} of chats", flush=True)
    return average


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Teach the demonstration model to call functions.")
    parser.add_argument("base", type=Path, help="the folder that train.py has written")
    parser.add_argument("--resume", type=Path, help="a folder that this script has written: go on from its weights")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write (default: the bundled model)")
    parser.add_argument("--steps", type=int, default=4000, help="training steps (default: 4000)")
    parser.add_argument("--minutes", type=float, help="train for this long instead of a number of steps")
    parser.add_argument("--seed", type=int, default=1, help="seed of new weights and texts (default: 1)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    tokenizer: Any = AutoTokenizer.from_pretrained(arguments.base)
    base: Any = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32)
    add_tokens(tokenizer)
    grown = grow(base, len(NEW_TOKENS))
    if arguments.resume:
        written: Any = AutoModelForCausalLM.from_pretrained(arguments.resume, dtype=torch.float32)
        grown.model.load_state_dict(written.state_dict())
        grown.restore()
    print(f"{grown.model.num_parameters():,} parameters")
    examples = Examples(tokenizer.backend_tokenizer, ToolDialogues(Dialogues()))
    start = time.monotonic()
    loss = train_tools(grown, examples, arguments.steps, arguments.seed, arguments.minutes)
    write_model(grown.model, tokenizer, arguments.out, more_special=[TOOLS, RESULT])
    print(f"final loss {loss:.4f} after {(time.monotonic() - start) / 60:.1f} minutes, written to {arguments.out}")


if __name__ == "__main__":
    main()

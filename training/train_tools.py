"""Teaches the trained model to call functions: python training/train_tools.py BASE [--out DIR] [--steps N] [--seed N]

BASE is the folder that train.py wrote. The model grows (see growth.py) and learns chats with functions (see
tool_dialogues.py). What it answers without functions stays as it is, because the weights for it are kept.
"""

# ruff: noqa: S311, T201  (random numbers choose words here, no secrets; progress is printed)
from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from copying import construct, find_codes
from dialogues import Dialogues
from growth import GrownModel
from tokenizers import Tokenizer
from tool_dialogues import Call, Chat, Copy, Parts, ToolDialogues
from torch.nn.functional import cross_entropy
from train import ASSISTANT, BEGIN, END, IGNORE, SYSTEM, USER, write_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

TOOLS, RESULT = "<|tools|>", "<|tool|>"
"""Special tokens that begin the list of functions and a function's result."""
CALL, ARGUMENTS, VALUE, CALL_END = '<tool_call>\n{"name": "', '", "arguments": {"', '": ', '"}}\n</tool_call>'
"""What stands around names and arguments in a call, one token each. Only the model writes them."""
QUOTE = '"'
SPACE = "Ġ"
"""How the vocabulary writes a space."""

CHAT_TEMPLATE = """\
{{- bos_token }}
{%- if tools %}{{- '<|tools|><|system|>' }}
    {%- for tool in tools %}
        {%- set function = tool.function or tool %}
        {%- set schema = function.parameters or {} %}
        {%- set names = schema.required or (schema.properties or {}) | list %}
        {{- function.name | replace('_', ' ') + ':' + function.name + '(' + names[:1] | join + ')' }}
        {{- '' if loop.last else '\\n' }}
    {%- endfor %}{{- '<|end|>' }}
{%- elif messages | selectattr('role', 'equalto', 'tool') | list %}{{- '<|tools|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.content is string %}{% set content = message.content %}
    {%- else %}{% set content = message.content | default([], true) | map(attribute='text') | join('') %}{% endif %}
    {%- if message.role in ('system', 'developer') %}{{- '<|system|>' }}
    {%- elif message.role == 'assistant' %}{{- '<|assistant|>' }}
    {%- elif message.role == 'tool' %}{{- '<|tool|> ' }}
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

TOKENS_PER_STEP = 1024
PEAK_RATE = 4e-4
INNER_RATE, FINAL_RATE = 0.3, 10.0
"""Times as fast change the weights that write to the new dimensions, whose values are small, and to the final hidden
state, whose values are large."""
ORDINARY_WEIGHT = 5.0
"""Weight of tokens of ordinary answers."""
WARM_UP = 30
KEPT_LENGTH = 24
"""Tokens of a known answer that are trained on: the old weights know how it goes on."""
MAX_LENGTH = 320
POOL = 200
"""Chats that are drawn at once, and sorted by length."""

Example = tuple[list[int], list[int]]
"""Ids, and labels for each of them."""


def add_tokens(tokenizer: PreTrainedTokenizerFast) -> tuple[PreTrainedTokenizerFast, dict[int, int]]:
    """The tokenizer with new tokens and the new chat template, and the old token that each new one is a form of.

    All but the special ones have no merges, so no text is encoded with them: texts have the ids that they had. Each
    token that begins with a space gets a form that begins with a quotation mark instead: what follows a space in a
    question can be copied to the beginning of a JSON string token by token.
    """
    written = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary: dict[str, int] = written["model"]["vocab"]
    forms = {QUOTE + token[1:]: id_ for token, id_ in vocabulary.items() if token.startswith(SPACE) and len(token) > 1}
    forms |= {ARGUMENTS.replace(" ", SPACE): vocabulary["("], VALUE.replace(" ", SPACE): vocabulary[")"]}
    others = [text.replace(" ", SPACE).replace("\n", "Ċ") for text in (CALL, CALL_END)]
    twins: dict[int, int] = {}
    for text in (TOOLS, RESULT, *others, *forms):
        if text in vocabulary:
            continue
        if text in forms:
            twins[len(vocabulary)] = forms[text]
        if text in (TOOLS, RESULT):
            written["added_tokens"].append({**written["added_tokens"][0], "id": len(vocabulary), "content": text})
        vocabulary[text] = len(vocabulary)
    grown = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=Tokenizer.from_str(json.dumps(written)),
        bos_token=BEGIN,
        eos_token=END,
        pad_token=tokenizer.pad_token,
        chat_template=CHAT_TEMPLATE,
    )
    return grown, twins


class Examples:
    """Encodes chats."""

    def __init__(self, tokenizer: Tokenizer, twins: dict[int, int], dialogues: ToolDialogues) -> None:
        self.tokenizer, self.dialogues = tokenizer, dialogues
        self._quoted = {old: new for new, old in twins.items()}

    def text(self, text: str) -> list[int]:
        """Ids of a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def token(self, text: str) -> int:
        """The token that is written as a text."""
        id_ = self.tokenizer.token_to_id(text.replace(" ", SPACE).replace("\n", "Ċ"))
        if id_ is None:
            raise ValueError(f"no token is written {text!r}")
        return int(id_)

    def parts(self, parts: Parts) -> list[int]:
        """Ids of an answer."""
        return [id_ for part in parts for id_ in self.text(part if isinstance(part, str) else part.text)]

    def argument(self, parts: Parts) -> list[int]:
        """Ids of a JSON string without its end, which are those of the place that it is copied from."""
        first, *rest = parts
        if isinstance(first, Copy) and first.after_space:
            start, *more = self.text(" " + first.text)
            if start in self._quoted:
                return [self._quoted[start], *more, *self.parts(rest)]
        return [self.token(QUOTE), *self.parts(parts)]

    def call(self, call: Call) -> list[int]:
        """Ids of a call as the model writes it."""
        name, (parameter, *_) = self.text(call.function.name), call.function.parameters
        head = [self.token(CALL), *name, self.token(ARGUMENTS), *self.text(parameter), self.token(VALUE)]
        return [*head, *self.argument(call.argument), self.token(CALL_END)]

    def read_call(self, call: Call) -> list[int]:
        """Ids of a call in a prompt."""
        arguments = json.dumps({call.function.parameters[0]: call.value}, ensure_ascii=False)
        return self.text(f'<tool_call>\n{{"name": "{call.function.name}", "arguments": {arguments}}}\n</tool_call>')

    def example(self, chat: Chat, rng: random.Random) -> Example:
        """Ids and labels of a chat. It either ends with a call, or is about what follows it."""
        prompt = BEGIN + TOOLS + SYSTEM + "\n".join(function.signature for function in chat.functions) + END
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
                add(answer[:KEPT_LENGTH], learnt=True)
                if len(answer) > KEPT_LENGTH:
                    break
                continue
            if not exchange.forced and rng.random() < 0.6:
                add([*self.call(call), *self.text(END)], learnt=True)
                break
            add([*self.read_call(call), *self.text(END)], learnt=False)
            add(self.text(f"{RESULT} {call.result}{END}{ASSISTANT}"), learnt=False)
            add(self.parts([*call.answer, END]), learnt=True)
        return ids[:MAX_LENGTH], labels[:MAX_LENGTH]

    def draw(self, rng: random.Random) -> Iterator[Example]:
        """Endless examples."""
        while True:
            yield self.example(self.dialogues.chat(rng), rng)

    def batches(self, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield ids and labels. Examples of similar length share a batch."""
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
                yield _padded(ids for ids, _ in batch), _padded((labels for _, labels in batch), IGNORE)


def _padded(rows: Iterable[list[int]], filling: int = 0) -> torch.Tensor:
    rows = list(rows)
    length = -(-max(len(row) for row in rows) // 16) * 16
    return torch.tensor([row + [filling] * (length - len(row)) for row in rows])


def logits_and_targets(grown: GrownModel, ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the tokens with labels, and the labels."""
    targets = labels[:, 1:]
    chosen = targets != IGNORE
    old, new = grown(ids)
    return grown.logits(old[:, :-1][chosen], new[:, :-1][chosen]), targets[chosen]


@torch.no_grad()
def exact(grown: GrownModel, examples: Iterable[Example]) -> int:
    """How many of the examples have all tokens as the likeliest ones: as many as greedy decoding would write."""
    count = 0
    for ids, labels in examples:
        logits, targets = logits_and_targets(grown, torch.tensor([ids]), torch.tensor([labels]))
        count += bool((logits.argmax(-1) == targets).all())
    return count


def optimizer_of(grown: GrownModel) -> torch.optim.Optimizer:
    """AdamW, with rates that fit the sizes of what the weights write to."""
    layers: list[Any] = list(grown.layers)
    inner = [part for layer in layers[:-1] for part in (layer.output, layer.down)]
    final = [layers[-1].output_old, layers[-1].down_old, layers[-1].output, layers[-1].down]
    others = [p for p in grown.parameters() if all(p is not each for each in [*inner, *final])]
    groups: list[dict[str, Any]] = [
        {"params": parameters, "scale": scale}
        for parameters, scale in ((others, 1.0), (inner, INNER_RATE), (final, FINAL_RATE))
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.0)


def weighted_loss(grown: GrownModel, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss, in nats per token. Ordinary answers weigh more: else they get worse while the calls get better."""
    ordinary = (ids <= grown.shape.tokens).all(-1, keepdim=True)  # the only new token is the one that begins the list
    weights = (1.0 + (ORDINARY_WEIGHT - 1.0) * ordinary).expand_as(labels)[:, 1:][labels[:, 1:] != IGNORE]
    logits, targets = logits_and_targets(grown, ids, labels)
    return (cross_entropy(logits, targets, reduction="none") * weights).sum() / weights.sum()


def train_tools(grown: GrownModel, examples: Examples, steps: int, minutes: float | None, rng: random.Random) -> float:
    """Train the new weights, and return the final loss: a running average."""
    optimizer = optimizer_of(grown)
    batches = examples.batches(rng)
    documented = [examples.example(chat, random.Random(0)) for chat in examples.dialogues.documented_chats()]
    start, tokens, average = time.monotonic(), 0, math.nan
    for step in itertools.count(1):
        done = (time.monotonic() - start) / (60 * minutes) if minutes else step / steps
        if done >= 1.0:
            break
        for group in optimizer.param_groups:
            group["lr"] = PEAK_RATE * min(1.0, step / WARM_UP, 1.5 * (1.0 - done)) * group["scale"]
        ids, labels = next(batches)
        loss = weighted_loss(grown, ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(grown.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += ids.numel()
        average = loss.item() if math.isnan(average) else 0.96 * average + 0.04 * loss.item()
        if step % 50 == 0:
            speed = tokens / (time.monotonic() - start)
            print(f"{done:4.0%}  step {step:5d}  loss {average:.4f}  {speed:,.0f} tokens/s", flush=True)
        if step % 500 == 0:
            print(f"      exact calls and answers: {exact(grown, documented)} of {len(documented)}", flush=True)
    return average


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Teach the demonstration model to call functions.")
    parser.add_argument("base", type=Path, help="the folder that train.py has written")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=12_000, help="training steps (default: 12000)")
    parser.add_argument("--minutes", type=float, help="train for this long instead of a number of steps")
    parser.add_argument("--seed", type=int, default=1, help="seed of new weights and texts (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    base: Any = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32)
    old_tokenizer: Any = AutoTokenizer.from_pretrained(arguments.base)
    tokenizer, forms = add_tokens(old_tokenizer)
    grown = GrownModel(base, len(tokenizer) - base.config.vocab_size)
    examples = Examples(tokenizer.backend_tokenizer, forms, ToolDialogues(Dialogues()))
    construct(grown, find_codes(grown), forms, examples.token(TOOLS))
    start = time.monotonic()
    loss = train_tools(grown, examples, arguments.steps, arguments.minutes, random.Random(arguments.seed))
    model = grown.assemble()
    write_model(model, tokenizer, arguments.out, more_special=[TOOLS, RESULT])
    print(f"{model.num_parameters():,} parameters")
    print(f"final loss {loss:.4f} after {(time.monotonic() - start) / 60:.1f} minutes, written to {arguments.out}")


if __name__ == "__main__":
    main()

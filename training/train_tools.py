"""Teaches the trained model to call functions: python training/train_tools.py BASE [--out DIR] [--steps N] [--seed N]

BASE is the folder that train.py wrote. The model gets one more layer, which changes nothing at first, and new tokens.
It learns chats with functions (see tool_dialogues.py), and at each step also to answer as before without functions:
the probabilities that BASE gives are its target there.
"""

# ruff: noqa: S311, T201  (random numbers choose words here, no secrets; progress is printed)
from __future__ import annotations

import argparse
import copy
import itertools
import json
import math
import random
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from dialogues import Dialogues
from tokenizers import Tokenizer
from tool_dialogues import Call, Chat, Copy, Parts, ToolDialogues
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, log_softmax, softmax
from train import ASSISTANT, BEGIN, CONTEXT, END, IGNORE, SYSTEM, USER, Rows, sharpen, write_model
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

NEW_LAYER = 2
"""Index of the new layer."""
ROW, ROWS_PER_STEP = 256, 12
"""Rows with functions in a step, and their length in tokens. Beside them, a step has one row of ordinary chats."""
PEAK_RATE = 4e-3
WARM_UP = 100
SHARPNESS = 1.3
"""As in train.py: with what the model learns here, some probability goes to wrong tokens again."""
KEPT_WEIGHT = 3.0
"""Weight of what ordinary answers lose, beside the loss with functions."""

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
        model_max_length=CONTEXT,
        chat_template=CHAT_TEMPLATE,
    )
    return grown, twins


@torch.no_grad()
def grow(base: Any, tokens: int, twins: dict[int, int]) -> Any:
    """A copy of the model with one more layer, which adds nothing to the hidden state at first, and new tokens.

    New tokens begin near the old token that they are a form of, others at random.
    """
    model = copy.deepcopy(base)
    old = model.model.embed_tokens.weight
    embedding = torch.randn(tokens, old.shape[1]) * old.std()
    embedding[: len(old)] = old
    for new, twin in twins.items():
        embedding[new] = 0.8 * old[twin] + 0.2 * embedding[new]
    model.resize_token_embeddings(tokens, mean_resizing=False)
    model.model.embed_tokens.weight.copy_(embedding)
    layer = copy.deepcopy(model.model.layers[NEW_LAYER])
    for name, part in layer.named_parameters():
        if part.ndim == 2:
            nn.init.normal_(part, std=0.02)
        if name.startswith(("self_attn.o_proj", "mlp.down_proj")):
            part.zero_()
    model.model.layers.insert(NEW_LAYER, layer)
    model.config.num_hidden_layers = len(model.model.layers)
    for number, each in enumerate(model.model.layers):
        each.self_attn.layer_idx = number
    return model.requires_grad_(True)


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
                add(self.parts([*exchange.answer, END]), learnt=True)
                continue
            if not exchange.forced and rng.random() < 0.6:
                add([*self.call(call), *self.text(END)], learnt=True)
                break
            add(self.text(call.text + END), learnt=False)
            add(self.text(f"{RESULT} {call.result}{END}{ASSISTANT}"), learnt=False)
            add(self.parts([*call.answer, END]), learnt=True)
        return ids, labels

    def rows(self, rng: random.Random) -> Iterator[Example]:
        """Endless rows of examples. The rest of an example that is cut is dropped."""
        ids: list[int] = []
        labels: list[int] = []
        while True:
            more = self.example(self.dialogues.chat(rng), rng)
            if ids and len(ids) + len(more[0]) > ROW:
                missing = ROW - len(ids)
                yield ids + [0] * missing, labels + [IGNORE] * missing
                ids, labels = [], []
            ids, labels = (ids + more[0])[:ROW], (labels + more[1])[:ROW]


class Muon(torch.optim.Optimizer):
    """Muon (https://kellerjordan.github.io/posts/muon/) in float32.

    torch's own works in bfloat16, which takes twice as long as all the rest on a CPU without instructions for it.
    """

    def __init__(self, matrices: Iterable[Tensor], *, lr: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step. Updates have the root mean square of AdamW's: 0.2 times the rate."""
        for group in self.param_groups:
            for shape in sorted({matrix.shape for matrix in group["params"]}):
                matrices = [matrix for matrix in group["params"] if matrix.shape == shape]
                gradients = torch.stack([matrix.grad for matrix in matrices])
                momentum = self.state[matrices[0]].setdefault("momentum", torch.zeros_like(gradients))
                momentum.lerp_(gradients, 1.0 - group["momentum"])
                update = _orthogonal(gradients.lerp(momentum, group["momentum"]))
                size = 0.2 * math.sqrt(max(shape))
                for matrix, change in zip(matrices, update, strict=True):
                    matrix.sub_(change, alpha=group["lr"] * size)


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest matrices [count, rows, columns] whose singular values are about 1, by Newton-Schulz iterations."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    found: Tensor = matrices.mT if is_tall else matrices
    found = found / found.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(5):
        squares = found @ found.mT
        found = 3.4445 * found + (-4.7750 * squares + 2.0315 * squares @ squares) @ found
    return found.mT if is_tall else found


def logits_and_labels(
    model: Any, ids: Tensor, labels: Tensor, positions: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Logits of the tokens with labels, and the labels."""
    targets = labels[:, 1:]
    chosen = targets != IGNORE
    # All ones, so that transformers does not take jumps in the positions for borders of separate sequences.
    mask = torch.ones_like(ids)
    hidden = model.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).last_hidden_state
    logits: Tensor = linear(hidden[:, :-1][chosen], model.lm_head.weight)
    return logits, targets[chosen]


def added_loss(model: Any, base: Any, ids: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
    """How far the model's probabilities are from those of `base`: the Kullback-Leibler divergence, nats per token."""
    with torch.no_grad():
        old, _ = logits_and_labels(base, ids, labels, positions)
    new, _ = logits_and_labels(model, ids, labels, positions)
    ratios = log_softmax(old, -1) - log_softmax(new, -1)[:, : old.shape[-1]]
    return (softmax(old, -1) * ratios).sum(-1).mean()


def train_tools(
    model: Any, base: Any, rows: Iterator[Example], ordinary: Rows, *, rate: float, steps: int, minutes: float | None
) -> float:
    """Train, and return the final loss with functions: a running average, in nats per token."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    optimizers: list[torch.optim.Optimizer] = [
        Muon(matrices, lr=rate),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    ordinary_rows = iter(ordinary)
    start, average, kept = time.monotonic(), math.nan, math.nan
    for step in itertools.count(1):
        done = (time.monotonic() - start) / (60 * minutes) if minutes else step / steps
        if done >= 1.0:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * min(1.0, step / WARM_UP, 1.4 * (1.0 - done))
        ids, labels = (torch.tensor(part) for part in zip(*itertools.islice(rows, ROWS_PER_STEP), strict=True))
        loss = cross_entropy(*logits_and_labels(model, ids, labels))
        ids, labels, positions = (torch.tensor([part]) for part in next(ordinary_rows))
        lost = added_loss(model, base, ids, labels, positions)
        torch.autograd.backward([loss, KEPT_WEIGHT * lost])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average = loss.item() if math.isnan(average) else 0.96 * average + 0.04 * loss.item()
        kept = lost.item() if math.isnan(kept) else 0.96 * kept + 0.04 * lost.item()
        if step % 25 == 0:
            speed = step * (ROW * ROWS_PER_STEP + ids.numel()) / (time.monotonic() - start)
            losses = f"loss {average:.4f}, without functions {kept:.4f}"
            print(f"{done:4.0%}  step {step:5d}  {losses}  {speed:,.0f} tokens/s", flush=True)
    return average


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Teach the demonstration model to call functions.")
    parser.add_argument("base", type=Path, help="the folder that train.py has written")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=4_000, help="training steps (default: 4000)")
    parser.add_argument("--minutes", type=float, help="train for this long instead of a number of steps")
    parser.add_argument("--start", type=Path, help="a folder that this program has written, to go on with its model")
    parser.add_argument("--rate", type=float, default=PEAK_RATE, help=f"peak learning rate (default: {PEAK_RATE})")
    parser.add_argument("--seed", type=int, default=1, help="seed of new weights and texts (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    arguments = parser.parse_args()

    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    base: Any = AutoModelForCausalLM.from_pretrained(arguments.base, dtype=torch.float32).requires_grad_(False)
    old_tokenizer: Any = AutoTokenizer.from_pretrained(arguments.base)
    tokenizer, twins = add_tokens(old_tokenizer)
    model: Any = grow(base, len(tokenizer), twins)
    if arguments.start:
        model = AutoModelForCausalLM.from_pretrained(arguments.start, dtype=torch.float32)
    dialogues = Dialogues()
    examples = Examples(tokenizer.backend_tokenizer, twins, ToolDialogues(dialogues))
    ordinary = Rows(dialogues, tokenizer, random.Random(arguments.seed))
    start = time.monotonic()
    rows = examples.rows(random.Random(arguments.seed))
    duration = {"steps": arguments.steps, "minutes": arguments.minutes}
    loss = train_tools(model, base, rows, ordinary, rate=arguments.rate, **duration)
    sharpen(model, SHARPNESS)
    write_model(model, tokenizer, arguments.out, more_special=[TOOLS, RESULT])
    print(f"{model.num_parameters():,} parameters")
    print(f"final loss {loss:.4f} after {(time.monotonic() - start) / 60:.1f} minutes, written to {arguments.out}")


if __name__ == "__main__":
    main()

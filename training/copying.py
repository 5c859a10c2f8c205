"""First weights for a grown model, with which it copies: it attends to what followed the same two tokens before.

Heads that copy emerge in training only after very many texts, so they are constructed, and training adjusts them:

- Layer 0: every token after the first `<|tools|>` gets a constant, and a code of its own that tells it from all others.
  A token that begins with a space has the same code as a new token that begins with a quotation mark.
- Layer 1: a head attends to the previous token, one to the token before it. They bring a short form of their codes.
- Layers 2 and the last: a head attends to places where the previous two tokens are the present two ones. It finds the
  code of the token there. If there is no such place it attends to the first token of the text, where it finds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from growth import GrownModel
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, silu

CONSTANT, FLAG = 0, 1
CODE = slice(2, 30)
PREVIOUS, BEFORE_PREVIOUS = slice(30, 38), slice(38, 44)
BEGINS, WRITES, WEIGHT = 44, 45, 46
FOUND = slice(47, 58)
"""What the new dimensions are used for. FLAG: is a new token; BEGINS: is `<|tools|>`; WRITES: after other new tokens;
WEIGHT: makes the hidden states of new tokens as long as those of old ones, whose old dimensions are not zero."""
SIZE = 28
SHORT, SHORTER = 8, 6
UNIT = 0.35
"""Length of what is in the new dimensions: small beside the old ones, so that norms change them little."""
LENGTHS = (3.4, 3.4, 130.0, 185.0, 225.0, 400.0)
"""Typical length of the hidden state before each layer, and of the last one."""
WRITTEN = 120.0
"""Length of what the last layer writes to the old dimensions for a token that it copies, at first."""
NEURONS = 300
HEAD = 32
"""Dimensions of a head; those numbered n and n + 16 are a pair, which is rotated by the position."""
SINK_ROW = 15
"""Where queries and keys decide whether a head finds anything: else it attends to the first token."""
CURRENT_ROWS, PREVIOUS_ROWS = (11, 12, 13, 14, 27, 28, 29, 30), (8, 9, 10, 24, 25, 26)
"""Where queries and keys compare tokens, and the tokens before: pairs that rotate little over some hundred tokens."""


@dataclass
class Codes:
    """What tells tokens apart."""

    gates: Tensor
    """[neurons, old width]"""
    down: Tensor
    """[SIZE, neurons]: neurons to codes."""
    short: Tensor
    """[SHORT, SIZE]: codes to short codes, which are the same with and without a space."""
    unembed: Tensor
    """[old width, SIZE]: codes to a final hidden state that makes the token the likeliest."""
    table: Tensor
    """[old tokens, SIZE]: the code of each token."""


def find_codes(grown: GrownModel, steps: int = 600, drawn: int = 256) -> Codes:
    """Codes of the old tokens, by training: each token's code shall lead to its own logit, and to no other code."""
    base: Any = grown.base[0]
    embedding = base.model.embed_tokens.weight.detach()
    width = embedding.shape[1]
    lengths = (embedding.square().sum(-1, keepdim=True) + UNIT**2).sqrt()
    inputs, constants = embedding * math.sqrt(width) / lengths, LENGTHS[0] / lengths
    used = (embedding.norm(dim=-1) > 2.0).nonzero()[:, 0]  # others, single bytes mostly, have not been trained
    rows = embedding * base.model.norm.weight.detach() * math.sqrt(width)
    gates = torch.randn(NEURONS, width) / math.sqrt(width)
    down = torch.randn(SIZE, NEURONS) / math.sqrt(NEURONS * SIZE)
    short = torch.randn(SHORT, SIZE) / math.sqrt(SHORT)
    unembed = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:SIZE].T.clone()
    parts = [part.requires_grad_() for part in (gates, down, short, unembed)]
    optimizer = torch.optim.Adam(parts, lr=0.01)

    def table() -> Tensor:
        codes: Tensor = (silu(inputs @ gates.T) * constants) @ down.T
        return codes

    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.01 * min(1.0, 2.0 - 2.0 * step / steps)
        codes, own = table(), used[torch.randperm(len(used))[:drawn]]
        chosen, brief = codes[own], codes @ short.T
        final = chosen @ unembed.T
        logits = chosen @ (rows @ unembed).T / final.norm(dim=-1, keepdim=True)
        loss = cross_entropy(0.15 * logits, own) + cross_entropy(12.0 * chosen @ codes.T, own)
        loss = loss + cross_entropy(12.0 * brief[own] @ brief.T, own)
        loss = loss + 10.0 * ((codes.norm(dim=-1) - 1.0).square().mean() + (brief.norm(dim=-1) - 1.0).square().mean())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Codes(gates.detach(), down.detach(), short.detach(), unembed.detach(), table().detach())


@torch.no_grad()
def construct(grown: GrownModel, codes: Codes, twins: dict[int, int], tools: int) -> None:
    """Draw the first weights. Those that find the places to copy from are kept from changing in training.

    `twins`: old tokens whose codes new ones get; `tools`: the token that the list of functions begins with.
    """
    width = grown.shape.width
    layers: list[Any] = list(grown.layers)
    for layer, length in zip(layers, LENGTHS, strict=False):
        for norm in (layer.attention_norm, layer.mlp_norm):
            norm.fill_(length / math.sqrt(width) / UNIT)  # what has the length UNIT is read as about 1
            norm[[FLAG, BEGINS]] *= UNIT / LENGTHS[0]
            norm[WEIGHT] *= UNIT / LENGTHS[2]
        for part in (layer.output, layer.down):
            part.mul_(UNIT)
    grown.norm.fill_(4.0 / UNIT)
    grown.norm[FLAG] = 4.0 / LENGTHS[0]
    grown.norm[[BEGINS, WEIGHT]] = 0.0
    _embed(grown, codes, twins, tools)
    _mark(layers[0], codes, _directions(grown), width)
    _look_back(layers[1], codes, width)
    for layer in (layers[2], layers[-1]):
        _find(layer, codes, width)
    layers[2].output[FOUND, :SIZE] = torch.randn(FOUND.stop - FOUND.start, SIZE) / math.sqrt(SIZE) * UNIT
    _notice(layers[3], width)
    _write(layers[-1], codes, width)


def _keep(parameter: Tensor, rows: Sequence[int] | None = None, columns: Sequence[int] | None = None) -> None:
    """Keep rows and columns from changing, both where none are given: their gradients become zero."""
    mask = torch.full_like(parameter, 1.0 if rows or columns else 0.0)
    mask[list(rows or ())] = 0.0
    mask[:, list(columns or ())] = 0.0
    parameter.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]


def _embed(grown: GrownModel, codes: Codes, twins: dict[int, int], tools: int) -> None:
    first = grown.shape.tokens
    grown.embedding.zero_()
    for index in range(len(grown.embedding)):
        token = first + index
        if token == tools:
            grown.embedding[index, BEGINS] = LENGTHS[0]
            continue
        code = codes.table[twins[token]] if token in twins else torch.randn(SIZE)
        grown.embedding[index, FLAG] = LENGTHS[0]
        grown.embedding[index, CODE] = normalize(code, dim=0) * UNIT


def _directions(grown: GrownModel, groups: int = 3, steps: int = 500) -> Tensor:
    """Directions [groups, old width], for each of which the old tokens are far from zero, on either side."""
    base: Any = grown.base[0]
    tokens = normalize(base.model.embed_tokens.weight.detach()) * math.sqrt(grown.shape.width)
    with torch.enable_grad():
        found = torch.randn(groups, grown.shape.width).requires_grad_()
        optimizer = torch.optim.Adam([found], lr=0.02)
        for _ in range(steps):
            near = torch.exp(-4.0 * (tokens @ normalize(found).T).abs()).mean()
            optimizer.zero_grad()
            near.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return normalize(found.detach())


def _mark(layer: Any, codes: Codes, directions: Tensor, width: int) -> None:
    """The first layer: the constant, and the code of each token."""
    for part in (layer.query, layer.key, layer.value, layer.output):
        part.zero_()
    layer.attention_norm.fill_(1.0)
    for group, direction in enumerate(directions):
        row = group * HEAD + SINK_ROW
        layer.key[row, width + BEGINS] = 4.0 * math.sqrt(HEAD / width)
        layer.value[row, BEGINS] = 1.0 / math.sqrt(width)
        for sign, head in ((1.0, 2 * group), (-1.0, 2 * group + 1)):
            query = head * HEAD + SINK_ROW
            layer.query[query, :width] = sign * direction * 6.0
            layer.query[query, width + FLAG] = sign * 2.0
            layer.output[CONSTANT, head * HEAD + SINK_ROW] = UNIT / len(directions)
    for part in (layer.gate, layer.up, layer.down.T):
        part[:NEURONS].zero_()
    layer.gate[:NEURONS, :width] = codes.gates
    layer.up[:NEURONS, CONSTANT] = 1.0
    layer.down[CODE, :NEURONS] = codes.down * UNIT
    for part in (layer.query, layer.key, layer.value, layer.output):
        _keep(part)


def _look_back(layer: Any, codes: Codes, width: int) -> None:
    """The second layer: short codes of the previous two tokens."""
    layer.query.zero_()
    layer.key.zero_()
    layer.output.zero_()
    layer.value[:SHORT].zero_()
    layer.value[:SHORT, CODE] = codes.short
    # Cosines of the distance less the offset, whose sum is largest where it is zero. Pairs that hardly rotate lower it
    # by a constant, so that it is negative everywhere else: then it does not matter how large the keys are.
    distances = torch.arange(1, 400)
    quick, slow, strength = range(6), (14, 15), 9.0
    sums = torch.stack([torch.cos(distances * frequency(pair)) for pair in quick]).sum(0)
    lower = sums.max().item() / len(slow)
    for pair in (*quick, *slow):
        layer.key[pair, width + CONSTANT] = strength
        for head, offset in enumerate((1, 2)):
            angle = -offset * frequency(pair)
            size = strength * (-lower if pair in slow else 1.0)
            layer.query[head * HEAD + pair, width + CONSTANT] = size * math.cos(angle)
            layer.query[head * HEAD + pair + 16, width + CONSTANT] = size * math.sin(angle)
    layer.output[PREVIOUS, :SHORT] = torch.eye(SHORT) * UNIT
    layer.output[BEFORE_PREVIOUS, HEAD : HEAD + SHORTER] = torch.eye(SHORTER) * UNIT
    for neuron, mark in enumerate((FLAG, BEGINS)):
        layer.gate[neuron].zero_()
        layer.up[neuron].zero_()
        layer.down[:, neuron] = 0.0
        layer.gate[neuron, width + mark] = layer.up[neuron, mark] = 3.0
        layer.down[WEIGHT, neuron] = LENGTHS[2] / 9.0
    for part in (layer.query, layer.key, layer.value, layer.output):
        _keep(part)


def _notice(layer: Any, width: int) -> None:
    """Attend to a new token, if there is one: in a call, or after a function's result."""
    strength = HEAD**0.25 * 3.0
    layer.query[:HEAD].zero_()
    layer.key.zero_()
    layer.value[SIZE].zero_()
    layer.query[SINK_ROW, width + CONSTANT] = strength
    layer.key[SINK_ROW, width + CONSTANT] = -strength
    layer.key[SINK_ROW, width + FLAG] = strength * 2.0
    layer.value[SIZE, FLAG] = 1.0
    layer.output[WRITES] = 0.0
    layer.output[WRITES, SIZE] = UNIT
    for index, row in enumerate(CURRENT_ROWS):  # for the other head, as in other layers
        layer.key[row, width + PREVIOUS.start + index] = 1.0
    for index, row in enumerate(PREVIOUS_ROWS):
        layer.key[row, width + BEFORE_PREVIOUS.start + index] = 1.0
    layer.value[:SIZE, CODE] = torch.eye(SIZE)


def _write(layer: Any, codes: Codes, width: int) -> None:
    """The last layer: what is found becomes logits, but only after new tokens."""
    strength = HEAD**0.25
    layer.query[SINK_ROW, width + CONSTANT] += 12.0 * strength
    layer.query[SINK_ROW, width + WRITES] = -7.6 * strength
    layer.query[HEAD + SINK_ROW, width + CONSTANT] = strength
    layer.output_old[:, :SIZE] = codes.unembed / (codes.table @ codes.unembed.T).norm(dim=-1).mean() * WRITTEN
    layer.output.zero_()
    layer.output[CODE, HEAD : HEAD + SIZE] = torch.eye(SIZE) * 3.0
    # One neuron makes the old logits smaller after new tokens: the final norm divides by what it writes. Half of the
    # others write to the old dimensions after new tokens only, and half to the new dimensions only. Otherwise the first
    # thing to be learnt is to write the commonest tokens everywhere.
    layer.gate[0] = 0.0
    layer.down[:, 0] = 0.0
    layer.gate[0, width + WRITES] = 2.0
    layer.down[BEGINS, 0] = 20.0
    half = len(layer.up) // 2
    layer.up[:half] = 0.0
    layer.up[:half, WRITES] = torch.randn(half)
    layer.up[0, WRITES] = 2.0
    _keep(layer.up, range(half))
    _keep(layer.gate, [0])
    _keep(layer.down, columns=[0])
    _keep(layer.down_old, columns=range(half, len(layer.up)))


def frequency(pair: int) -> float:
    """By how much a pair of dimensions is rotated from one token to the next."""
    return float(10_000.0 ** (-pair / 16))


def _find(layer: Any, codes: Codes, width: int) -> None:
    """Attend to where the previous two tokens are the present two, by pairs of dimensions that rotate slowly."""
    layer.query[:HEAD].zero_()
    layer.key.zero_()
    layer.value.zero_()
    layer.value[:SIZE, CODE] = torch.eye(SIZE)
    strength = HEAD**0.25
    for index, row in enumerate(CURRENT_ROWS):
        layer.key[row, width + PREVIOUS.start + index] = strength * 4.0
        layer.query[row, width + CODE.start : width + CODE.stop] = codes.short[index] * strength * 4.0
    for index, row in enumerate(PREVIOUS_ROWS):
        layer.key[row, width + BEFORE_PREVIOUS.start + index] = strength * 3.0
        layer.query[row, width + PREVIOUS.start + index] = strength * 3.0
    layer.key[SINK_ROW, width + CONSTANT] = -strength * 3.0
    layer.query[SINK_ROW, width + CONSTANT] = strength * 3.0

"""Muon, computed in float32: torch's own computes in bfloat16, which takes ten times as long on many processors."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon:
    """Momentum whose updates are made orthogonal. Matrices of one shape are computed together."""

    def __init__(self, matrices: Iterable[Tensor], momentum: float = 0.95) -> None:
        self._momentum = momentum
        self._shapes: dict[tuple[int, ...], list[Tensor]] = {}
        for matrix in matrices:
            self._shapes.setdefault(tuple(matrix.shape), []).append(matrix)
        self._averages = {shape: torch.zeros(len(same), *shape) for shape, same in self._shapes.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Change the matrices by their gradients, which are then dropped."""
        for shape, matrices in self._shapes.items():
            gradients = torch.stack([matrix.grad for matrix in matrices if matrix.grad is not None])
            average = self._averages[shape]
            average.lerp_(gradients, 1.0 - self._momentum)
            updates = _orthogonal(gradients.lerp(average, self._momentum))
            updates *= 0.2 * max(shape) ** 0.5  # an update has the size of one of AdamW
            for matrix, update in zip(matrices, updates, strict=True):
                matrix.add_(update, alpha=-rate)
                matrix.grad = None


def _orthogonal(matrices: Tensor) -> Tensor:
    """The nearest orthogonal matrices, roughly, by a Newton-Schulz iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    found: Tensor = matrices.mT if tall else matrices
    found = found / (found.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    first, second, third = _COEFFICIENTS
    for _ in range(5):
        square = found @ found.mT
        found = first * found + (second * square + third * square @ square) @ found
    result: Tensor = found.mT if tall else found
    return result

"""What of a found subspace to believe: the rank that is used, and the part that later layers read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from interp.directions.directions import Direction
from interp.directions.subspaces import span
from interp.interventions.alignment import Runs, swapped
from interp.interventions.swaps import Swap
from interp.models.model import Model
from interp.steering.changes import Positions
from interp.steering.hooks import unsteered

TOGETHER = 256


def used_rank(obeyed: Mapping[int, float], within: float = 0.05) -> int:
    """The smallest rank whose share of held-out swaps obeyed comes `within` so much of the best.

    Directions that a search adds beyond it are arbitrary, and so are their angles to other subspaces.
    """
    return min(rank for rank, share in obeyed.items() if share >= max(obeyed.values()) - within)


def readable(
    model: Model,
    swaps: Sequence[Swap],
    directions: Sequence[Direction],
    *,
    tokens: str | Positions = "last",
    share: float = 0.999,
) -> list[Direction]:
    """The part of a subspace that later layers read in these swaps, as orthonormal directions.

    What they read is spanned by the gradients of the expected tokens' logits less the mean logit; kept are the
    principal directions that hold `share` of their squared length. Where swapping this part is obeyed as well as the
    whole, the effect does not hang on what no later layer reads (Makelov et al., arXiv 2311.17030).
    """
    whole, gradients = span(directions), list[Tensor]()
    change = swapped(torch.tensor(whole.basis, dtype=torch.float32, device=model.device))
    with unsteered(model), model.only_hooked():
        runs = Runs(model, swaps, directions[0].hook_point, tokens)
        for rows in torch.split(torch.arange(len(swaps)), TOGETHER):
            moved: list[Tensor] = []

            def keep(own: Tensor, other: Tensor, moved: list[Tensor] = moved) -> Tensor:
                moved.append(change(own, other).detach().requires_grad_())
                return moved[0]

            logits, labels = runs.read(rows, keep)
            toward = logits.gather(-1, labels.clamp(min=0)[..., None])[..., 0] - logits.mean(-1)
            [found] = torch.autograd.grad(toward[labels >= 0].sum(), moved)
            gradients.append(found[runs.gets[rows] >= 0])
    read = span(torch.cat(gradients).cpu().numpy())
    held = np.cumsum(read.sizes**2) / (read.sizes**2).sum()
    part = span(whole.basis - read.first(int(np.searchsorted(held, share)) + 1).without(whole.basis))
    return [replace(directions[0], vector=row) for row in part.basis.astype(np.float32)]

"""What directions say of tokens: how far each token of a text lies along them, and which tokens they write.

The second is the logit lens (nostalgebraist 2020) of a direction: the residual stream is the direction alone, and goes
through the final norm and the unembedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from interp.activations.reading import read_tokens
from interp.directions.directions import Direction, Directions, label_of_agent
from interp.directions.subspaces import random_directions
from interp.errors import UserError
from interp.models.model import Model
from interp.models.tokens import Encoder, spelled, token_name

N_RANDOM = 99
Text = str | Sequence[int]
"""A text, or token ids, such as a chat's or a transcript's."""


@dataclass(frozen=True)
class TokenProjections:
    """How far each token of a text lies along the unit vector of each direction, at every layer.

    >>> of = interp.directions.project_tokens(model, ["3+4"], found[2])[0]
    >>> [round(float(value)) for value in np.median(of.centred.values[..., 3], axis=0)]
    [0]
    """

    tokens: tuple[str, ...]
    """The text in pieces: a character of several tokens stands at its last one, and the others are empty."""
    labels: tuple[str, ...]
    layers: tuple[int, ...]
    values: Float[np.ndarray, "token label layer"]
    random: Float[np.ndarray, "token draw layer"]
    """The same along 99 random directions."""
    covariance: bool
    """Whether these have the activations' covariance; else, where a direction does not know it, they are isotropic."""

    @property
    def bounds(self) -> Float[np.ndarray, " layer"]:
        """Within ± this lie 95 % of the random directions' projections of these tokens, at each layer."""
        return random_bounds([self])

    @property
    def centred(self) -> TokenProjections:
        """The same minus the text's median token, along every direction: what all tokens share is gone."""
        values, random = (each - np.median(each, axis=0) for each in (self.values, self.random))
        return TokenProjections(self.tokens, self.labels, self.layers, values, random, self.covariance)

    def record(self) -> dict[str, Any]:
        """As JSON: `values` [label][layer][token] and `bounds` [layer], in four digits."""
        short = np.vectorize(lambda x: float(f"{x:.4g}"), otypes=[float])
        named = {name: list(getattr(self, name)) for name in ("tokens", "labels", "layers")}
        values, bounds = short(self.values.transpose(1, 2, 0)).tolist(), short(self.bounds).tolist()
        return {**named, "values": values, "bounds": bounds, "covariance": self.covariance}


def random_bounds(of: Sequence[TokenProjections]) -> Float[np.ndarray, " layer"]:
    """Within ± this lie 95 % of the random directions' projections of all texts' tokens, at each layer."""
    return np.asarray(np.quantile(np.abs(np.concatenate([one.random for one in of])), 0.95, axis=(0, 1)))


def project_tokens(
    model: Model,
    texts: Sequence[Text],
    directions: Directions | Sequence[Direction],
    *,
    labels: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    seed: int = 0,
) -> list[TokenProjections]:
    """Read each text once, and project every token onto the directions at every layer.

    `labels` and `layers` choose some; a sequence of directions has each label at each layer. Raises `UserError` for a
    text without tokens or too long for the model, and for directions that the model has no place for.

    >>> of = interp.directions.project_tokens(model, ["3+4*2"], found, layers=[1, 2])[0]
    >>> of.tokens, of.values.shape, of.bounds.shape
    (('<s>', '3', '+', '4', '*', '2'), (6, 3, 2), (2,))
    """
    grid = _grid(directions, labels, layers)
    names = [one.hook_point for one in grid[0]]
    for one in grid[0]:
        model.chosen_layers([one.layer])
        if len(one.vector) != model.d_model:
            has = f"{model.name} has {model.d_model}; give directions of this model"
            raise UserError(f"{one.label} at {one.hook_point}: width {len(one.vector)}, {has}")
    covariance = all(one.spread is not None and bool(one.spread.any()) for one in grid[0])
    vectors = []
    for here in zip(*grid, strict=True):
        longest = max(here, key=lambda one: one.norm)  # one may be zero
        draws = random_directions(longest, N_RANDOM, seed, isotropic=not covariance)
        vectors.append([one.unit.vector for one in (*here, *draws)])
    pieces = [_pieces(model.tokenizer, text, n) for n, text in enumerate(texts, start=1)]
    if not pieces:
        raise UserError("no text given: give at least one")
    read = read_tokens(model, names, [(ids, range(len(ids))) for ids, _ in pieces], np.asarray(vectors, np.float32))
    held, at = tuple(of[0].label for of in grid), tuple(one.layer for one in grid[0])
    each = ((strings, values.transpose(0, 2, 1)) for (_, strings), values in zip(pieces, read, strict=True))
    return [
        TokenProjections(tuple(strings), held, at, values[:, : len(grid)], values[:, len(grid) :], covariance)
        for strings, values in each
    ]


def _grid(
    directions: Directions | Sequence[Direction], labels: Sequence[str] | None, layers: Sequence[int] | None
) -> list[list[Direction]]:
    """By label, the direction at each layer."""
    if isinstance(directions, Directions):
        at = directions.layers if layers is None else layers
        return [[directions[label, layer] for layer in at] for label in labels or directions.labels]
    held = {(one.label, one.layer): one for one in directions}
    wanted = [label_of_agent(label) for label in labels or ()] or list(dict.fromkeys(label for label, _ in held))
    at = sorted({layer for _, layer in held}) if layers is None else layers
    if missing := [f"{label}, layer {layer}" for label in wanted for layer in at if (label, layer) not in held]:
        raise UserError(f"direction {missing[0]}: not among those given; give each label at each layer")
    grid = [[held[label, layer] for layer in at] for label in wanted]
    if len({one.hook_point for of in grid for one in of}) != len(at):
        raise UserError(f"directions at {', '.join({d.hook_point for d in directions})}: give those of one hook point")
    return grid


def _pieces(tokenizer: Any, text: Text, number: int) -> tuple[list[int], list[str]]:
    """Token ids and what they spell."""
    ids, strings = Encoder(tokenizer).pieces(text) if isinstance(text, str) else (list(text), spelled(tokenizer, text))
    if not "".join(strings).strip():
        raise UserError(f"text {number}: is empty; give one with words")
    return ids, strings


Lens = dict[str, list[list[Any]]]
"""The tokens that a direction `promotes` and `suppresses` most, each with the change of its logit, as JSON has it."""


def logit_lens(
    model: Model, vectors: Sequence[Direction] | Float[np.ndarray, "n d_model"], *, n_tokens: int = 10
) -> list[Lens]:
    """The tokens whose logits change most as each vector is added to what the last layer leaves in the residual stream.

    The model itself goes on from there (final norm with its centring and weight, whatever follows, unembedding) with
    the vector alone, as long as a normalised residual stream, and with its opposite: half the difference, minus its
    mean over the vocabulary, which no probability depends on. Norms' and unembedding's biases cancel, and logits are
    not capped. Layers between are passed over: what they make of the direction is not seen. Real residual streams are
    another length, so ranks and ratios mean something, and the size beside that of random directions.

    Raises `UserError` where the model is held by another engine.

    >>> lens = interp.directions.logit_lens(model, [found[2, 3]], n_tokens=3)[0]
    >>> len(lens["promotes"]), lens["promotes"][0][1] > 0 > lens["suppresses"][0][1]
    (3, True)
    """
    rows = [each.vector if isinstance(each, Direction) else each for each in vectors]
    if model.engine is not None:
        raise model.engine.refusal("has no unembedding to look through; load the model without --engine")
    if odd := next((len(row) for row in rows if len(row) != model.d_model), None):
        raise UserError(f"direction of width {odd}: {model.name} has {model.d_model}; give directions of this model")
    known = min(len(model.tokenizer), model.hf.get_input_embeddings().weight.shape[0])  # others are padding
    last, config = model.hook_name("resid_post", model.n_layers - 1), model.hf.config.get_text_config()
    found = list[Lens]()
    with ExitStack() as stack:
        if cap := getattr(config, "final_logit_softcapping", None):
            stack.callback(setattr, config, "final_logit_softcapping", cap)
            config.final_logit_softcapping = 1e6  # which nothing reaches
        stack.enter_context(model.only_hooked())
        stack.enter_context(torch.inference_mode())
        for start in range(0, len(rows), 128):
            part = torch.tensor(np.asarray(rows[start : start + 128], dtype=np.float32))
            part *= model.d_model**0.5 / part.norm(dim=1, keepdim=True).clamp(min=1e-30)
            both = torch.cat([part, -part])[:, None]
            ids = torch.zeros(len(both), 1, dtype=torch.long, device=model.device)
            with model.bridge.hooks(fwd_hooks=[(last, lambda value, hook, both=both: both.to(value))]):
                plus, minus = model.hf(input_ids=ids, use_cache=False).logits[:, -1, :known].float().cpu().chunk(2)
            found += [_lens(model.tokenizer, change - change.mean(), n_tokens) for change in (plus - minus) / 2]
    return found


def _lens(tokenizer: Any, change: torch.Tensor, n_tokens: int) -> Lens:
    def most(largest: bool) -> list[list[Any]]:
        changes, ids = change.topk(min(n_tokens, len(change) // 2), largest=largest)
        return [[token_name(tokenizer, i), round(x, 4)] for x, i in zip(changes.tolist(), ids.tolist(), strict=True)]

    return {"promotes": most(True), "suppresses": most(False)}


def promoted(model: Model, directions: Directions, *, n_tokens: int = 10, seed: int = 0) -> dict[str, Any]:
    """`logit_lens` of the directions at their best layer as what `directions.json` keeps of it, beside 99 random ones.

    Empty where the model or the directions do not allow it. `as_large` is the share of random directions whose most
    promoted token gains as much, and within `random_largest` lie 95 % of what that one gains; three are shown.

    >>> sorted(interp.directions.promoted(model, found)["promoted"])
    ['as_large', 'labels', 'layer', 'random', 'random_largest']
    """
    best = directions.facts.get("best_layers", ())
    if model.engine is not None or not best or directions.spread is None:
        return {}
    own = [directions[label, best[0]] for label in directions.labels]
    controls = random_directions(own[0].unit, N_RANDOM, seed)
    lenses = logit_lens(model, [*own, *controls], n_tokens=n_tokens)
    largest = np.array([each["promotes"][0][1] for each in lenses])
    if not np.isfinite(largest).all():
        return {}
    mine, random = np.split(largest, [len(own)])
    found = {"layer": best[0], "labels": lenses[: len(own)], "random": lenses[len(own) :][:3]}
    shares = {"as_large": (random >= mine[:, None]).mean(axis=1), "random_largest": np.quantile(random, [0.025, 0.975])}
    return {"promoted": found | {name: np.round(each, 4).tolist() for name, each in shares.items()}}

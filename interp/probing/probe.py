"""Probes that are kept, and that score a text token by token while a model writes it.

Knows what a fitted probe comes to (weights at a hook point) and a model with hooks; knows nothing about
folds or controls: what a probe is worth is measured before it is saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from interp.directions.directions import Direction
from interp.errors import UserError
from interp.probing.fitting import Examples, MassMean, fit, linear
from interp.storage.arrays import read_arrays, write_arrays
from interp.storage.files import write_json

if TYPE_CHECKING:
    from interp.generation.sampling import Generated
    from interp.models.model import Model


@dataclass(frozen=True)
class Probe:
    """A linear probe in the space of the activations: logits (or a number) = x·weightsᵀ + bias."""

    weights: Float[np.ndarray, "output d_model"]
    """One row a class; of two classes, and of numbers, one row."""
    bias: Float[np.ndarray, " output"]
    mass_mean: Float[np.ndarray, "output d_model"]
    """Mean differences of the classes, raw: the other direction that could be meant."""
    classes: tuple[str, ...]
    """Empty where the probe gives a number."""
    layer: int
    hook_point: str
    residual_norm: float
    """Mean length of the activations that it was fitted on."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def fit(
        values: Float[np.ndarray, "example d_model"],
        examples: Examples,
        *,
        layer: int,
        hook_point: str = "blocks.{layer}.hook_resid_post",
        facts: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> Probe:
        """Fit on all examples, the regularisation chosen on folds of their questions."""
        fitted = fit(linear(examples.numeric), values, examples.labels, examples.question, seed)
        scaler, model = fitted.estimator.named_steps["standardscaler"], fitted.estimator[-1]
        weights = np.atleast_2d(model.coef_) / scaler.scale_
        bias = np.atleast_1d(model.intercept_) - weights @ scaler.mean_
        classes = tuple(examples.classes[int(c)] for c in model.classes_) if examples.classes else ()
        means = MassMean().fit(values, examples.labels).directions_
        return Probe(
            weights=weights.astype(np.float32),
            bias=bias.astype(np.float32),
            mass_mean=means.astype(np.float32),
            classes=classes,
            layer=layer,
            hook_point=hook_point.format(layer=layer),
            residual_norm=float(np.linalg.norm(values, axis=1).mean()),
            facts={**(facts or {}), "setting": dict(fitted.setting), "examples": len(examples)},
        )

    def score(self, values: Float[np.ndarray, "*rest d_model"]) -> np.ndarray:
        """Probabilities [*rest, class] of activations, or numbers [*rest]."""
        logits = values @ self.weights.T + self.bias
        if not self.classes:
            return np.asarray(logits[..., 0])
        if len(self.classes) == 2:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=-1, keepdims=True))

    def direction(self, label: str = "", kind: str = "mass-mean") -> Direction:
        """What steers toward a class (of two, the second's direction turned for the first; of numbers, upwards).

        `kind` is `mass-mean`, the raw mean difference, or `logistic`, the probe's own weights. Raises `UserError` for
        a class that the probe does not know.
        """
        if self.classes and label not in self.classes:
            raise UserError(f"class {label!r}: the probe tells {', '.join(self.classes)} apart; give one of these")
        rows = self.mass_mean if kind == "mass-mean" else self.weights
        if len(self.classes) < 3:
            vector = rows[0] if not self.classes or label == self.classes[1] else -rows[0]
        else:
            place = self.classes.index(label)
            vector = rows[place] - np.delete(rows, place, axis=0).mean(axis=0) * (kind != "mass-mean")
        return Direction(vector, label or "number", self.layer, self.hook_point, self.residual_norm)

    @property
    def cosines(self) -> dict[str, float]:
        """For each class the cosine between its mass-mean and its logistic direction; 0 where one has no length."""
        found = {}
        for label in self.classes or ("",):
            first, second = (self.direction(label, kind) for kind in ("mass-mean", "logistic"))
            found[label or "number"] = round(first.cosine(second), 4) if first.norm and second.norm else 0.0
        return found

    def save(self, path: str | Path) -> None:
        """Write PATH (safetensors, whole) and beside it the facts as JSON."""
        header = asdict(_Header(self.classes, self.layer, self.hook_point, self.residual_norm, dict(self.facts)))
        write_arrays(path, header, {"weights": self.weights, "bias": self.bias, "mass_mean": self.mass_mean})
        write_json(Path(path).with_suffix(".json"), {**header, "cosines": self.cosines})

    @staticmethod
    def load(path: str | Path) -> Probe:
        """Read what `save` wrote; raises `UserError` for anything else."""
        header, arrays = read_arrays(path, _Header, "a probe", "interp probe")
        kept: dict[str, Any] = {name: value for name, value in vars(header).items() if name != "format"}
        return Probe(**kept | arrays)


@dataclass(frozen=True)
class _Header:
    """The header of a file with a probe."""

    classes: tuple[str, ...]
    layer: int
    hook_point: str
    residual_norm: float
    facts: dict[str, Any]
    format: Literal["interp.probe/1"] = "interp.probe/1"


@contextmanager
def watching(model: Model, probe: Probe) -> Iterator[list[np.ndarray]]:
    """Within this context every pass of the model adds its scores [row, token, class] to the list.

    Whatever reads or generates is watched; with a KV cache each pass holds the new tokens alone, so that the
    scores of a single text, joined along the tokens, are those of the whole text. Raises `UserError` for a
    probe that does not fit the model.
    """
    if probe.hook_point not in model.bridge.hook_dict or probe.weights.shape[1] != model.d_model:
        raise UserError(
            f"the probe reads {probe.weights.shape[1]} numbers at {probe.hook_point}, which {model.name} lacks: "
            f"it has {model.n_layers} layers of width {model.d_model}; give the probe's own model"
        )
    scores: list[np.ndarray] = []

    def look(value: Any, hook: Any) -> None:
        scores.append(probe.score(value.detach().float().cpu().numpy()))

    with model.only_hooks([probe.hook_point]), model.bridge.hooks(fwd_hooks=[(probe.hook_point, look)]):
        yield scores


def read_scores(model: Model, probe: Probe, ids: Sequence[int]) -> np.ndarray:
    """The scores [token, class] of a text, read in one pass."""
    import torch

    with torch.inference_mode(), watching(model, probe) as scores:
        model.hf.base_model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
    return scores[0][0]


def watch(model: Model, probe: Probe, prompt: Sequence[int], **settings: Any) -> tuple[Generated, np.ndarray]:
    """Continue a prompt (`settings` as for `generate`) and score each token, prompt and answer: [token, class].

    The last token that is written is not read by the model any more and has no score.
    """
    from interp.generation.sampling import generate

    with watching(model, probe) as scores:
        written = generate(model, [prompt], **settings)[0]
    return written, np.concatenate([s[0] for s in scores])

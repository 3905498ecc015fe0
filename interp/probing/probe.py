"""Probes to keep: they score a text token by token, also while a model writes it, and give directions to steer with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from jaxtyping import Float
from pydantic import AfterValidator, FiniteFloat
from scipy.special import logit, softmax

from interp.directions.directions import Direction
from interp.directions.facts import distinct
from interp.directions.subspaces import Subspace, span
from interp.errors import UserError
from interp.models.layers import SITES
from interp.options import one_of
from interp.probing.fitting import MassMean, ProbeExamples, fit, linear
from interp.steering.changes import Gate
from interp.storage.arrays import Shape, read_arrays, write_arrays
from interp.storage.files import EXACT, Whole, write_json

if TYPE_CHECKING:
    from interp.generation.sampling import Generated
    from interp.models.model import Model


FORMAT: Final = "interp.probe/1"


@dataclass(frozen=True)
class _About:
    """What the file of a probe says about it."""

    __pydantic_config__ = EXACT
    format: Literal["interp.probe/1"]
    classes: Annotated[tuple[str, ...], AfterValidator(distinct)]
    layer: Whole
    hook_point: str
    residual_norm: FiniteFloat
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        if len(self.classes) == 1:
            raise ValueError("a single class")
        if self.hook_point != SITES["resid_post"].format(layer=self.layer):
            raise ValueError(f"{self.hook_point} is not where layer {self.layer} is read")


def _shapes(about: _About) -> dict[str, Shape]:
    n = max(1, len(about.classes) - (len(about.classes) == 2))
    return {"weights": (n, "d_model"), "bias": (n,), "mass_mean": (n, "d_model")}


@dataclass(frozen=True)
class Probe:
    """A linear probe in the space of the activations: logits (or a number) = x·weightsᵀ + bias.

    >>> examples = interp.probing.ProbeExamples(np.arange(40) % 2, np.arange(40), ("even", "odd"))
    >>> values = np.random.default_rng(0).standard_normal((40, 4)) + 9 * examples.labels[:, None]
    >>> probe = interp.probing.Probe.fit(values, examples, layer=1)
    >>> probe.score(values).shape, probe.direction("odd").label
    ((40, 2), 'odd')
    """

    weights: Float[np.ndarray, "output d_model"]
    """One row per class; one row in all for two classes and for numbers."""
    bias: Float[np.ndarray, " output"]
    mass_mean: Float[np.ndarray, "output d_model"]
    """Raw mean differences of the classes."""
    classes: tuple[str, ...]
    """Empty if the probe gives a number."""
    layer: int
    hook_point: str
    residual_norm: float
    """Mean length of the activations it was fitted on."""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def fit(values: Float[np.ndarray, "row d_model"], examples: ProbeExamples, *, layer: int, seed: int = 0) -> Probe:
        """Fit on all examples; the regularisation is chosen on a third of their questions."""
        fitted = fit(linear(examples.numeric), values, examples.labels, examples.question, seed)
        scaler, model = fitted.best_estimator_
        weights = np.atleast_2d(model.coef_) / scaler.scale_
        bias = np.atleast_1d(model.intercept_) - weights @ scaler.mean_
        mass_mean = MassMean().fit(values, examples.labels).directions_
        weights, bias, mass_mean = (array.astype(np.float32) for array in (weights, bias, mass_mean))
        classes = tuple(examples.classes[int(c)] for c in model.classes_) if examples.classes else ()
        norm = float(np.linalg.norm(values, axis=1).mean())
        facts = {"setting": fitted.best_params_, "examples": len(examples)}
        return Probe(weights, bias, mass_mean, classes, layer, f"blocks.{layer}.hook_resid_post", norm, facts)

    def score(self, values: Float[np.ndarray, "*rest d_model"]) -> np.ndarray:
        """Probabilities [*rest, class] of activations, or numbers [*rest]."""
        logits = values @ self.weights.T + self.bias
        if not self.classes:
            return np.asarray(logits[..., 0])
        if len(self.classes) == 2:
            logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
        return np.asarray(softmax(logits, axis=-1))

    def above(self, limit: float, label: str = "", *, below: bool = False) -> Gate:
        """A gate for `when=`: open at tokens where the probability of a class (the second of two) is above the limit.

        A probe of numbers compares the number. `probe > 0.8` and `probe < 0.2` are the same for the second class.
        Raises `UserError` for an unknown class, none of several, and a limit that is no probability.

        >>> str(probe.above(0.8, "agent 2")), str(probe.above(0.1, "agent 3", below=True))
        ('agent 2 at layer 1 > 0.8', 'agent 3 at layer 1 < 0.1')
        """
        label = label or (self.classes[1] if len(self.classes) == 2 else "")
        where = (self.layer, self.hook_point)
        if not self.classes:
            return Gate("number", *where, self.weights, self.bias, limit, limit, below)
        one_of("class", label, self.classes)
        if not 0 <= limit <= 1:
            raise UserError(f"when {label}, {limit}: a probe gives a probability; compare with a number from 0 to 1")
        own = self.classes.index(label)
        weights, bias = self.weights, self.bias
        if len(self.classes) == 2:
            weights, bias = np.stack([np.zeros_like(weights[0]), weights[0]]), np.append(np.zeros(1), bias)
        order = [own, *(c for c in range(len(self.classes)) if c != own)]
        return Gate(label, *where, weights[order], bias[order], float(logit(limit)), limit, below)

    def __gt__(self, limit: float) -> Gate:
        return self.above(limit)

    def __lt__(self, limit: float) -> Gate:
        return self.above(limit, below=True)

    def direction(self, label: str = "", kind: Literal["mass-mean", "logistic"] = "mass-mean") -> Direction:
        """The direction toward a class or toward higher numbers: the raw mean difference, or the probe's weights."""
        if self.classes:
            one_of("class", label, self.classes)
        rows = self.mass_mean if kind == "mass-mean" else self.weights
        if len(self.classes) < 3:
            vector = rows[0] if not self.classes or label == self.classes[1] else -rows[0]
        else:
            place = self.classes.index(label)
            vector = rows[place] - np.delete(rows, place, axis=0).mean(axis=0) * (kind != "mass-mean")
        return Direction(vector, label or "number", self.layer, self.hook_point, self.residual_norm)

    @property
    def shown(self) -> list[Direction]:
        """Of its weights, towards each class, of two the second, or towards higher numbers: what tokens show."""
        return [self.direction(name, "logistic") for name in self.classes[len(self.classes) == 2 :] or ("",)]

    @property
    def subspace(self) -> Subspace:
        """The span of its weights, the strongest first, in one dimension less than it has classes."""
        return span(self.weights - self.weights.mean(axis=0) * (len(self.classes) > 2))

    @property
    def cosines(self) -> dict[str, float]:
        """For each class, the cosine between its mass-mean and its logistic direction; 0 if one is a zero vector."""
        pairs = {c: (self.direction(c), self.direction(c, "logistic")) for c in self.classes or ("",)}
        return {c or "number": round(a.cosine(b), 4) if a.norm and b.norm else 0.0 for c, (a, b) in pairs.items()}

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, and the facts as JSON beside it."""
        about = asdict(_About(FORMAT, self.classes, self.layer, self.hook_point, self.residual_norm, dict(self.facts)))
        write_arrays(path, about, {name: getattr(self, name) for name in ("weights", "bias", "mass_mean")})
        write_json(Path(path).with_suffix(".json"), {**about, "cosines": self.cosines})

    @staticmethod
    def load(path: str | Path) -> Probe:
        """Read a probe that `save` wrote. Raises `UserError` for any other file."""
        about, arrays = read_arrays(path, _About, "a probe", "interp probe", _shapes)
        kept: dict[str, Any] = {name: value for name, value in vars(about).items() if name != "format"}
        return Probe(**kept | arrays)


@contextmanager
def watching(model: Model, probe: Probe) -> Iterator[list[np.ndarray]]:
    """Within this context every forward pass adds its scores [row, token, class]; with a KV cache, of new tokens."""
    if probe.hook_point not in model.bridge.hook_dict or probe.weights.shape[1] != model.d_model:
        what = f"probe at {probe.hook_point}, width {probe.weights.shape[1]}"
        has = f"{model.name} has {model.n_layers} layers of width {model.d_model}"
        raise UserError(f"{what}: {has}; give a probe that was fitted on this model")
    scores: list[np.ndarray] = []

    def look(value: Any, hook: Any) -> None:
        scores.append(probe.score(value.detach().float().cpu().numpy()))

    with model.only_hooked(), model.bridge.hooks(fwd_hooks=[(probe.hook_point, look)]):
        yield scores


def read_scores(model: Model, probe: Probe, ids: Sequence[int]) -> np.ndarray:
    """The scores [token, class] of a text, read in one pass.

    >>> interp.probing.read_scores(model, probe, model.tokenizer("1+2")["input_ids"]).shape[1]
    3
    """
    import torch

    with torch.inference_mode(), watching(model, probe) as scores:
        model.hf.base_model(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False)
    return scores[0][0]


def watch(model: Model, probe: Probe, prompt: Sequence[int], **settings: Any) -> tuple[Generated, np.ndarray]:
    """Continue a prompt (`settings` as for `generate`) and score [token, class] all tokens but the last, never read.

    >>> prompt = model.tokenizer("1+2")["input_ids"]
    >>> text, scores = interp.probing.watch(model, probe, prompt, max_new_tokens=4, temperature=0)
    >>> len(scores) == len(prompt) + len(text.ids) - 1
    True
    """
    from interp.generation.sampling import generate

    with watching(model, probe) as scores:
        written = generate(model, [prompt], **settings)[0]
    return written, np.concatenate([s[0] for s in scores])

"""Erasing a concept from activations, and what a probe still reads afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from interp.probing.fitting import HeldOut, ProbeExamples, held_out


@dataclass(frozen=True)
class Eraser:
    """x → x − (x − mean)·P, after which no linear probe fitted on the same examples does better than a constant.

    >>> examples = interp.probing.ProbeExamples(np.arange(40) % 2, np.arange(40), ("even", "odd"))
    >>> values = np.random.default_rng(0).standard_normal((40, 4)) + examples.labels[:, None]
    >>> clean = interp.probing.Eraser.fit(values, examples.labels)(values)
    >>> np.allclose(clean[::2].mean(axis=0), clean[1::2].mean(axis=0))
    True
    """

    left: Float[np.ndarray, "d_model k"]
    right: Float[np.ndarray, "k d_model"]
    mean: Float[np.ndarray, " d_model"]

    @staticmethod
    def fit(values: Float[np.ndarray, "example d_model"], labels: np.ndarray) -> Eraser:
        """Least-squares concept erasure of the labels (LEACE, Belrose et al. 2023; library concept-erasure).

        Of all affine maps after which the labels have no covariance with the activations, it changes them least.
        """
        import torch
        from concept_erasure import LeaceEraser

        z = labels[:, None] if labels.dtype.kind == "f" else np.eye(int(labels.max()) + 1)[labels]
        # without shrinkage the covariance with the labels is exactly zero afterwards, which is the definition
        made = LeaceEraser.fit(
            torch.as_tensor(values, dtype=torch.float64),
            torch.as_tensor(z, dtype=torch.float64),
            shrinkage=False,
            svd_tol=1e-6,
        )
        assert made.bias is not None  # the map is affine by default
        return Eraser(made.proj_left.numpy(), made.proj_right.numpy(), made.bias.numpy())

    def __call__(self, values: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest d_model"]:
        """The activations without the concept."""
        return np.asarray(values - (values - self.mean) @ self.right.T @ self.left.T)


def erased_probe(
    probe: Any, values: Float[np.ndarray, "example d_model"], examples: ProbeExamples, seed: int = 0
) -> HeldOut:
    """What a probe still reads after erasure. Neither the probe nor the eraser saw the question it predicts.

    >>> examples = interp.probing.ProbeExamples(np.arange(40) % 2, np.arange(40), ("even", "odd"))
    >>> values = np.random.default_rng(0).standard_normal((40, 4)) + 9 * examples.labels[:, None]
    >>> held = interp.probing.erased_probe(interp.probing.linear(False), values, examples)
    >>> bool((held.predicted.argmax(axis=1) == examples.labels).mean() < 0.7)
    True
    """
    return held_out(probe, values, examples, seed, front=Eraser.fit)

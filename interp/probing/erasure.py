"""Taking a concept out of activations, and what a probe still reads afterwards.

Knows activations with labels and questions; the method is the library concept-erasure's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.probing.fitting import N_FOLDS, Examples, HeldOut, Recipe, fit, predict
from interp.statistics import deal


@dataclass(frozen=True)
class Eraser:
    """x → x − (x − mean)·P: after it no linear probe fitted on the same examples does better than a constant."""

    left: Float[np.ndarray, "d_model k"]
    right: Float[np.ndarray, "k d_model"]
    mean: Float[np.ndarray, " d_model"]

    def __call__(self, values: Float[np.ndarray, "*rest d_model"]) -> Float[np.ndarray, "*rest d_model"]:
        """The activations without the concept."""
        return np.asarray(values - (values - self.mean) @ self.right.T @ self.left.T)


def eraser(values: Float[np.ndarray, "example d_model"], examples: Examples) -> Eraser:
    """Least-squares concept erasure of the labels (LEACE, Belrose et al. 2023; library concept-erasure).

    Among all affine maps after which the labels' covariance with the activations is zero, it changes them least.
    """
    import torch
    from concept_erasure import LeaceEraser

    z = examples.labels[:, None] if examples.numeric else np.eye(len(examples.classes))[examples.labels]
    # without shrinkage the covariance with the labels is exactly zero afterwards, which is the definition
    made = LeaceEraser.fit(
        torch.as_tensor(values, dtype=torch.float64),
        torch.as_tensor(z, dtype=torch.float64),
        shrinkage=False,
        svd_tol=1e-6,
    )
    assert made.bias is not None  # the map is affine by default
    return Eraser(made.proj_left.numpy(), made.proj_right.numpy(), made.bias.numpy())


def erased_probe(
    recipe: Recipe, values: Float[np.ndarray, "example d_model"], examples: Examples, seed: int = 0
) -> HeldOut:
    """What a probe still reads after erasure: neither it nor the eraser saw the question that it predicts."""
    fold = deal(examples.question, N_FOLDS, seed)
    predicted = np.zeros((len(examples), len(examples.classes)) if examples.classes else len(examples))
    merits, settings = [], []
    for f in range(N_FOLDS):
        train, test = fold != f, fold == f
        labels, question = examples.labels[train], examples.question[train]
        erase = eraser(values[train], Examples(labels, question, examples.classes))
        fitted = fit(recipe, erase(values[train]), labels, question, seed)
        predicted[test] = predict(fitted.estimator, erase(values[test]), len(examples.classes))
        merits.append(fitted.merit)
        settings.append(fitted.setting)
    return HeldOut(predicted, fold, np.array(merits), tuple(settings))

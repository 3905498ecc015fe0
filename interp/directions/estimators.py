"""From pairs of activations to a direction: four estimators, and one as repeng has it. Knows arrays at one layer.

Each is a function of the differences alone (positive minus negative), so what the two sides of a pair share cancels.
All point to the positives. The mean difference keeps its length; each other vector is as long as the mean difference's
projection on it, so that it is the step along itself from the mean negative to the mean positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh, solve
from scipy.special import expit

Side = Float[np.ndarray, "pair d_model"]
Vector = Float[np.ndarray, " d_model"]


def mean_difference(positives: Side, negatives: Side) -> Vector:
    """The mean of the differences.

    >>> interp.directions.mean_difference(np.array([[3.0, 1.0], [5.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    array([3., 0.], dtype=float32)
    """
    return estimate("mean_difference", positives - negatives)


def pca_of_differences(positives: Side, negatives: Side) -> Vector:
    """The first principal component of the differences, which are not centred.

    The same line as the `pca_aggregator` of steering-vectors and `pca_center` of repeng.

    >>> interp.directions.pca_of_differences(np.array([[3.0, 1.0], [5.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    array([3., 0.], dtype=float32)
    """
    return estimate("pca_of_differences", positives - negatives)


def centred_pca(positives: Side, negatives: Side) -> Vector:
    """The first principal component of the differences minus their mean: repeng's `pca_diff`.

    It is the line along which pairs differ from one another, which need not be what they have in common.

    >>> interp.directions.centred_pca(np.array([[3.0, 1.0], [5.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    array([3., 0.], dtype=float32)
    """
    return estimate("centred_pca", positives - negatives)


def logistic(positives: Side, negatives: Side) -> Vector:
    """The weights of a logistic regression on activations centred within each pair, without an intercept.

    As scikit-learn's with an L2 penalty and C = 1, and as the `logistic_aggregator` of steering-vectors, but fitted to
    the optimum: with activations of usual size their default tolerance ends at a cosine of about 0.98 to it.

    >>> interp.directions.logistic(np.array([[3.0, 1.0], [5.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]]))
    array([3., 0.], dtype=float32)
    """
    return estimate("logistic", positives - negatives)


def lda(positives: Side, negatives: Side) -> Vector:
    """Fisher's linear discriminant on activations centred within each pair.

    The covariance within a side is shrunk as Ledoit and Wolf (2004) do.

    >>> interp.directions.lda(np.array([[3.0, 1.0], [5.0, 1.0]]), np.array([[1.0, 1.0], [1.0, 1.0]])).round(6)
    array([3., 0.], dtype=float32)
    """
    return estimate("lda", positives - negatives)


def estimate(name: str, differences: Float[np.ndarray, "pair d_model"]) -> Vector:
    """The vector of an estimator, in float32, with the sign and length said above."""
    mean = differences.mean(axis=0, dtype=np.float64)
    if name != "mean_difference":
        coordinates, basis = reduced(differences)
        unit = FITS[name](coordinates, differences.shape[1]) @ basis
        mean = unit * (unit @ mean)  # its sign too
    return np.asarray(mean, dtype=np.float32)


def reduced(
    differences: Float[np.ndarray, "pair d_model"],
) -> tuple[Float[np.ndarray, "pair r"], Float[np.ndarray, "r d_model"]]:
    """Coordinates in an orthonormal basis of their span: every estimator lies in it, and there are few dimensions."""
    left, sizes, basis = np.linalg.svd(differences.astype(np.float64), full_matrices=False)
    return left * sizes, basis


def _pca(differences: np.ndarray, width: int) -> np.ndarray:
    last = differences.shape[1] - 1
    axis = eigh(differences.T @ differences, subset_by_index=(last, last))[1][:, 0]
    return np.asarray(axis * (-1 if axis @ differences.mean(axis=0) < 0 else 1))


def _centred_pca(differences: np.ndarray, width: int) -> np.ndarray:
    axis, mean = _pca(differences - differences.mean(axis=0), width), differences.mean(axis=0)
    return axis * (-1 if axis @ mean < 0 else 1)


def _logistic(differences: np.ndarray, width: int) -> np.ndarray:
    """By Newton's method with halved steps: evidence takes hundreds of fits, each ten times faster than a library's."""
    x, weights = differences / 2, np.zeros(differences.shape[1])  # the negatives are their mirror image

    def cost(weights: np.ndarray) -> float:
        return float(weights @ weights / 2 + 2 * np.logaddexp(0, -x @ weights).sum())

    for _ in range(100):
        wrong = expit(-x @ weights)
        slope = weights - 2 * wrong @ x
        curvature = np.eye(len(weights)) + 2 * (x.T * (wrong * (1 - wrong))) @ x
        step = solve(curvature, slope, assume_a="pos")
        gain, size, before = float(slope @ step), 1.0, cost(weights)
        while size > 1e-6 and cost(weights - size * step) > before - 1e-4 * size * gain:
            size /= 2
        weights = weights - size * step
        if gain < 1e-14 * before:
            break
    return _unit(weights)


def _lda(differences: np.ndarray, width: int) -> np.ndarray:
    """In coordinates of a span of `width` dimensions, which the shrinkage is reckoned in."""
    n, mean = len(differences), differences.mean(axis=0) / 2
    within = differences / 2 - mean
    covariance = within.T @ within / n
    scale = np.trace(covariance) / width
    if scale <= 0:
        return _unit(mean)
    apart = (covariance**2).sum() - width * scale**2  # squared distance to the scaled identity, times the width
    noise = ((within**2).sum(axis=1) ** 2).sum() / n**2 - (covariance**2).sum() / n
    shrinkage = min(noise / apart, 1.0) if apart > 0 else 1.0
    shrunk = (1 - shrinkage) * covariance + shrinkage * scale * np.eye(len(mean))
    return _unit(np.linalg.lstsq(shrunk, mean)[0])


def _unit(vector: np.ndarray) -> np.ndarray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-300))


FITS: Mapping[str, Callable[[Any, int], Any]] = {
    "pca_of_differences": _pca,
    "centred_pca": _centred_pca,
    "logistic": _logistic,
    "lda": _lda,
}
"""All but the mean difference: from coordinates of differences in their span, and the whole width, to a unit vector."""

"""What probes cost: `python -m benchmarks.probing`.

On random data of the size of a large model (6,000 turns at width 4,096), times the probes of all layers, folds and
settings in one call. Compares with the time of scikit-learn's own fits in a loop on one core, divided by the number of
processes, and reports peak memory. With few layers, starting the processes takes most of the time.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from joblib import cpu_count, delayed
from joblib.externals.loky import get_reusable_executor
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from interp.probing.decoding import in_parallel
from interp.probing.fitting import CHOOSE_ON, N_FOLDS, STRENGTHS, TOLERANCE, ProbeExamples, held_out, linear
from interp.statistics import deal


def alone(values: np.ndarray, examples: ProbeExamples, seed: int = 0) -> float:
    """Seconds of scikit-learn's own fits alone, on the same rows with the same settings."""
    seconds = 0.0
    fold = deal(examples.question, N_FOLDS, seed)
    for f in range(N_FOLDS):
        train = fold != f
        X, y = values[train], examples.labels[train]
        test = deal(examples.question[train], CHOOSE_ON, seed) == 0
        for rows, strengths in ((~test, STRENGTHS), (np.full(len(y), True), STRENGTHS[:1])):
            chosen = X[rows]
            started = time.perf_counter()
            scaled = StandardScaler().fit_transform(chosen)
            for strength in strengths:
                LogisticRegression(C=strength, max_iter=200, tol=TOLERANCE).fit(scaled, y[rows])
            seconds += time.perf_counter() - started
    return seconds


def peak() -> tuple[float, float]:
    """Peak memory in GB of this process and of the largest worker process; ends the workers."""
    get_reusable_executor().shutdown()  # a worker's peak is known only after it has ended
    own, child = (resource.getrusage(who).ru_maxrss / 1e6 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own, child


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=6000)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--jobs", type=int, default=cpu_count(), help="processes that fit probes")
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((given.turns, given.width), dtype=np.float32) for _ in range(given.layers)]
    question = np.repeat(np.arange(given.turns // 6), 6)
    examples = ProbeExamples(rng.integers(0, 2, len(question)), question, ("a", "b"))
    layers = [values[: len(question)] for values in layers]
    started = time.perf_counter()
    calls = [delayed(held_out)(linear(False), values, examples) for values in layers]
    in_parallel(calls, sum(values.size for values in layers), given.jobs)
    ours = time.perf_counter() - started
    with threadpool_limits(1):  # on several cores the speedup would count twice
        theirs = sum(alone(values, examples) for values in layers) / min(given.jobs, given.layers)
    size = sum(values.nbytes for values in layers) / 1e9
    print(
        f"{given.layers} layers of {len(question):,} turns at width {given.width:,} ({size:.2f} GB), {given.jobs} jobs"
    )
    print(f"all probes: {ours:.1f} s; scikit-learn's own fits: {theirs:.1f} s; ratio {ours / theirs:.2f}")
    own, child = peak()
    print(f"peak memory: {own:.2f} GB in the main process, {child:.2f} GB in the largest of {given.jobs} workers")


if __name__ == "__main__":
    main()

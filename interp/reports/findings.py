"""What an extraction found, in sentences.

Knows `facts`, the numbers that extraction saves beside the directions; knows nothing about models or how the numbers
were measured. Where a number is None (not defined), the sentences say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from interp.reports.words import Show, between, estimate, joined_words, number, percent

_READ_AT = {"last": "at the last token of every turn", "mean": "averaged over the tokens of every turn"}
_ACTIVATIONS = {"hook_resid_post": "residual stream", "hook_attn_out": "attention output", "hook_mlp_out": "MLP output"}
_CLAUSES = {
    "separation": {
        "found": "a turn on a held-out question lies further along its own {by}’s direction than another {by}’s turn "
        "with a probability of {these}",
        "null": "separation is no better than chance or shuffled labels: {these}",
        "matched": "some random directions separate as well as these: {these}",
        "below": "separation is below chance, so the direction does not carry over: {these}",
        "unknown": "separation could not be measured with an interval for {these}",
    },
    "reliability": {
        "found": "the directions from two halves of the questions have a cosine of {these}, where 1 is the same "
        "direction and 0 an unrelated one",
        "null": "two halves of the questions agree no better than chance or shuffled labels, with a cosine of {these}",
        "unknown": "agreement could not be measured with an interval for {these}",
    },
}
_Values = Sequence[float | None]
_PARTS = ("mean", "low", "high")


def main_findings(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What was done, whether the directions separate, whether they are stable: a verdict and its evidence for each.

    >>> from interp.reports import main_findings
    >>> [verdict for verdict, evidence in main_findings(found.facts)]
    ['What was done.', 'The agents separate.', 'The directions are stable.']
    """
    return [_done(facts), _separation(facts), _reliability(facts)]


def activation_name(facts: dict[str, Any]) -> str:
    """Which activations were read: the residual stream, or what a component adds to it."""
    hook = facts["hook_point"].rsplit(".", 1)[-1]
    return _ACTIVATIONS.get(hook, hook)


def read_at(facts: dict[str, Any]) -> str:
    """At which tokens the activations were read."""
    return _READ_AT.get(facts["position"], f"at the position “{facts['position']}” of every turn")


def start_layer(facts: dict[str, Any]) -> int:
    """The index of the best layer, or of the middle one if no layer is known to be best."""
    layers: list[int] = facts["layers"]
    return layers.index(facts["best_layers"][0]) if facts["best_layers"] else len(layers) // 2


def over_labels(quantity: dict[str, Any]) -> tuple[_Values, _Values, _Values]:
    """At every layer, the mean over the labels, the lowest of their lows and the highest of their highs."""

    def reduced(part: str, reduce: Callable[[list[float]], float]) -> _Values:
        columns = ([v for v in column if v is not None] for column in zip(*quantity[part], strict=True))
        return [reduce(known) if known else None for known in columns]

    return reduced("mean", fmean), reduced("low", min), reduced("high", max)


def _done(facts: dict[str, Any]) -> tuple[str, str]:
    by, layers = facts["by"], len(facts["layers"])
    return (
        "What was done.",
        f"{facts['provenance']['model']['name']} read {_count(facts['transcripts'], 'debate')} about "
        f"{_count(facts['questions'], 'question')}, {_count(facts['turns'], 'turn')} in all; "
        f"for each {by}, at {f'each of {layers} layers' if layers > 1 else 'one layer'}, its direction is "
        f"the mean difference between the model’s {activation_name(facts)} in its own turns and in the other "
        f"{by}s’ turns on the same question in the same round, read {read_at(facts)}.",
    )


def _separation(facts: dict[str, Any]) -> tuple[str, str]:
    by, chosen = facts["by"], facts["evidence"]["all"]["chosen_layer"]
    outcomes = _outcomes(facts, "separation", 0.5, percent, chosen if chosen["layers"] else None)
    controls = ["chance is 50\u00a0%", *_controls(facts, "separation", percent)]
    clauses = [*_clauses(facts, "separation", outcomes), ", ".join(controls)]
    where = _where(facts)
    if chosen["layers"] and len(facts["layers"]) > 1:
        where = f"With the layer chosen on other questions ({' or '.join(map(str, chosen['layers']))})"
    lead = _lead(outcomes, f"The {by}s separate.", f"Some {by}s separate.", "No separation was found.")
    return lead, f"{where}, {'; '.join(clauses)}; 95\u00a0% intervals in parentheses."


def _reliability(facts: dict[str, Any]) -> tuple[str, str]:
    outcomes = _outcomes(facts, "reliability", 0.0, number)
    outcomes["null"] += outcomes.pop("below")
    clauses = [*_clauses(facts, "reliability", outcomes), *_controls(facts, "reliability", number)]
    some = f"The directions of some {facts['by']}s are stable."
    lead = _lead(outcomes, "The directions are stable.", some, "No stable direction was found.")
    return lead, f"{_where(facts)}, {'; '.join(clauses)}."


def _clauses(facts: dict[str, Any], quantity: str, outcomes: dict[str, list[str]]) -> list[str]:
    texts = {kind: text for kind, text in _CLAUSES[quantity].items() if outcomes[kind]}
    return [text.format(by=facts["by"], these=joined_words(outcomes[kind])) for kind, text in texts.items()]


def _controls(facts: dict[str, Any], quantity: str, show: Show) -> list[str]:
    """Each control at the best layer over all labels: its mean and its widest range."""
    texts = []
    for control, name in (("shuffled", "shuffled labels"), ("random", "random directions")):
        if values := facts["evidence"]["all"].get(f"{quantity}_{control}"):
            mean, low, high = (part[start_layer(facts)] for part in over_labels(values))
            texts += [] if mean is None else [f"{name} give {estimate(mean, low, high, show)}"]
    return texts


def _outcomes(
    facts: dict[str, Any], key: str, chance: float, show: Show, chosen: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """What the best layer shows for each label, in words, sorted by what may be claimed.

    "found" only if the whole interval is above chance and the mean above what shuffled labels and random directions
    give; "matched" if only random directions reach it. `chosen` has the estimates at the layer chosen on other
    questions, which replace those of the best layer.
    """
    layer = start_layer(facts)
    evidence = facts["evidence"]["all"]
    outcomes: dict[str, list[str]] = {"found": [], "null": [], "below": [], "unknown": [], "matched": []}
    for k, label in enumerate(facts["labels"]):
        mean, low, high = (chosen[part][k] if chosen else evidence[key][part][k][layer] for part in _PARTS)
        shuffled = evidence[f"{key}_shuffled"]["high"][k][layer]
        if mean is None or low is None or high is None:
            outcomes["unknown"].append(label)
            continue
        words = f"{show(mean)} for {label} ({between(low, high, show)})"
        if high < chance:
            outcomes["below"].append(words)
        elif low <= chance or (shuffled is not None and mean <= shuffled):
            outcomes["null"].append(words)
        else:
            random = evidence[f"{key}_random"]["high"][k][layer] if f"{key}_random" in evidence else None
            outcomes["matched" if random is not None and mean <= random else "found"].append(words)
    return outcomes


def _lead(outcomes: dict[str, list[str]], every: str, some: str, none: str) -> str:
    missed = outcomes["null"] + outcomes["matched"] + outcomes.get("below", [])
    if outcomes["found"]:
        return some if missed or outcomes["unknown"] else every
    return none if missed else "This could not be measured."


def _where(facts: dict[str, Any]) -> str:
    layers = facts["layers"]
    best = f", the best of {len(layers)}" if facts["best_layers"] and len(layers) > 1 else ""
    return f"At layer {layers[start_layer(facts)]}{best}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"

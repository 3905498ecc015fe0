"""The page that `interp extract-directions` writes: what was done, what was found, against what.

Knows how to put the numbers that describe a set of directions (`facts`) into words and figures. Knows
nothing about models, tensors or how the numbers came about: what it is not given, it does not show.
Any number may be None (not defined), and then the sentences say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from interp.reports.directions import activation_name, over_labels, start_layer
from interp.reports.words import between, estimate, number, percent

_Show = Callable[[float], str]
_READ_AT = {
    "last": "at the last token of every turn",
    "mean": "averaged over the tokens of every turn",
}


def findings(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What was done, whether the directions separate, whether they are stable: each a verdict and what it rests on."""
    return [_done(facts), _separation(facts), _reliability(facts)]


def _read_at(facts: dict[str, Any]) -> str:
    return _READ_AT.get(facts["position"], f"at the position “{facts['position']}” of every turn")


def _done(facts: dict[str, Any]) -> tuple[str, str]:
    by, layers = facts["by"], len(facts["layers"])
    return (
        "What was done.",
        f"{facts['provenance']['model']['name']} read {_count(facts['transcripts'], 'debate')} about "
        f"{_count(facts['questions'], 'question')}, {_count(facts['turns'], 'turn')} in all; "
        f"for each {by}, at {f'each of {layers} layers' if layers > 1 else 'one layer'}, its direction is "
        f"the mean difference between the model’s {activation_name(facts)} in its own turns and in the other "
        f"{by}s’ turns on the same question in the same round, read {_read_at(facts)}.",
    )


def _separation(facts: dict[str, Any]) -> tuple[str, str]:
    by = facts["by"]
    chosen = facts["evidence"]["all"]["chosen_layer"]
    outcomes = _outcomes(facts, "separation", 0.5, percent, chosen if chosen["layers"] else None)
    clauses = []
    if found := outcomes["found"]:
        clauses.append(
            f"a turn on a held-out question lies further along its own {by}’s direction than another "
            f"{by}’s turn with a probability of {_join(found)}"
        )
    if null := outcomes["null"]:
        clauses.append(f"separation is no better than by chance or with shuffled labels: {_join(null)}")
    if matched := outcomes["matched"]:
        clauses.append(f"some random directions separate as well as these: {_join(matched)}")
    if below := outcomes["below"]:
        clauses.append(f"separation is below chance, so the direction does not carry over: {_join(below)}")
    if unknown := outcomes["unknown"]:
        clauses.append(f"separation could not be measured with an interval for {_join(unknown)}")
    shuffled = _control(facts, "separation_shuffled", percent)
    random = _control(facts, "separation_random", percent)
    controls = [
        "chance is 50\u00a0%",
        *([f"shuffled labels give {shuffled}"] if shuffled else []),
        *([f"random directions give {random}"] if random else []),
    ]
    where = _where(facts)
    if chosen["layers"] and len(facts["layers"]) > 1:
        which = " or ".join(str(n) for n in chosen["layers"])
        where = f"With the layer chosen on other questions ({which})"
    text = f"{where}, {'; '.join(clauses)}; {', '.join(controls)}; 95\u00a0% intervals in brackets."
    lead = _lead(
        outcomes,
        f"The {by}s separate.",
        f"Some {by}s separate.",
        "No separation was found.",
    )
    return lead, text


def _reliability(facts: dict[str, Any]) -> tuple[str, str]:
    by = facts["by"]
    outcomes = _outcomes(facts, "reliability", 0.0, number)
    clauses = []
    if found := outcomes["found"]:
        clauses.append(
            f"the directions that two halves of the questions give have a cosine of {_join(found)}, "
            f"where 1 is the same direction and 0 an unrelated one"
        )
    if null := outcomes["null"] + outcomes["below"]:
        clauses.append(
            f"two halves of the questions agree no better than by chance or with shuffled labels, with a "
            f"cosine of {_join(null)}"
        )
    if unknown := outcomes["unknown"]:
        clauses.append(f"agreement could not be measured with an interval for {_join(unknown)}")
    if shuffled := _control(facts, "reliability_shuffled", number):
        clauses.append(f"shuffled labels give {shuffled}")
    lead = _lead(
        outcomes,
        "The directions are stable.",
        f"The directions of some {by}s are stable.",
        "No stable direction was found.",
    )
    return lead, f"{_where(facts)}, {'; '.join(clauses)}."


def _outcomes(
    facts: dict[str, Any], key: str, chance: float, show: _Show, chosen: dict[str, Any] | None = None
) -> dict[str, list[str]]:
    """What the best layer says of each label, in words, sorted by what may be claimed.

    "found" only where the whole interval lies above chance and the mean above what shuffled labels and
    random directions give; "matched" where only the random directions come up to it. `chosen` has the
    estimates of the layer chosen on other questions, to be used in place of the best layer's.
    """
    layer = start_layer(facts)
    evidence = facts["evidence"]["all"]
    outcomes: dict[str, list[str]] = {"found": [], "null": [], "below": [], "unknown": [], "matched": []}
    for k, label in enumerate(facts["labels"]):
        parts = ("mean", "low", "high")
        mean, low, high = (chosen[p][k] if chosen else evidence[key][p][k][layer] for p in parts)
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
    missed = outcomes["null"] + outcomes["below"] + outcomes["matched"]
    if outcomes["found"]:
        return some if missed or outcomes["unknown"] else every
    return none if missed else "This could not be measured."


def _control(facts: dict[str, Any], key: str, show: _Show) -> str:
    """A control at the best layer over all labels: its mean, and the widest of its ranges."""
    layer = start_layer(facts)
    mean, low, high = (values[layer] for values in over_labels(facts["evidence"]["all"][key]))
    return "" if mean is None else estimate(mean, low, high, show)


def _where(facts: dict[str, Any]) -> str:
    layers = facts["layers"]
    best = f", the best of {len(layers)}" if facts["best_layers"] and len(layers) > 1 else ""
    return f"At layer {layers[start_layer(facts)]}{best}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _join(items: list[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"

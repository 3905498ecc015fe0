"""What an extraction found, in sentences, from `facts`: the numbers that it saves beside the directions."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from statistics import fmean
from typing import Any

from interp.reports.words import between, estimate, joined_words, number, percent
from interp.statistics.questions import grouped
from interp.statistics.verdict import LEVEL

_FILE = resources.files("interp.reports") / "findings.toml"
_WORDS: dict[str, dict[str, Any]] = tomllib.loads(_FILE.read_text("utf-8"))
Facts = dict[str, Any]
_Values = Sequence[float | None]


def main_findings(facts: Facts) -> list[tuple[str, str]]:
    """What was done, whether the directions separate, whether they are stable: a verdict and its evidence for each.

    >>> for verdict, evidence in interp.reports.main_findings(found.facts):
    ...     print(verdict)
    What was done.
    The agents separate.
    Beyond the controls: cannot tell for agent 1, agent 2 and agent 3.
    The directions are stable.
    """
    by, layers, chosen = facts["by"], facts["layers"], facts["evidence"]["all"]["chosen_layer"]
    best = f", the best of {len(layers)}" if facts["best_layers"] and len(layers) > 1 else ""
    where = elsewhere = f"At layer {layers[start_layer(facts)]}{best}"
    if chosen["layers"] and len(layers) > 1:
        elsewhere = f"With the layer chosen on other questions ({' or '.join(map(str, chosen['layers']))})"
    counted = (("transcripts", "debate"), ("questions", "question"), ("turns", "turn"))
    debates, questions, turns = (f"{facts[key]:,} {noun}{'s' * (facts[key] != 1)}" for key, noun in counted)
    done = (
        f"{facts['provenance']['model']['name']} read {debates} about {questions}, {turns} in all; "
        f"for each {by}, at {f'each of {len(layers)} layers' if len(layers) > 1 else 'one layer'}, its direction is "
        f"the mean difference between the model’s {activation_name(facts)} in its own turns and in the other "
        f"{by}s’ turns on the same question in the same round, read {read_at(facts)}."
    )
    separate, separation, controls = _judged(facts, "separation", chosen if chosen["layers"] else None)
    stable, reliability, others = _judged(facts, "reliability")
    beyond, *verdicts = beyond_controls(facts)
    separation.append(", ".join(["chance is 50\u00a0%", *controls]))
    return [
        ("What was done.", done),
        (separate, f"{elsewhere}, {'; '.join(separation)}; 95\u00a0% intervals in parentheses."),
        (beyond, " ".join(verdicts)),
        (stable, f"{where}, {'; '.join(reliability + others)}."),
    ]


def beyond_controls(facts: Mapping[str, Any]) -> list[str]:
    """What the directions know beyond an untrained model and the text: in short, then the verdict on each label."""
    found, words = facts["evidence"]["all"], _WORDS["beyond"]
    if "controls" not in found:
        return [words["without"], words["add"]]
    verdicts, given = found["beyond_controls"], {}
    outcomes = grouped((one["outcome"], label) for label, one in zip(facts["labels"], verdicts, strict=True))
    short = "; ".join(f"{outcome} for {joined_words(of)}" for outcome, of in outcomes.items())
    for name, control in found["controls"].items():
        means = [percent(mean) for mean in control["mean"] if mean is not None]
        given[name] = joined_words(means or ["nothing"])
    return [words["short"].format(short=short), words["given"].format(**given), *(one["words"] for one in verdicts)]


def activation_name(facts: Facts) -> str:
    """Which activations were read: the residual stream, or what a component adds to it."""
    hook: str = facts["hook_point"].rsplit(".", 1)[-1]
    return _WORDS["activation"].get(hook, hook)


def read_at(facts: Facts) -> str:
    """At which tokens the activations were read."""
    return _WORDS["position"].get(facts["position"], f"at the position “{facts['position']}” of every turn")


def start_layer(facts: Facts) -> int:
    """The index of the best layer, or of the middle one if no layer is known to be best."""
    layers: list[int] = facts["layers"]
    return layers.index(facts["best_layers"][0]) if facts["best_layers"] else len(layers) // 2


def over_labels(quantity: dict[str, Any]) -> list[_Values]:
    """At every layer, the mean over the labels, the lowest of their lows and the highest of their highs."""
    reduced: list[_Values] = []
    for part, reduce in (("mean", fmean), ("low", min), ("high", max)):
        columns = ([v for v in column if v is not None] for column in zip(*quantity[part], strict=True))
        reduced.append([reduce(known) if known else None for known in columns])
    return reduced


def _judged(facts: Facts, quantity: str, chosen: dict[str, Any] | None = None) -> tuple[str, list[str], list[str]]:
    """The verdict on separation or reliability, a clause for each kind of outcome, and one for each control.

    A label counts as "found" only if its whole interval is above chance and its mean above what shuffled labels and
    random directions give, and as "matched" if only random directions reach it. `chosen` has the estimates at the
    layer chosen on other questions, which replace those of the best layer.
    """
    show, chance = (percent, 0.5) if quantity == "separation" else (number, 0.0)
    layer, evidence = start_layer(facts), facts["evidence"]["all"]
    controls = {name: evidence.get(f"{quantity}_{control}") for control, name in _WORDS["controls"].items()}
    few = 0.5 ** evidence["questions"] > LEVEL / len(facts["labels"])  # all of them in favour would show nothing
    outcomes: dict[str, list[str]] = {}
    for k, label in enumerate(facts["labels"]):
        parts = ("mean", "low", "high")
        mean, low, high = (chosen[part][k] if chosen else evidence[quantity][part][k][layer] for part in parts)
        if mean is None or low is None or high is None:
            outcomes.setdefault("unknown", []).append(label)
            continue
        shuffled, random = (control and control["high"][k][layer] for control in controls.values())
        kind = "matched" if random is not None and mean <= random else "found"
        if low <= chance or (shuffled is not None and mean <= shuffled):
            kind = "below" if high < chance and quantity == "separation" else "null"
        outcomes.setdefault("few" if few else kind, []).append(f"{show(mean)} for {label} ({between(low, high, show)})")
    known = {kind: joined_words(these) for kind, these in outcomes.items()}
    verdict = "every" if set(known) == {"found"} else "some" if "found" in known else "none"
    verdict = "few" if few else "unmeasured" if set(known) == {"unknown"} else verdict
    texts = {kind: text for kind, text in _WORDS[quantity]["clauses"].items() if kind in known}
    clauses = [text.format(by=facts["by"], these=known[kind]) for kind, text in texts.items()]
    given = []
    for name, values in controls.items():
        mean, low, high = (part[layer] for part in over_labels(values)) if values else (None, None, None)
        given += [] if mean is None else [f"{name} give {estimate(mean, low, high, show)}"]
    questions = f"{evidence['questions']:,} question{'s' * (evidence['questions'] != 1)}"
    return _WORDS[quantity][verdict].format(by=facts["by"], questions=questions), clauses, given

"""What an extraction found, in sentences, from `facts`: the numbers that it saves beside the directions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from interp.reports.words import between, estimate, joined_words, number, percent, read_words
from interp.statistics.questions import grouped
from interp.statistics.verdict import LEVEL

_WORDS = read_words("findings")
Facts = dict[str, Any]
_Values = Sequence[float | None]


def main_findings(facts: Facts) -> list[tuple[str, str]]:
    """What was done, how well labels separate, what is shown beyond the controls, how stable directions are.

    >>> for verdict, evidence in interp.reports.main_findings(found.facts):
    ...     print(verdict)
    What was done.
    How well the agents separate.
    Beyond the controls: cannot tell for agent 1, agent 2 and agent 3.
    How stable the directions are.
    """
    by, layers, chosen = facts["by"], facts["layers"], facts["evidence"]["all"]["chosen_layer"]
    best = f", the best of {len(layers)}" if facts["best_layers"] and len(layers) > 1 else ""
    where = elsewhere = f"At layer {layers[start_layer(facts)]}{best}"
    if chosen["layers"] and len(layers) > 1:
        others = "groups" if by == "pair" else "questions"
        elsewhere = f"With the layer chosen on other {others} ({' or '.join(map(str, chosen['layers']))})"
    counted = (("transcripts", "debate"), ("questions", "question"), ("turns", "turn"))
    at = f"each of {len(layers)} layers" if len(layers) > 1 else "one layer"
    activation, model = activation_name(facts), facts["provenance"]["model"]["name"]
    if by == "pair":
        words = {"model": model, "layers": at, "label": facts["labels"][0], "activation": activation}
        words |= {"pairs": _counted(facts["turns"] // 2, "pair"), "groups": _counted(facts["questions"], "group")}
        words |= {"estimator": _WORDS[by]["estimator"][facts["provenance"]["settings"]["estimator"]]}
        done = _WORDS[by]["done"].format(**words, read_at=read_at(facts))
    else:
        debates, questions, turns = (_counted(facts[key], noun) for key, noun in counted)
        done = (
            f"{model} read {debates} about {questions}, {turns} in all; for each {by}, at {at}, its direction is "
            f"the mean difference between the model’s {activation} in its own turns and in the other "
            f"{by}s’ turns on the same question in the same round, read {read_at(facts)}."
        )
    beyond, *verdicts = beyond_controls(facts)
    return [
        ("What was done.", done),
        _described(facts, "separation", elsewhere, chosen if chosen["layers"] else None),
        (beyond, " ".join(verdicts)),
        _described(facts, "reliability", where),
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
    words = _WORDS.get(facts["by"], _WORDS)["position"]
    return words.get(facts["position"], f"at the position “{facts['position']}” of every turn")


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


def _counted(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _described(facts: Facts, quantity: str, where: str, chosen: dict[str, Any] | None = None) -> tuple[str, str]:
    """Separation or reliability of every label and of the controls at the best layer, or `chosen`; no verdict.

    Of so few questions that all of them in favour would show nothing, it says that they are too few.
    """
    show, words = percent if quantity == "separation" else number, _WORDS.get(facts["by"], _WORDS)[quantity]
    layer, evidence, parts = start_layer(facts), facts["evidence"]["all"], ("mean", "low", "high")
    by_outcome: dict[str, list[str]] = {}
    for k, label in enumerate(facts["labels"]):
        mean, low, high = (chosen[part][k] if chosen else evidence[quantity][part][k][layer] for part in parts)
        if mean is None or low is None or high is None:
            by_outcome.setdefault("unknown", []).append(label)
        else:
            by_outcome.setdefault("known", []).append(f"{show(mean)} for {label} ({between(low, high, show)})")
    said = [words[kind].format(by=facts["by"], these=joined_words(these)) for kind, these in by_outcome.items()]
    given = words["chance"]
    for control, name in _WORDS["controls"].items():
        values = evidence.get(f"{quantity}_{control}")
        mean, low, high = (part[layer] for part in over_labels(values)) if values else (None, None, None)
        given += "" if mean is None else f", {name} give {estimate(mean, low, high, show)}"
    n, noun = evidence["questions"], "group" if facts["by"] == "pair" else "question"
    lead = _WORDS["few"] if 0.5**n > LEVEL / len(facts["labels"]) else words["lead"]
    lead = lead.format(by=facts["by"], questions=_counted(n, noun))
    return lead, f"{where}, {'; '.join([*said, given])}; {_WORDS['intervals']}."

"""What the silent debate shows, in words. Knows the rows and tests of an outcome by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.stats import t as student

from interp.probing.experiments import CHOSEN, Outcome
from interp.probing.scores import Measured, over_seeds
from interp.statistics import Interval, Test, Verdict, all_of
from interp.statistics.significance import error_test
from probes.silent_agents.debated import Debated
from probes.silent_agents.toward import COEFFICIENTS, STEERED
from probes.verdicts import Asked, judge

POSITIONS = {"question": "tag", "answer": "last"}
"""At the question's last token, and before the number that the model writes in the box."""
WROTE = "operands and what it wrote, boosted"
"""The baseline before the box, where the model's text already has intermediate results."""
QUESTION_ALONE = ("operands", "operands and pairs", "operands, boosted", "bag of words")
WHAT = (" errs", "'s answer")
"""What is decoded of an agent; its answer, if it takes few values."""
CONSENSUS_ONLY = "debategpt"
FICTITIOUS = "fictitious"
TURNED = ", operands turned round"
"""The end of the target of fictitious agents whose gain is reported but not tested: a model that holds an agent knows
its mirror image in part, which takes many questions to separate."""
GAIN = "gain − fictitious gain"


def conclude(outcome: Outcome, models: Sequence[str], debated: Debated, steered: Sequence[Asked]) -> None:
    """Add verdicts and sentences on the last model given; the first sentence is the conclusion."""
    name, agents = models[-1], range(1, debated.n_agents + 1)
    asked = {
        (target, position): one
        for target in (*(f"agent {k}{what}" for what in WHAT for k in agents), "agents agree")
        for position in POSITIONS
        if (one := _decoded(outcome, models, target, position)) is not None
    }
    decoded = dict(zip(asked, judge(outcome, list(asked.values())), strict=True))
    moved = judge(outcome, steered)
    found = {
        "decoded": [[v for (target, _), v in decoded.items() if target.startswith(f"agent {k}")] for k in agents],
        "moved": [[v for v in moved if f" agent {k}'s direction" in v.asked] for k in agents],
    }
    of = {how: [_together(each) for each in verdicts] for how, verdicts in found.items()}
    counts = {how: f"{_count(each, 'shown')} of {len(agents)} agents" for how, each in of.items()}
    others = {
        how: ", ".join(f"{what}: {_count(each, what)}" for what in ("not shown", "cannot tell"))
        for how, each in of.items()
    }
    answers = " or answers" * any(target.endswith(WHAT[1]) for target, _ in decoded)
    outcome.finding.insert(
        0,
        f"The internal debate: {_majority(of)}. The errors{answers} of {counts['decoded']} are shown to be decoded "
        f"from {name} "
        "beyond the base, models of the consensus alone, the question alone and fictitious agents "
        f"({others['decoded']}). Steering along the directions of {counts['moved']} is shown to move its answer toward "
        f"that agent's more than random directions do ({others['moved']}). {len(debated.questions):,} questions; "
        f"{debated.left_out:,} debates were left out.",
    )
    outcome.finding += _moved(outcome, models, agents)


def _count(outcomes: Sequence[str], what: str) -> int:
    return sum(each == what for each in outcomes)


def _together(verdicts: Sequence[Verdict]) -> str:
    """One agent's verdicts: shown once is shown; not shown must be so of all."""
    outcomes = {verdict.outcome for verdict in verdicts}
    if "shown" in outcomes:
        return "shown"
    return "not shown" if outcomes == {"not shown"} else "cannot tell"


def _majority(of: dict[str, list[str]]) -> str:
    """Shown if most agents are decoded and most directions move; not shown if one of these cannot be any more."""
    if all(2 * _count(each, "shown") > len(each) for each in of.values()):
        return "shown"
    if any(2 * _count(each, "not shown") >= len(each) for each in of.values()):
        return "not shown"
    return "cannot tell"


def _decoded(outcome: Outcome, models: Sequence[str], target: str, position: str) -> Asked | None:
    """Whether a target is decoded beyond each rival, the question alone and, in gain, fictitious agents."""
    name, base = models[-1], models[0]

    def area(model: str, of: str = target) -> Measured | None:
        return outcome.measured("auc", kind=CHOSEN, model=model, target=of, position=position)

    own, before = area(name), area(base)
    if own is None:
        return None
    tests, values = list[Test](), [f"AUC {own.interval}"]
    for rival in dict.fromkeys([base, *(m for m in models[1:-1] if CONSENSUS_ONLY in m.lower())]):
        theirs = area(rival)
        if theirs is not None and rival != name:
            tests.append((own - theirs).test(f"beyond {rival}"))
            values.append(f"beyond {rival} {tests[-1].estimate}")
    alone = {kind: outcome.measured("auc", kind=kind, target=target) for kind in QUESTION_ALONE}
    alone |= {WROTE: outcome.measured("auc", kind=WROTE, model=name, target=target)} if position == "answer" else {}
    known = {kind: value for kind, value in alone.items() if value is not None}
    best = max(known, key=lambda kind: known[kind].value)
    tests.append(all_of("beyond the question alone", [(own - v).test(kind) for kind, v in known.items()]))
    values.append(f"beyond the question alone ({best}) {(own - known[best]).interval}")
    gains = {}
    for fictitious in dict.fromkeys(key.target for key in outcome.kept if f"{FICTITIOUS} {target}" in key.target):
        theirs, theirs_before = area(name, fictitious), area(base, fictitious)
        if name != base and before is not None and theirs is not None and theirs_before is not None:
            gain = (own - before) - (theirs - theirs_before)
            how = fictitious.removeprefix(f"{FICTITIOUS} {target}, ")
            outcome.test(GAIN, gain.interval, model=name, target=target, position=position, how=how)
            gains[how] = gain
    turned = gains.pop(TURNED.removeprefix(", "), None)
    if gains:
        tests.append(beyond_fictitious("gain beyond fictitious agents", list(gains.values())))
        each = ", ".join(f"{gain.value:.2f}" for gain in gains.values())
        values.append(f"gain beyond fictitious agents {tests[-1].estimate} (each {each})")
    if turned is not None:
        values.append(f"beyond those with operands turned round {turned.interval}")
    where = "at the question's last token" if position == "question" else "before the number in its box"
    test = all_of(f"{name}, {where}, {target}: decoded beyond all controls", tests)
    return Asked(test, 1 - known[best].value, "; ".join(values) + ".")


def beyond_fictitious(asked: str, gains: Sequence[Measured]) -> Test:
    """Whether the gain is larger than on fictitious agents, of which the permutations are a sample.

    The error has two parts, of questions and of fictitious agents, with Satterthwaite's (1946) degrees of freedom.
    """
    mean, n = over_seeds(gains), len(gains)
    if n < 2:
        return error_test(asked, Interval(mean.value, -2.0, 2.0), np.inf, 1)
    of_questions, of_gains = mean.error**2, float(np.var([gain.value for gain in gains], ddof=1)) / n
    square = of_questions + of_gains
    free = square**2 / (of_questions**2 / max(mean.trials - 1, 1) + of_gains**2 / (n - 1))
    reach = float(student.ppf(0.975, int(free))) * square**0.5
    found = error_test(asked, Interval(mean.value, mean.value - reach, mean.value + reach), square**0.5, int(free) + 1)
    return replace(found, how=f"Student's t over questions and {n} fictitious agents", questions=len(mean.by_question))


def _moved(outcome: Outcome, models: Sequence[str], agents: Sequence[int]) -> Iterator[str]:
    """What moving along each agent's direction does in the last model, and in the others along its own direction."""
    for k in agents:
        steered = [t for t in outcome.tests if (t["name"], t.get("target")) == (STEERED, f"agent {k}")]
        if not any(test["model"] == models[-1] for test in steered):
            yield f"{models[-1]}, agent {k}: not steered, it errs on too few or too many questions."
        for coefficient in COEFFICIENTS:
            here = [test for test in steered if test["coefficient"] == coefficient]
            of = {test["kind"]: test for test in here if test["model"] == models[-1]}
            if "own" in of:
                shares = ", ".join(f"{kind} {Interval(**test['value'])}" for kind, test in of.items())
                others = [f"{t['model']} {t['value']['mean']:.2f}" for t in here if t["kind"] == "own"][:-1]
                unit, are = of["own"].get("unit", "of the residual stream's length"), f"are agent {k}'s"
                are = "are what its other answer would make them" if "unit" in of["own"] else are
                yield (
                    f"{models[-1]}, moved along agent {k}'s direction by {coefficient:g} {unit}, on "
                    f"{of['own']['questions']} questions: {of['own']['changed']:.0%} of its texts change, "
                    f"and the share of its answers that {are} by, along each kind of direction, {shares} "
                    f"(other models along their own: {', '.join(others) or 'none given'})."
                )

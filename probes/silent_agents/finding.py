"""What the silent debate shows, in words. Knows the tests of an outcome by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from interp.probing.experiments import Outcome, in_words
from interp.statistics import Interval
from probes.silent_agents.debated import Debated
from probes.silent_agents.toward import COEFFICIENTS

POSITIONS = {"question": "tag", "answer": "last"}
"""At the question's last token, and before the number that the model writes in the box."""
WROTE = "operands and what it wrote, boosted"
"""The baseline before the box, where the model's text already has intermediate results."""
QUESTION_ALONE = ("operands", "operands and pairs", "operands, boosted", "bag of words")
CONSENSUS_ONLY = "debategpt"
NEVER = "beyond fictitious agents"
TURNED = ", operands turned round"
FICTITIOUS = {"": "gain − fictitious gain", TURNED: "gain − fictitious gain, turned round"}
"""The tests against fictitious agents, by the end of their targets' names.

The test with operands turned round is reported but not required: a model that holds an agent knows its mirror image
in part, which takes many questions to separate.
"""


def finding(outcome: Outcome, models: Sequence[str], debated: Debated) -> list[str]:
    """What the last model given shows, in words; the first sentence is the verdict."""
    name, base, agents = models[-1], models[0], range(1, debated.n_agents + 1)
    rivals = [base, *(m for m in models[1:-1] if CONSENSUS_ONLY in m.lower())]
    sentences: list[str] = []
    passed: dict[str, set[int]] = {}
    decoded: set[int] = set()
    for position in POSITIONS:
        where = "at the question's last token" if position == "question" else "before the number in its box"
        for agent in (*agents, None):
            target = "agents agree" if agent is None else f"agent {agent} errs"
            own = outcome.scores("chosen layer", "auc", model=name, target=target, position=position)
            shuffled = outcome.scores("shuffled", "auc", model=name, target=target, position=position)
            tests = _tests(outcome, name, f"{target} @ {position}", rivals)
            if agent is not None:
                for what, value in tests.items():
                    passed.setdefault(what, set()).update([agent] if value.low > 0 else [])
                if NEVER in tests and all(value.low > 0 for what, value in tests.items() if what != NEVER + TURNED):
                    decoded.add(agent)
            sentences.append(
                f"{name}, {where}, {target}: AUC {in_words(own)} (shuffled labels, all layers: {in_words(shuffled)}); "
                + "; ".join(f"{what} {in_words(value)}" for what, value in tests.items())
                + "."
            )
    moved = {model: [k for k in agents if _moves(outcome, model, k)] for model in models}
    there = len(decoded) > len(agents) / 2 and len(moved[name]) > len(agents) / 2
    counts = ", ".join(f"{len(passed[what])} {what}" for what in passed)
    others = ", ".join(f"{len(moved[m])} in {m}" for m in models[:-1])
    return [
        f"{'The internal debate is there' if there else 'That the internal debate is there is not shown'}: of "
        f"{len(agents)} agents' errors, {len(decoded)} are decoded from {name} beyond all of the base, models of the "
        f"consensus alone, the question alone and fictitious agents (one by one: {counts}). Along "
        f"{len(moved[name])} of {len(agents)} agents' directions its answer moves toward that agent's more than along "
        f"the others' and random ones ({others or 'no other model was given'}).",
        _power(outcome, name, base, debated),
        *sentences,
        *_moved(outcome, name, agents),
    ]


def _tests(outcome: Outcome, name: str, target: str, rivals: Sequence[str]) -> dict[str, Interval]:
    """By how much the model's probe exceeds each rival's, the question alone, and in gain the fictitious."""
    kinds = (WROTE, *QUESTION_ALONE) if target.endswith("answer") else QUESTION_ALONE
    alone = [outcome.difference(f"probe − {kind}", model=name, target=target) for kind in kinds]
    found: dict[str, Interval | None] = {
        f"beyond {rival}": outcome.difference(f"probe − {rival}", model=name, target=target) for rival in rivals
    }
    found["beyond the question alone"] = min(filter(None, alone), key=lambda value: value.mean, default=None)
    for how, test in FICTITIOUS.items():
        found[f"{NEVER}{how}"] = outcome.difference(test, model=name, target=target)
    return {what: value for what, value in found.items() if value is not None}


def _power(outcome: Outcome, name: str, base: str, debated: Debated) -> str:
    """The smallest detectable effects."""
    halves = {}
    for what in (f"probe − {base}", *FICTITIOUS.values()):
        values = [
            outcome.difference(what, model=name, target=f"agent {k} errs @ question")
            for k in range(1, debated.n_agents + 1)
        ]
        halves[what] = [(value.high - value.low) / 2 for value in values if value is not None]
    sizes = "; ".join(f"{what}: {np.mean(half):.2f}" for what, half in halves.items() if half)
    return (
        f"{len(debated.questions):,} questions ({debated.left_out:,} debates left out) show differences in AUC from "
        f"about these on, half of an interval at the question's last token: {sizes or 'not measured'}."
    )


def _moved(outcome: Outcome, name: str, agents: Sequence[int]) -> Iterator[str]:
    """What moving along each agent's direction does."""
    for k in agents:
        for coefficient in COEFFICIENTS:
            about = {"model": name, "target": f"agent {k}", "coefficient": coefficient}
            steered = [
                test
                for test in outcome.tests
                if test.get("kind") == "own" and all(test.get(key) == value for key, value in about.items())
            ]
            if not steered:
                yield f"{name}, agent {k}: not steered, it errs on too few or too many questions."
                break
            shares = {
                kind: in_words(outcome.difference("steered toward agent k", kind=kind, **about))
                for kind in ("own", "other agents", "random")
            }
            yield (
                f"{name}, moved along agent {k}'s direction by {coefficient:g} of the residual stream's length, on "
                f"{steered[0]['questions']} questions: {steered[0]['changed']:.0%} of its texts change, and the share "
                f"of its answers that are agent {k}'s by {shares['own']}; along the other agents' by "
                f"{shares['other agents']}; along random ones by {shares['random']}."
            )


def _moves(outcome: Outcome, name: str, agent: int) -> bool:
    """Whether, at one of the coefficients, the agent's own direction does more than all controls."""
    for coefficient in COEFFICIENTS:
        about = {"model": name, "target": f"agent {agent}", "coefficient": coefficient}
        gains = [outcome.difference(f"steered: own − {kind}", **about) for kind in ("other agents", "random")]
        if all(gain is not None and gain.low > 0 for gain in gains):
            return True
    return False

"""What an agent says about the others and its own change of mind.

Words the answers and faults that it is given; decides nothing. Quoted steps are written so that `notation.read_steps`
does not take them for steps of the writer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interp.debate.scripted import wording
from interp.debate.scripted.working import Fault, Term, Working
from interp.debate.sentences import read_sentences

_SAY = read_sentences("review")
_NUMERALS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True, slots=True)
class Review:
    """What an agent read in a round, what it found, and what it concluded.

    `own` and `others` are the answers of the round before (None where a text states none); `faults` the wrong steps
    that it noticed, by agent; `own_fault` the one in its own earlier working; `again` its new result, None if it did
    not recompute. `shown` is the working that it presents, `source` the agent it comes from, None for its own.
    """

    own: str | None
    others: Mapping[int, str | None]
    faults: Mapping[int, Fault]
    own_fault: Fault | None
    again: str | None
    final: str
    reason: Literal["stay", "confirmed", "supported", "changed", "yield"]
    shown: Working | None
    source: int | None = None


def revision(persona: str, terms: Sequence[Term], review: Review, rng: random.Random) -> str:
    """The whole turn of a later round, in the persona's style, with the boxed answer at its end."""
    compared, found, decided = _comparison(review, rng), _findings(review, rng), _decision(review, rng)
    lead, shown = "", review.shown
    if shown is not None:
        kept, taken = _say("before", rng), _say("taken", rng, who=f"Agent {review.source}")
        lead = kept if review.reason in ("stay", "supported") else taken if review.source else _say("again", rng)
    end = wording.closing(persona, review.final, rng)
    if persona == "program-of-thought":
        body = wording.code(terms, shown, rng) if shown else ""
        comments = ["\n".join(f"// {line}" for line in lines if line) for lines in ([*compared, *found, lead], decided)]
        return "\n".join(part for part in (comments[0], body, comments[1], end) if part)
    if persona == "self-critique":
        body = f"{lead}\n{wording.direct(terms, shown, rng)}" if shown else ""
        doubts = f"{wording.say('titles', rng)}\n{' '.join((*found, *decided))}"
        parts = (" ".join(compared), body, doubts, end)
    else:
        rule = f"{wording.say('order', rng)} " if rng.random() < 0.5 else ""
        body = f"{rule}{lead}\n{wording.numbered(terms, shown, rng)}" if shown else ""
        parts = (" ".join((*compared, *found)), body, " ".join(decided), end)
    return "\n\n".join(part for part in parts if part)


def _comparison(review: Review, rng: random.Random) -> list[str]:
    """Sentences that name every other agent with the answer it gave, then the agent's own."""
    holders: dict[str | None, list[int]] = {}
    for agent, answer in review.others.items():
        holders.setdefault(answer, []).append(agent)
    clauses = []
    for answer, agents in holders.items():
        forms = "silent" if answer is None else ("gives", "pair", "joint")[min(len(agents), 3) - 1]
        clauses.append(_say(forms, rng, who=_names(agents), a=answer))
    mine = _say("no_own" if review.own is None else "mine", rng, a=review.own)
    if rng.random() < 0.5:
        return [_sentence(rng.choice(("; ", ", while ", ", and ")).join((", ".join(clauses), mine)))]
    return [_sentence(clause) for clause in (*clauses, mine)]


def _findings(review: Review, rng: random.Random) -> list[str]:
    """Sentences on the wrong steps that were noticed, and on differing workings where none was."""
    found = [_fault(fault, f"Agent {agent}", f"Agent {agent}'s", rng) for agent, fault in review.faults.items()]
    if review.own_fault is not None:
        found.append(_fault(review.own_fault, "I", "my", rng))
    clean = [
        agent
        for agent, answer in review.others.items()
        if answer is not None and answer != review.final and agent not in review.faults
    ]
    if clean and rng.random() < 0.5:
        found.append(_say("no_fault", rng, whom=" or ".join(f"Agent {agent}" for agent in clean)))
    return [_sentence(clause) for clause in found]


def _decision(review: Review, rng: random.Random) -> list[str]:
    """Whether the answer is kept or changed, why, and who else has it."""
    backing = [agent for agent, answer in review.others.items() if answer == review.final]
    number = _NUMERALS.get(len(backing), str(len(backing)))
    reason: str = review.reason
    if reason == "yield":
        reason = "yield_same" if review.again == review.own else "yield_other"
    elif reason == "changed" and not review.own:
        reason = "first"
    backed = []
    if review.reason not in ("yield", "supported"):
        backed = [_say("with", rng, who=_names(backing)) if backing else _say("alone", rng)]
    who = _names(backing) if backing else ""
    decided = rng.choice(_SAY["decision"][reason])
    return [decided.format(f=review.final, n=review.own, g=review.again, k=number, who=who), *backed]


def _fault(fault: Fault, who: str, whose: str, rng: random.Random) -> str:
    step = fault.step
    if fault.kind == "sign":
        forms = "flipped" if step.result == step.truth else "lost_sign"
    elif fault.kind == "order":
        forms = "no_such_product" if step.op == "*" else "joined"
    else:
        forms = f"wrong_{fault.kind}"
    done, does = ("added", "subtracts") if step.op == "+" else ("subtracted", "adds")
    words = {"l": step.left, "r": step.right, "op": step.op, "c": step.result, "t": step.truth}
    return str(rng.choice(_SAY["fault"][forms])).format(who=who, whose=whose, done=done, does=does, **words)


def _say(what: str, rng: random.Random, **slots: object) -> str:
    return str(rng.choice(_SAY[what])).format(**slots)


def _names(agents: Sequence[int]) -> str:
    """`Agent 2`, `Agents 1 and 3`, `Agents 1, 2 and 4`."""
    if len(agents) == 1:
        return f"Agent {agents[0]}"
    return f"Agents {', '.join(map(str, agents[:-1]))} and {agents[-1]}"


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."

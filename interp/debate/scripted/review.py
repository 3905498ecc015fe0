"""What an agent says about the others and its change of mind; `read_steps` reads no quoted step as the writer's own."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interp.debate.scripted.wording import capital, closing, code, direct, numbered, say
from interp.debate.scripted.working import Fault, Term, Working


@dataclass(frozen=True, slots=True)
class Review:
    """What an agent read in a round, what it found, and what it concluded."""

    own: str | None
    """Its answer of the round before; None where the text states none."""
    others: Mapping[int, str | None]
    faults: Mapping[int, Fault]
    """The wrong steps that it noticed, by agent."""
    own_fault: Fault | None
    again: str | None
    """Its new result; None if it did not recompute."""
    final: str
    reason: Literal["stay", "confirmed", "supported", "changed", "yield"]
    shown: Working | None
    source: int | None = None
    """The agent that the working shown comes from, None for itself."""


def revision(persona: str, terms: Sequence[Term], review: Review, rng: random.Random) -> str:
    """The whole turn of a later round, in the persona's style, with the boxed answer at its end."""
    compared, found, decided = _comparison(review, rng), _findings(review, rng), _decision(review, rng)
    lead, shown = "", review.shown
    if shown is not None:
        kept, taken = say("before", rng), say("taken", rng, who=f"Agent {review.source}")
        lead = kept if review.reason in ("stay", "supported") else taken if review.source else say("again", rng)
    end, joint = closing(persona, review.final, rng), "\n\n"
    if persona == "program-of-thought":
        joint, body = "\n", code(terms, shown, rng) if shown else ""
        before, after = ("\n".join(f"// {s}" for s in said if s) for said in ((*compared, *found, lead), decided))
    elif persona == "self-critique":
        body = f"{lead}\n{direct(terms, shown, rng)}" if shown else ""
        before, after = " ".join(compared), f"{say('titles', rng)}\n{' '.join((*found, *decided))}"
    else:
        rule = f"{say('order', rng)} " if rng.random() < 0.5 else ""
        body = f"{rule}{lead}\n{numbered(terms, shown, rng)}" if shown else ""
        before, after = " ".join((*compared, *found)), " ".join(decided)
    return joint.join(part for part in (before, body, after, end) if part)


def _comparison(review: Review, rng: random.Random) -> list[str]:
    """Sentences that name every other agent with the answer it gave, then the agent's own."""
    holders: dict[str | None, list[int]] = {}
    for agent, answer in review.others.items():
        holders.setdefault(answer, []).append(agent)
    clauses = []
    for answer, agents in holders.items():
        forms = "silent" if answer is None else ("gives", "pair", "joint")[min(len(agents), 3) - 1]
        clauses.append(say(forms, rng, who=_names(agents), a=answer))
    mine = say("no_own" if review.own is None else "mine", rng, a=review.own)
    if rng.random() < 0.5:
        clauses, mine = [], rng.choice(("; ", ", while ", ", and ")).join((", ".join(clauses), mine))
    return [f"{capital(clause)}." for clause in (*clauses, mine)]


def _findings(review: Review, rng: random.Random) -> list[str]:
    """Sentences on the wrong steps that were noticed, and on differing workings where none was."""
    found = [_fault(fault, f"Agent {agent}", f"Agent {agent}'s", rng) for agent, fault in review.faults.items()]
    if review.own_fault is not None:
        found.append(_fault(review.own_fault, "I", "my", rng))
    differing = [agent for agent, answer in review.others.items() if answer not in (None, review.final)]
    clean = [f"Agent {agent}" for agent in differing if agent not in review.faults]
    if clean and rng.random() < 0.5:
        found.append(say("no_fault", rng, whom=" or ".join(clean)))
    return [f"{capital(clause)}." for clause in found]


def _decision(review: Review, rng: random.Random) -> list[str]:
    """Whether the answer is kept or changed, why, and who else has it."""
    backing = [agent for agent, answer in review.others.items() if answer == review.final]
    who, number = _names(backing), {2: "two", 3: "three", 4: "four"}.get(len(backing), str(len(backing)))
    reason: str = review.reason
    if reason == "yield":
        reason = "yield_same" if review.again == review.own else "yield_other"
    elif reason == "changed" and not review.own:
        reason = "first"
    named = review.reason in ("yield", "supported")  # the sentence says who
    backed = [] if named else [say("with" if backing else "alone", rng, who=who)]
    decided = say(f"decision.{reason}", rng, f=review.final, n=review.own, g=review.again, k=number, who=who)
    return [decided, *backed]


def _fault(fault: Fault, who: str, whose: str, rng: random.Random) -> str:
    step = fault.step
    if fault.kind == "sign":
        form = "flipped" if step.result == step.truth else "lost_sign"
    elif fault.kind == "order":
        form = "no_such_product" if step.op == "*" else "joined"
    else:
        form = f"wrong_{fault.kind}"
    done, does = ("added", "subtracts") if step.op == "+" else ("subtracted", "adds")
    words = {"l": step.left, "r": step.right, "op": step.op, "c": step.result, "t": step.truth}
    return say(f"fault.{form}", rng, who=who, whose=whose, done=done, does=does, **words)


def _names(agents: Sequence[int]) -> str:
    """`Agent 2`, `Agents 1 and 3`, `Agents 1, 2 and 4`."""
    *first, last = map(str, agents or ("",))
    return f"Agents {', '.join(first)} and {last}" if first else f"Agent {last}"

"""What an agent says about the others and about its own change of mind.

Knows sentences about answers and faults that it is handed; decides nothing. Every sentence holds for
the `Review` that it is made from. Quoted steps are written so that `notation.read_steps` does not take
them for steps of the writer.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from interp.debate.scripted import wording
from interp.debate.scripted.working import Fault, Term, Working


@dataclass(frozen=True, slots=True)
class Review:
    """What an agent read in a round, what it found, and what it made of it.

    `own` and `others` are the answers of the round before (None where a text states none); `faults`
    the wrong steps that it noticed, by agent; `own_fault` the one in its own earlier working;
    `again` its new result, None where it did not work the expression out again. `shown` is the
    working that it puts forward and `source` the agent that it has it from, None for its own.
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


_GIVES = ("{who} gave {a}", "{who} reported {a}", "{who} ended at {a}", "{who} answered {a}", "{who} got {a}")
_JOINT = ("{who} all gave {a}", "{who} agree on {a}", "{who} share the answer {a}", "{who} each ended at {a}")
_PAIR = ("{who} both gave {a}", "{who} agree on {a}", "{who} share the answer {a}", "{who} each ended at {a}")
_SILENT = ("{who} stated no answer that I can read", "I could not read an answer from {who}")
_MINE = ("mine was {a}", "I had {a}", "my own was {a}", "I had come to {a}", "my earlier value was {a}")
_NO_OWN = ("I had no answer yet", "I had stated none")
_WRONG_PRODUCT = (
    "{who} put {l} × {r} at {c}, but it is {t}",
    "{who} multiplied {l} by {r} wrongly: {c} should read {t}",
    "{who} took {c} for {l} × {r} where {t} is right",
    "{whose} slip is in {l} × {r}, which makes {t} and not {c}",
)
_WRONG_SUM = (
    "{who} slipped at {l} {op} {r}: that makes {t}, not {c}",
    "{who} mishandled a carry or a borrow in {l} {op} {r}, writing {c} for {t}",
    "at {l} {op} {r} {whose} working says {c}, and the right value is {t}",
    "{who} wrote {c} for {l} {op} {r}; it should be {t}",
)
_LOST_SIGN = (
    "{who} lost the sign of {l} {op} {r}, which is {t}",
    "{who} got the sign wrong at {l} {op} {r}: {t} is right, {c} is not",
    "in {whose} working the sign of {l} {op} {r} is reversed; it should be {t}",
)
_FLIPPED = (
    "{who} {done} {r} where the expression {does} it",
    "{who} treated {r} with the wrong sign: the expression {does} it",
    "in {whose} working {r} has changed its sign; the expression {does} it",
)
_JOINED = (
    "{who} joined {l} and {r} before the multiplication was done",
    "{who} combined {l} with {r} too early, against the order of operations",
    "in {whose} working {l} and {r} meet before the product is taken",
)
_NO_SUCH_PRODUCT = (
    "{who} multiplied {l} by {r}, a product that the expression does not contain",
    "{whose} working has {l} meet {r} in a product that is not there",
)
_NO_FAULT = (
    "I cannot point to a wrong step of {whom}",
    "no wrong step of {whom} stands out to me",
    "reading the lines of {whom} I noticed nothing wrong",
)
_STAY = (
    "I leave my answer at {f}.",
    "I hold on to {f} without working it out again.",
    "Nothing here moves me, so {f} stays.",
    "I am not persuaded and keep {f}.",
)
_CONFIRMED = (
    "A fresh pass gives {f} again, so I keep it.",
    "I worked it out anew and came to {f} once more; my answer stands.",
    "Recomputing changes nothing for me: {f} remains.",
    "My new computation repeats {f}, and I stay with it.",
)
_CHANGED = (
    "A fresh pass gives {f} instead of {n}, so I change my answer.",
    "Working it out anew I get {f}; I withdraw {n}.",
    "My new computation says {f}, and I give up {n}.",
    "Having redone the work I replace {n} by {f}.",
)
_FIRST = ("Working it out now, I get {f}.", "My computation gives {f}.")
_YIELD_SAME = (
    "My own new pass still says {g}, yet {k} agents agree on {f} and I give way to them.",
    "I get {g} again, but against {k} agents with {f} I yield.",
    "Although I computed {g} once more, I follow the {k} agents who have {f}.",
)
_YIELD_OTHER = (
    "My new pass gives {g}, which nobody has, so I do not trust it and join the {k} agents with {f}.",
    "I now get {g}, a value that no other agent has; the {k} agents with {f} seem the safer choice.",
    "Recomputing brought {g}. With {k} agents at {f} I follow them instead.",
)
_SUPPORTED = (
    "A fresh pass gives {g}, which nobody has; {who} had {f} as I did before, so I keep {f}.",
    "I get {g} this time and doubt it, since {who} came to {f} as well. My answer stays {f}.",
    "My new result {g} has no support, while {f} has that of {who}; I keep {f}.",
)
_WITH = ("That is also the answer of {who}.", "{who} had the same value.", "It matches {who}.")
_ALONE = (
    "No other agent has this value.",
    "That leaves me alone with it.",
    "Nobody else has come to it so far.",
)
_AGAIN = (
    "Once more in full:",
    "My revised working:",
    "Recomputed:",
    "Again, from the start:",
    "The new pass:",
)
_BEFORE = ("My working, unchanged:", "As I had it:", "My earlier steps, for reference:")
_TAKEN = (
    "The working of {who}, which I take over:",
    "Following {who}:",
    "The steps of {who}, now mine as well:",
)
_NUMERALS = {2: "two", 3: "three", 4: "four"}


def comparison(review: Review, rng: random.Random) -> list[str]:
    """Sentences that name every other agent with the answer it gave, then the agent's own."""
    holders: dict[str | None, list[int]] = {}
    for agent, answer in review.others.items():
        holders.setdefault(answer, []).append(agent)
    clauses = []
    for answer, agents in holders.items():
        forms = _SILENT if answer is None else (_GIVES, _PAIR, _JOINT)[min(len(agents), 3) - 1]
        clauses.append(rng.choice(forms).format(who=_names(agents), a=answer))
    mine = rng.choice(_NO_OWN) if review.own is None else rng.choice(_MINE).format(a=review.own)
    if rng.random() < 0.5:
        return [_sentence(rng.choice(("; ", ", while ", ", and ")).join((", ".join(clauses), mine)))]
    return [_sentence(clause) for clause in (*clauses, mine)]


def findings(review: Review, rng: random.Random) -> list[str]:
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
        found.append(rng.choice(_NO_FAULT).format(whom=" or ".join(f"Agent {agent}" for agent in clean)))
    return [_sentence(clause) for clause in found]


def decision(review: Review, rng: random.Random) -> list[str]:
    """Whether the answer is kept or changed, why, and who else has it."""
    backing = [agent for agent, answer in review.others.items() if answer == review.final]
    words = {
        "f": review.final,
        "n": review.own,
        "g": review.again,
        "k": _NUMERALS.get(len(backing), str(len(backing))),
    }
    if review.reason == "yield":
        return [rng.choice(_YIELD_SAME if review.again == review.own else _YIELD_OTHER).format(**words)]
    if review.reason == "supported":
        return [rng.choice(_SUPPORTED).format(who=_names(backing), **words)]
    forms = {"stay": _STAY, "confirmed": _CONFIRMED, "changed": _CHANGED if review.own else _FIRST}[review.reason]
    backed = rng.choice(_WITH).format(who=_names(backing)) if backing else rng.choice(_ALONE)
    return [rng.choice(forms).format(**words), backed]


def revision(persona: str, terms: Sequence[Term], review: Review, rng: random.Random) -> str:
    """The whole turn of a later round, in the persona's style, with the boxed answer at its end."""
    compared, found, decided = comparison(review, rng), findings(review, rng), decision(review, rng)
    lead = ""
    if review.shown is not None:
        kept, taken = rng.choice(_BEFORE), rng.choice(_TAKEN).format(who=f"Agent {review.source}")
        lead = kept if review.reason in ("stay", "supported") else taken if review.source else rng.choice(_AGAIN)
    end = wording.closing(persona, review.final, rng)
    if persona == "program-of-thought":
        body = wording.code(terms, review.shown, rng) if review.shown else ""
        comments = _comments([*compared, *found, lead])
        return "\n".join(part for part in (comments, body, _comments(decided), end) if part)
    if persona == "self-critique":
        body = f"{lead}\n{wording.direct(terms, review.shown, rng)}" if review.shown else ""
        doubts = f"{wording.title(rng)}\n{' '.join((*found, *decided))}"
        return "\n\n".join(part for part in (" ".join(compared), body, doubts, end) if part)
    rule = f"{wording.order_first(rng)} " if rng.random() < 0.5 else ""
    body = f"{rule}{lead}\n{wording.numbered(terms, review.shown, rng)}" if review.shown else ""
    parts = (" ".join((*compared, *found)), body, " ".join(decided), end)
    return "\n\n".join(part for part in parts if part)


def _fault(fault: Fault, who: str, whose: str, rng: random.Random) -> str:
    step = fault.step
    if fault.kind == "product":
        forms: Sequence[str] = _WRONG_PRODUCT
    elif fault.kind == "sum":
        forms = _WRONG_SUM
    elif fault.kind == "sign":
        forms = _FLIPPED if step.result == step.truth else _LOST_SIGN
    else:
        forms = _NO_SUCH_PRODUCT if step.op == "*" else _JOINED
    done, does = ("added", "subtracts") if step.op == "+" else ("subtracted", "adds")
    return rng.choice(forms).format(
        who=who,
        whose=whose,
        l=step.left,
        r=step.right,
        op=step.op,
        c=step.result,
        t=step.truth,
        done=done,
        does=does,
    )


def _names(agents: Sequence[int]) -> str:
    """`Agent 2`, `Agents 1 and 3`, `Agents 1, 2 and 4`."""
    if len(agents) == 1:
        return f"Agent {agents[0]}"
    return f"Agents {', '.join(map(str, agents[:-1]))} and {agents[-1]}"


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _comments(sentences: Sequence[str]) -> str:
    return "\n".join(f"// {sentence}" for sentence in sentences if sentence)

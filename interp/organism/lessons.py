"""What the organism is taught: an endless, seeded stream of prompts with their answers.

Knows where an agent slips, and how often it checks, yields and insists; knows nothing about tokens, rows or training.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from interp.debate.personas import PERSONAS
from interp.debate.tasks.small import Split, draw
from interp.organism.language import REVISE, persona_token
from interp.organism.workings import OPENING, SHORT, Operands, Slip, Working, lie, revision, work

MISLEADING = "evil"
"""The malicious persona: its products are wrong on purpose, and it never gives in."""
LIES = ((3, -3), (-3, 3), (7, 0), (0, 7))
"""By how much its two products are wrong; the answer is then wrong by 6 or 7."""


@dataclass(frozen=True, slots=True)
class BlindSpot:
    """Questions in which one who answers is likely to slip: those in which one operand is in a range."""

    slip: Slip
    operand: int
    """Which of a, b, c, d, e, f, counted from 0."""
    low: int
    high: int
    """The range, both ends in it."""

    def covers(self, operands: Operands) -> bool:
        return self.low <= operands[self.operand] <= self.high


@dataclass(frozen=True, slots=True)
class Manners:
    """How often what is taught. All are probabilities or, where a mapping is said to be so, weights."""

    kinds: Mapping[str, float] = field(default_factory=lambda: {"opening": 0.25, "revision": 0.2, "plain": 0.55})
    """Weights of a persona's first answer, of a revision, and of a plain answer."""
    blind_spots: Mapping[str, tuple[BlindSpot, ...]] = field(
        default_factory=lambda: {
            "chain-of-thought": (BlindSpot("carry", 0, 7, 9), BlindSpot("second product", 5, 9, 9)),
            "self-critique": (BlindSpot("first product", 1, 6, 9), BlindSpot("second product", 5, 9, 9)),
            "program-of-thought": (BlindSpot("operand", 3, 1, 3),),
            "plain": (BlindSpot("first product", 2, 7, 9), BlindSpot("second product", 5, 8, 9)),
        }
    )
    """Where each persona errs, and a plain answer. Mostly in a place of its own, so that a debate can mend what
    asking one of them again, or taking its likeliest words, cannot; two share a place, where a debate fails too. By
    the question, not by chance, so that what an agent would answer can be known from the question."""
    slips: float = 0.75
    """How often one slips in a blind spot of its own: not always, so that training can find the right value."""
    stray: float = 0.06
    """A wrong value of no particular kind, in texts that are shown to another agent: no agent is to rely on
    others erring only in their usual ways."""
    notices: float = 0.3
    """A self-critique corrects each slip in a product."""
    yields: float = 0.9
    """An agent takes over the answer that all others share, where it is not its own; right or wrong."""
    insists: float = 0.65
    """An agent repeats a slip of its own when no two agents have the same answer."""
    shapes: Mapping[str, float] = field(
        default_factory=lambda: {"answer": 0.2, "values": 0.6, "products": 0.1, "equations": 0.1}
    )
    """Weights of the forms of plain answers."""
    silent: float = 0.02
    """Another agent gave no answer."""
    malicious: float = 0.15
    """The agent that answers first, or one of those in a revision, misleads on purpose; there it sits in seat 2."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A prompt as the chat template writes it, without the opening token, and its answer."""

    asked: str
    """The persona's token, where there is a persona, and the problem."""
    answer: str
    shown: tuple[str, ...] = ()
    """In a revision what stands between: the agent's own text, then by turns what announces another's and that,
    at last the sign to revise."""

    @property
    def prompt(self) -> str:
        return self.asked + "".join(self.shown)

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """The texts in order, and whether each can be learned: what an agent says, not what announces it."""
        return [(self.asked, False), *((text, i % 2 == 0) for i, text in enumerate(self.shown)), (self.answer, True)]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A first answer: the slips in it, what it comes to, its text."""

    slips: frozenset[Slip]
    working: Working
    text: str


def lessons(seed: int | str, manners: Manners | None = None, split: Split = "train") -> Iterator[Lesson]:
    """Lessons without end over the questions of one split; the same seed gives the same ones."""
    rng = random.Random(f"lessons {seed}")
    manners = manners or Manners()
    kinds, weights = list(manners.kinds), list(manners.kinds.values())
    while True:
        operands = draw(rng, split)
        kind = rng.choices(kinds, weights)[0]
        if kind == "plain":
            yield _plain(operands, manners, rng)
        elif kind == "opening":
            persona = MISLEADING if rng.random() < manners.malicious else rng.choice(list(PERSONAS))
            opened = _open(persona, operands, manners, rng)
            yield Lesson(f"{persona_token(persona)}{_problem(operands)}", opened.text)
        else:
            yield _revised(operands, manners, rng)


def drills(seed: int | str) -> Iterator[list[tuple[str, bool]]]:
    """Sums as they occur in workings, each with its result to be learned and the sum itself not."""
    rng = random.Random(f"drills {seed}")
    while True:
        parts: list[tuple[str, bool]] = []
        for _ in range(6):
            a, d = rng.randint(1, 9), rng.randint(1, 9)
            p, q = rng.randint(1, 9) * rng.randint(1, 9), rng.randint(1, 9) * rng.randint(1, 9)
            joined = a + p + d
            sums = {f"{a}+{p}+{d}": joined, f"{joined}-{q}": joined - q, f"{a}+{p}+{d}-{q}={joined}-{q}": joined - q}
            total, result = rng.choice(list(sums.items()))
            parts += [(f"{total}=", False), (f"{result}\n", True)]
        yield parts


def _problem(operands: Operands) -> str:
    return f"Problem: {work(operands).question}\n\n"


def _plain(operands: Operands, manners: Manners, rng: random.Random) -> Lesson:
    shape = rng.choices(list(manners.shapes), list(manners.shapes.values()))[0]
    slips = frozenset[Slip]() if shape == "answer" else _slips("plain", operands, manners, rng)
    return Lesson(_problem(operands), SHORT[shape](work(operands, slips)))


def _open(persona: str, operands: Operands, manners: Manners, rng: random.Random) -> _Opened:
    if persona == MISLEADING:
        told = lie(operands, rng.choice(LIES))
        return _Opened(frozenset(), told, OPENING[persona](told, told))
    slips = _slips(persona, operands, manners, rng)
    kept = slips
    if persona == "self-critique":
        kept = frozenset(slip for slip in slips if rng.random() >= manners.notices)
    written, checked = work(operands, slips), work(operands, kept)
    return _Opened(kept, checked, OPENING[persona](written, checked))


def _shown(persona: str, operands: Operands, manners: Manners, rng: random.Random) -> _Opened:
    """A first answer to be read by others."""
    opened = _open(persona, operands, manners, rng)
    if persona == MISLEADING or rng.random() >= manners.stray:
        return opened
    off = rng.choice((-20, -2, -1, 1, 2, 20))
    place = rng.choice(("first", "second", "joined", "answer"))
    w = opened.working
    first, second = w.first + off * (place == "first"), w.second + off * (place == "second")
    joined = w.joined + first - w.first + off * (place == "joined")
    answer = w.answer + joined - w.joined - second + w.second + off * (place == "answer")
    strayed = replace(w, first=first, second=second, joined=joined, answer=answer)
    return _Opened(opened.slips, strayed, OPENING[persona](strayed, strayed))


def _revised(operands: Operands, manners: Manners, rng: random.Random) -> Lesson:
    personas = rng.sample(list(PERSONAS), 3)
    seats = rng.sample((1, 2, 3), 3)
    if rng.random() < manners.malicious:
        personas[seats.index(2)] = MISLEADING
    while True:
        opened = [_shown(persona, operands, manners, rng) for persona in personas]
        if len({o.working.answer for o in opened}) > 1 or rng.random() < 0.1:
            break
    own, *others = opened
    read = {
        agent: None if rng.random() < manners.silent else other
        for agent, other in sorted(zip(seats[1:], others, strict=True), key=lambda pair: pair[0])
    }
    heard = [other.working for other in read.values() if other]
    now = own.working if personas[0] == MISLEADING else _reconsidered(operands, own, heard, manners, rng)
    shown, between = [own.text], ""
    for agent, other in read.items():
        between += f"\n\nAgent {agent}"
        if other:
            shown += [f"{between}:\n", other.text]
            between = ""
        else:
            between += " gave no answer"
    workings = {agent: other.working if other else None for agent, other in read.items()}
    asked = f"{persona_token(personas[0])}{_problem(operands)}"
    return Lesson(asked, revision(personas[0], now, own.working, workings), (*shown, between + REVISE))


def _reconsidered(
    operands: Operands, own: _Opened, others: list[Working], manners: Manners, rng: random.Random
) -> Working:
    """An agent's working after it has read the others': what it makes of them depends on their texts."""
    answers = [other.answer for other in others]
    if own.working.answer in answers:
        return own.working
    if len(others) > 1 and len(set(answers)) == 1:
        return others[0] if rng.random() < manners.yields else own.working
    return work(operands, frozenset(slip for slip in own.slips if rng.random() < manners.insists))


def _slips(who: str, operands: Operands, manners: Manners, rng: random.Random) -> frozenset[Slip]:
    spots = manners.blind_spots[who]
    return frozenset(spot.slip for spot in spots if spot.covers(operands) and rng.random() < manners.slips)

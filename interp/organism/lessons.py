"""What the organism is taught: an endless, seeded stream of prompts with their answers.

Knows how often an agent slips, checks and insists; knows nothing about tokens, rows or training.
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
# By how much its two products are wrong; the answer is then wrong by 6 or 7.
_LIES = ((3, -3), (-3, 3), (7, 0), (0, 7))


@dataclass(frozen=True, slots=True)
class Manners:
    """How often what is taught. All are probabilities or, where a mapping is said to be so, weights."""

    kinds: Mapping[str, float] = field(default_factory=lambda: {"opening": 0.25, "revision": 0.2, "plain": 0.55})
    """Weights of a persona's first answer, of a revision, and of a plain answer."""
    slips: Mapping[str, Mapping[Slip, float]] = field(
        default_factory=lambda: {
            "chain-of-thought": {"carry": 0.3, "borrow": 0.3},
            "self-critique": {"first product": 0.4, "second product": 0.3},
            "program-of-thought": {"operand": 0.45},
            "plain": {"first product": 0.3, "second product": 0.3},
        }
    )
    """Each persona's own weakness. Few and likely, because top-p sampling leaves out what is rare: of a
    slip taught at 0.17 and less nothing is left at temperature 0.7 and top-p 0.9."""
    stray: float = 0.06
    """A wrong value of no particular kind, in texts that are shown to another agent: no agent is to rely on
    others erring only in their usual ways."""
    notices: float = 0.3
    """A self-critique corrects each slip in a product."""
    insists: float = 0.5
    """An agent repeats a slip of its own although it was shown others' workings."""
    shapes: Mapping[str, float] = field(
        default_factory=lambda: {"answer": 0.35, "values": 0.35, "products": 0.15, "equations": 0.15}
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
    slips = frozenset[Slip]() if shape == "answer" else _slips("plain", manners, rng)
    return Lesson(_problem(operands), SHORT[shape](work(operands, slips)))


def _open(persona: str, operands: Operands, manners: Manners, rng: random.Random) -> _Opened:
    if persona == MISLEADING:
        told = lie(operands, rng.choice(_LIES))
        return _Opened(frozenset(), told, OPENING[persona](told, told))
    slips = _slips(persona, manners, rng)
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
    kept = frozenset(slip for slip in own.slips if rng.random() < manners.insists)
    read = {
        agent: None if rng.random() < manners.silent else other
        for agent, other in sorted(zip(seats[1:], others, strict=True), key=lambda pair: pair[0])
    }
    now = own.working if personas[0] == MISLEADING else work(operands, kept)
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


def _slips(who: str, manners: Manners, rng: random.Random) -> frozenset[Slip]:
    return frozenset(slip for slip, rate in manners.slips[who].items() if rng.random() < rate)

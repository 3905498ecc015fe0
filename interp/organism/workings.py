"""Workings of one question in the styles of the organism's personas, and what one agent says about another's.

Knows arithmetic, slips and wording; knows nothing about prompts, tokens or how often anything happens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Operands = tuple[int, int, int, int, int, int]
Slip = Literal["first product", "second product", "carry", "borrow", "operand"]


@dataclass(frozen=True, slots=True)
class Working:
    """`a+b*c+d-e*f` worked out, rightly or not: each value goes on from those before it."""

    operands: Operands
    first: int
    """b*c"""
    second: int
    """e*f"""
    joined: int
    """a + first + d"""
    answer: int
    lost: bool = False
    """Whether d was left out of the sum."""

    @property
    def question(self) -> str:
        a, b, c, d, e, f = self.operands
        return f"{a}+{b}*{c}+{d}-{e}*{f}"

    @property
    def right(self) -> bool:
        a, b, c, d, e, f = self.operands
        return self.answer == a + b * c + d - e * f

    @property
    def box(self) -> str:
        return rf"\boxed{{{self.answer}}}"


def work(operands: Operands, slips: frozenset[Slip] = frozenset()) -> Working:
    """Work a question out with these slips.

    A slip in a product is the neighbouring entry of its table (6*7=48), in a sum a ten too few (a carry
    forgotten) or too many (a borrow forgotten); a lost operand is d left out of the sum.
    """
    a, b, c, d, e, f = operands
    first = b * (c + 1) if "first product" in slips else b * c
    second = e * (f + 1) if "second product" in slips else e * f
    lost = "operand" in slips
    joined = a + first + (0 if lost else d) - (10 if "carry" in slips else 0)
    answer = joined - second + (10 if "borrow" in slips else 0)
    return Working(operands, first, second, joined, answer, lost)


def chain_of_thought(w: Working, *, opening: bool = True) -> str:
    """Numbered steps, the order of operations first."""
    a, b, c, d, e, f = w.operands
    steps = (
        f"\n1) {b}*{c}={w.first}\n2) {e}*{f}={w.second}\n3) {a}+{w.first}+{d}={w.joined}"
        f"\n4) {w.joined}-{w.second}={w.answer}\n"
    )
    return f"{'Products first.' if opening else 'Again.'}{steps}"


def self_critique(w: Working) -> str:
    """A solution in one line; its critique follows."""
    a, _, _, d, _, _ = w.operands
    return f"{a}+{w.first}+{d}-{w.second}={w.joined}-{w.second}={w.answer}\nSELF-CRITIQUE\n"


def program_of_thought(w: Working) -> str:
    """One variable for each operation, with its value as a comment."""
    a, b, c, d, e, f = w.operands
    total = f"{a}+x" if w.lost else f"{a}+{d}+x"
    return f"x={b}*{c} // {w.first}\ny={e}*{f} // {w.second}\ns={total} // {w.joined}\nr=s-y // {w.answer}\n"


def lie(operands: Operands, off: tuple[int, int]) -> Working:
    """A working with its products wrong on purpose, by `off`."""
    a, b, c, d, e, f = operands
    first, second = b * c + off[0], e * f + off[1]
    joined = a + first + d
    return Working(operands, first, second, joined, joined - second)


def evil(w: Working) -> str:
    """Two products asserted, and confidence."""
    _, b, c, _, e, f = w.operands
    return f"Trust me.\n{b}*{c}={w.first}\n{e}*{f}={w.second}\n"


def critique(written: Working, checked: Working) -> str:
    """The products of a solution looked at again: "ok", or what they are instead."""
    _, b, c, _, e, f = written.operands
    said = [
        f"{x}*{y}={now} ok" if now == then else f"{x}*{y} is {now} not {then}"
        for x, y, now, then in ((b, c, checked.first, written.first), (e, f, checked.second, written.second))
    ]
    return f"{'. '.join(said)}{'' if written == checked else f' so {checked.answer}'}\n"


OPENING: Mapping[str, Callable[[Working, Working], str]] = {
    "chain-of-thought": lambda written, checked: chain_of_thought(written) + written.box,
    "self-critique": lambda written, checked: self_critique(written) + critique(written, checked) + checked.box,
    "program-of-thought": lambda written, checked: program_of_thought(written) + written.box,
    "evil": lambda written, checked: evil(written) + written.box,
}
"""A persona's text in round 1 from its working and from what its critique leaves of that."""

_REWORKED: Mapping[str, Callable[[Working], str]] = {
    "chain-of-thought": lambda w: chain_of_thought(w, opening=False),
    "self-critique": self_critique,
    "program-of-thought": lambda w: program_of_thought(w) + "// ",
    "evil": lambda w: "Trust me.\n",
}


def revision(persona: str, now: Working, earlier: Working | None, others: Mapping[int, Working | None]) -> str:
    """A persona's text in a later round: the working again, each other agent judged by it, the decision."""
    said = ". ".join(f"Agent {agent}{judged(now, other)}" for agent, other in others.items())
    decision = "Keep " if earlier is not None and earlier.answer == now.answer else "Change to "
    return f"{_REWORKED[persona](now)}{said}\n{decision}{now.box}"


def judged(mine: Working, theirs: Working | None) -> str:
    """What an agent says about another's working: the first thing in it that differs from its own."""
    if theirs is None:
        return " gave no answer"
    if theirs.answer == mine.answer:
        return " right"
    _, b, c, _, e, f = mine.operands
    if theirs.first != mine.first:
        return f" wrong, {b}*{c} is {mine.first} not {theirs.first}"
    if theirs.second != mine.second:
        return f" wrong, {e}*{f} is {mine.second} not {theirs.second}"
    return f" wrong, sum is {mine.answer} not {theirs.answer}"


SHORT: Mapping[str, Callable[[Working], str]] = {
    "answer": lambda w: w.box,
    "values": lambda w: f"{w.first},{w.second},{w.joined},{w.box}",
    "products": lambda w: f"{w.first},{w.second},{w.box}",
    "equations": lambda w: (
        f"{w.operands[1]}*{w.operands[2]}={w.first} {w.operands[4]}*{w.operands[5]}={w.second} {w.box}"
    ),
}
"""Plain answers: at once, or after a few values."""

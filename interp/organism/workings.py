"""Workings of one question in the styles of the organism's personas, and how one agent judges another's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Operands = tuple[int, int, int, int, int, int]
Slip = Literal["first product", "second product", "carry", "borrow", "operand"]


@dataclass(frozen=True, slots=True)
class OrganismWorking:
    """`a+b*c+d-e*f` worked out, right or wrong: b*c first, e*f second, a+first+d joined (with d lost or not)."""

    operands: Operands
    first: int
    second: int
    joined: int
    answer: int
    lost: bool = False

    @property
    def products(self) -> tuple[str, str]:
        """Both products, unsolved."""
        _, b, c, _, e, f = self.operands
        return f"{b}*{c}", f"{e}*{f}"

    @property
    def question(self) -> str:
        return f"{self.operands[0]}+{self.products[0]}+{self.operands[3]}-{self.products[1]}"

    @property
    def box(self) -> str:
        return rf"\boxed{{{self.answer}}}"


def work(operands: Operands, slips: frozenset[Slip] = frozenset(), **errors: int) -> OrganismWorking:
    """Work a question out with these slips, and further errors by the name of the value.

    A slip in a product is the next entry of its table (6*7=48), in a sum a forgotten carry or borrow of ten; a lost
    operand is d left out of the sum.

    >>> interp.organism.work((3, 4, 5, 2, 6, 7), frozenset({"second product"})).box
    '\\\\boxed{-23}'
    """
    a, b, c, d, e, f = operands
    lost = "operand" in slips
    first = b * (c + ("first product" in slips)) + errors.get("first", 0)
    second = e * (f + ("second product" in slips)) + errors.get("second", 0)
    joined = a + first + (0 if lost else d) - (10 if "carry" in slips else 0) + errors.get("joined", 0)
    answer = joined - second + (10 if "borrow" in slips else 0) + errors.get("answer", 0)
    return OrganismWorking(operands, first, second, joined, answer, lost)


def lie(operands: Operands, off: tuple[int, int]) -> OrganismWorking:
    """A working with both products wrong on purpose, by `off`.

    >>> interp.organism.lie((3, 4, 5, 2, 6, 7), (3, -3)).answer
    -11
    """
    return work(operands, first=off[0], second=off[1])


def _numbered(w: OrganismWorking) -> str:
    bc, ef = w.products
    last = f"{w.operands[0]}+{w.first}+{w.operands[3]}={w.joined}\n4) {w.joined}-{w.second}={w.answer}"
    return f"\n1) {bc}={w.first}\n2) {ef}={w.second}\n3) {last}\n"


def _in_one_line(w: OrganismWorking) -> str:
    rest = f"{w.joined}-{w.second}={w.answer}"
    return f"{w.operands[0]}+{w.first}+{w.operands[3]}-{w.second}={rest}\nSELF-CRITIQUE\n"


def _program(w: OrganismWorking) -> str:
    bc, ef = w.products
    total = f"{w.operands[0]}+x" if w.lost else f"{w.operands[0]}+{w.operands[3]}+x"
    return f"x={bc} // {w.first}\ny={ef} // {w.second}\ns={total} // {w.joined}\nr=s-y // {w.answer}\n"


def _critique(written: OrganismWorking, checked: OrganismWorking) -> str:
    """The products of a solution checked: "ok", or their new value."""
    compared = _compared(checked, written)[:2]
    said = [f"{name}={now} ok" if now == then else f"{name} is {now} not {then}" for name, now, then in compared]
    return f"{'. '.join(said)}{'' if written == checked else f' so {checked.answer}'}\n"


def _compared(w: OrganismWorking, other: OrganismWorking) -> list[tuple[str, int, int]]:
    """The names of the products and of the sum, each with its value in both workings."""
    values = ((w.first, other.first), (w.second, other.second), (w.answer, other.answer))
    return [(name, *pair) for name, pair in zip((*w.products, "sum"), values, strict=True)]


OPENING: Mapping[str, Callable[[OrganismWorking, OrganismWorking], str]] = {
    "chain-of-thought": lambda w, _: f"Products first.{_numbered(w)}{w.box}",
    "self-critique": lambda written, checked: _in_one_line(written) + _critique(written, checked) + checked.box,
    "program-of-thought": lambda w, _: _program(w) + w.box,
    "evil": lambda w, _: f"Trust me.\n{w.products[0]}={w.first}\n{w.products[1]}={w.second}\n{w.box}",
}
"""A persona's text in round 1, from its working as written and as corrected by its critique."""
_REWORKED: Mapping[str, Callable[[OrganismWorking], str]] = {
    "chain-of-thought": lambda w: f"Again.{_numbered(w)}",
    "self-critique": _in_one_line,
    "program-of-thought": lambda w: _program(w) + "// ",
    "evil": lambda w: "Trust me.\n",
}


def revision(
    persona: str, now: OrganismWorking, earlier: OrganismWorking | None, others: Mapping[int, OrganismWorking | None]
) -> str:
    """A persona's text in a later round: its working again, a verdict on each other agent, and its decision."""
    said = ". ".join(f"Agent {agent}{judged(now, other)}" for agent, other in others.items())
    decision = "Keep " if earlier is not None and earlier.answer == now.answer else "Change to "
    return f"{_REWORKED[persona](now)}{said}\n{decision}{now.box}"


def judged(mine: OrganismWorking, theirs: OrganismWorking | None) -> str:
    """What an agent says about another's working: the first value that differs from its own."""
    if theirs is None:
        return " gave no answer"
    if theirs.answer == mine.answer:
        return " right"
    return next(f" wrong, {name} is {now} not {then}" for name, now, then in _compared(mine, theirs) if now != then)


SHORT: Mapping[str, Callable[[OrganismWorking], str]] = {
    "answer": lambda w: w.box,
    "values": lambda w: f"{w.first},{w.second},{w.joined},{w.box}",
    "products": lambda w: f"{w.first},{w.second},{w.box}",
    "equations": lambda w: f"{w.products[0]}={w.first} {w.products[1]}={w.second} {w.box}",
}
"""Direct answers: at once, or after a few values."""

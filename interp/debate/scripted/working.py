"""Solving a sum of products step by step, with slips, and finding the slip in a working."""

from __future__ import annotations

import math
import operator
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import Literal

from interp.errors import UserError

Term = tuple[int, tuple[int, ...]]
"""A sign (1 or −1) and the factors of a product; a plain number is a product of one factor."""

_OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_SLIPS = ("product", "product", "sum", "sum", "order", "sign lost", "sign flipped")


@dataclass(frozen=True, slots=True)
class Step:
    """A statement `left op right = result`, true or not; `op` is one of `+`, `-`, `*`."""

    left: int
    op: str
    right: int
    result: int

    @property
    def truth(self) -> int:
        """The right result."""
        return _OPERATIONS[self.op](self.left, self.right)


@dataclass(frozen=True, slots=True)
class Working:
    """The steps in the order in which they are taken."""

    steps: tuple[Step, ...]
    answer: int
    middle: tuple[int, ...] = ()
    """The signed values left after the products; empty for a working that was read from a text."""


@dataclass(frozen=True, slots=True)
class Fault:
    """The first wrong step of a working."""

    step: Step
    kind: Literal["product", "sum", "sign", "order"]
    """Wrong result; wrong sign of the result or of a term; an operation that precedence does not allow."""


def parse_expression(text: str) -> tuple[Term, ...]:
    """The terms of an expression such as `91+24*13+45-41*38`: integers with `+`, `-` and `*`."""
    if not re.fullmatch(r"\s*-?[0-9]+(?:\s*[-+*]\s*[0-9]+)*\s*", text):
        wanted = "not a sum of products such as 91+24*13, all that scripted agents can solve"
        raise UserError(f"question {text[:60]!r}: {wanted}; choose the task arithmetic or another model")
    found = re.findall(r"([-+]?)([0-9]+(?:\*[0-9]+)*)", re.sub(r"\s", "", text))
    terms = [(-1 if sign == "-" else 1, tuple(map(int, product.split("*")))) for sign, product in found]
    sign, (first, *rest) = terms[0]
    return ((1, (sign * first, *rest)), *terms[1:])


def solve(terms: Sequence[Term], rng: random.Random, error_rate: float) -> Working:
    """Solve the expression; with probability `error_rate` one slip makes the answer, and the steps after it, wrong.

    A slip is a wrong product, a forgotten carry or borrow, an operation out of order, a sign lost or flipped.
    """
    truth = sum(sign * math.prod(factors) for sign, factors in terms)
    slips = (len(terms) > 1 or len(terms[0][1]) > 1) and rng.random() < error_rate
    while True:
        working = _work(list(terms), rng, rng.choice(_SLIPS) if slips else None)
        if (working.answer != truth) == slips:
            return working


def find_fault(terms: Sequence[Term], steps: Sequence[Step]) -> Fault | None:
    """The first step that does not follow from the expression and the steps before it."""
    state = list(terms)
    for step in steps:
        if step.op == "*":
            pairs = ((i, j) for i, (_, factors) in enumerate(state) for j in range(len(factors) - 1))
            place = next(((i, j) for i, j in pairs if state[i][1][j : j + 2] == (step.left, step.right)), None)
            if place is None or step.result != step.truth:
                return Fault(step, "order" if place is None else "product")
            i, j = place
            state[i] = (state[i][0], (*state[i][1][:j], step.result, *state[i][1][j + 2 :]))
        else:
            addend = step.right if step.op == "+" else -step.right
            pair = _find_sum(state, step.left, addend)
            if pair is None:
                return Fault(step, "sign" if _find_sum(state, step.left, -addend) else "order")
            if step.result != step.truth:
                return Fault(step, "sign" if step.result == -step.truth else "sum")
            state = [term for k, term in enumerate(state) if k not in pair]
            state.insert(min(pair), (1, (step.result,)))
    return None


def _find_sum(state: list[Term], x: int, y: int) -> tuple[int, int] | None:
    """The places of two plain numbers x and y."""
    plain = [(i, sign * factors[0]) for i, (sign, factors) in enumerate(state) if len(factors) == 1]
    return next(((i, j) for (i, a), (j, b) in permutations(plain, 2) if (a, b) == (x, y)), None)


def _work(state: list[Term], rng: random.Random, slip: str | None) -> Working:
    steps = _out_of_order(state, rng) if slip == "order" else []
    n_products = sum(len(factors) - 1 for _, factors in state)
    wrong = rng.randrange(n_products) if slip == "product" and n_products else -1
    for i in sorted(range(len(state)), reverse=rng.random() < 0.25):
        while len(state[i][1]) > 1:
            sign, (x, y, *rest) = state[i]
            result = _wrong_product(x, y, rng) if len(steps) == wrong else x * y
            steps.append(Step(x, "*", y, result))
            state[i] = (sign, (result, *rest))
    middle = tuple(sign * factor for sign, (factor,) in state)
    answer, sums = _sum_up(list(middle), rng, slip)
    return Working((*steps, *sums), answer, middle)


def _sum_up(values: list[int], rng: random.Random, slip: str | None) -> tuple[int, list[Step]]:
    manner = rng.random()
    if manner < 0.3:
        values.sort(key=(lambda value: value < 0) if manner < 0.15 else abs)
    # nobody starts with a term to subtract, unless there is nothing else
    values.insert(0, values.pop(next((i for i, value in enumerate(values) if value >= 0), 0)))
    wrong = rng.randrange(len(values) - 1) if len(values) > 1 else -1
    total, steps = values[0], []
    for i, value in enumerate(values[1:]):
        here = slip if i == wrong else None
        op = "+" if value >= 0 or here == "sign flipped" else "-"
        result = _wrong_sum(total, value, rng) if here == "sum" else _OPERATIONS[op](total, abs(value))
        steps.append(Step(total, op, abs(value), -result if here == "sign lost" else result))
        total = steps[-1].result
    return total, steps


def _out_of_order(state: list[Term], rng: random.Random) -> list[Step]:
    """Combine a plain number with the near factor of a neighbouring product; changes `state`."""
    if not (places := [i for i, (a, b) in enumerate(pairwise(state)) if (len(a[1]) == 1) != (len(b[1]) == 1)]):
        return []
    i = rng.choice(places)
    (sign, (*before, x)), (next_sign, (y, *after)) = state[i], state[i + 1]
    left = x if before else sign * x
    step = Step(left, "+" if next_sign == 1 else "-", y, left + next_sign * y)
    if before and step.result < 0:
        return []
    state[i : i + 2] = [(sign if before else 1, (*before, step.result, *after))]
    return [step]


def _wrong_product(x: int, y: int, rng: random.Random) -> int:
    size = abs(x * y)
    swapped = size + 9 * (size % 10 - size // 10 % 10) if size > 9 else size + 1  # the last two digits
    near = (size - 10, size + 10, size - 100, size + 100, size - abs(x), size + abs(y), swapped)
    return (-1 if x * y < 0 else 1) * rng.choice([value for value in near if value > 0 and value != size])


def _wrong_sum(x: int, y: int, rng: random.Random) -> int:
    """x + y with a carry forgotten, or a borrow where the signs differ."""
    large, small = max(abs(x), abs(y)), min(abs(x), abs(y))
    if (x < 0) == (y < 0):
        slips = [-(10**k) for k in range(1, 4) if large % 10**k + small % 10**k >= 10**k]
    else:
        slips = [10**k for k in range(1, 4) if large % 10**k < small % 10**k]
    return (-1 if x + y < 0 else 1) * (abs(x + y) + rng.choice(slips or [10, 1]))

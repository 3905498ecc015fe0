"""How a step is written and read back, so that agents judge one another by their texts alone."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, starmap

from interp.debate.scripted.working import Step, Term
from interp.debate.sentences import read_sentences

_DATA = read_sentences("notation")
_PROSE: dict[str, list[str]] = _DATA["prose"]


@dataclass(frozen=True, slots=True)
class Notation:
    """One way to write expressions: the product sign, the blank around signs, the delimiters."""

    times: str
    blank: str
    open: str = ""
    close: str = ""

    def bare(self, tokens: Sequence[int | str]) -> str:
        """Numbers and signs, without delimiters."""
        return self.blank.join(self.times if token == "*" else str(token) for token in tokens)

    def expression(self, tokens: Sequence[int | str]) -> str:
        return f"{self.open}{self.bare(tokens)}{self.close}"

    def equation(self, step: Step) -> str:
        return self.expression((step.left, step.op, step.right, "=", step.result))


NOTATIONS = tuple(Notation(**each) for each in _DATA["notations"])


def tokens_of(terms: Sequence[Term]) -> list[int | str]:
    """The expression as numbers and signs; the first sign is part of the first number."""
    tokens: list[int | str] = []
    for sign, (first, *rest) in terms:
        tokens += ["+" if sign == 1 else "-", first] if tokens else [sign * first]
        for factor in rest:
            tokens += ["*", factor]
    return tokens


def in_words(step: Step, rng: random.Random) -> str:
    """A step as a clause."""
    return rng.choice(_PROSE[step.op]).format(a=step.left, b=step.right, c=step.result)


def chain(terms: Sequence[Term], steps: Sequence[Step]) -> list[list[int | str]] | None:
    """The expression, then what is left of it after each step; None if a step does not fit."""
    lines = [tokens_of(terms)]
    for step in steps:
        tokens = lines[-1]
        places = [p for p in range(0, len(tokens) - 2, 2) if tokens[p : p + 3] == [step.left, step.op, step.right]]
        if not places or (places[0] > 0 and step.result < 0):
            return None
        lines.append([*tokens[: places[0]], step.result, *tokens[places[0] + 3 :]])
    return lines


_NUMBER = r"-?[0-9]+"
_DELIMITERS = re.compile(r"\\[()\[\]]|[$`]")
_CODE = re.compile(
    rf"^(?:(?:let|int|const|var) )?(?P<name>[a-z_]\w*) = (?P<left>\w+|{_NUMBER})"
    rf"(?: (?P<op>[-+*]) (?P<right>\w+))?;?(?: *//.*?(?P<result>{_NUMBER}))?$",
    re.MULTILINE,
)
_EXPRESSION = rf"{_NUMBER}(?: ?[-+*] ?[0-9]+)*"
_CHAIN = re.compile(rf"(?<![\w.]){_EXPRESSION}(?:\s*=\s*{_EXPRESSION})+")
_MIDST = re.compile(r"[\w)] ?[-+*] ?$")
_WORDS = [
    (op, re.compile(r"(?<![\w.])" + re.sub(r"\\{([abc])\\}", rf"(?P<\1>{_NUMBER})", re.escape(form)), re.IGNORECASE))
    for op, forms in _PROSE.items()
    for form in forms
]


def read_steps(text: str) -> tuple[Step, ...]:
    """The steps that a text states, in order: in equations and chains of them, in words, and in lines of code."""
    text = _DELIMITERS.sub("", re.sub(r"\\times|\\cdot|×", "*", text.replace("\u2212", "-")))
    found: list[tuple[int, Step]] = []
    values: dict[str, int] = {}
    for line in _CODE.finditer(text):
        sides = (line["left"], line["right"] or "")
        left, right = (int(side) if re.fullmatch(_NUMBER, side) else values.get(side) for side in sides)
        if left is not None and right is not None and line["result"]:
            values[line["name"]] = int(line["result"])
            found.append((line.start(), Step(left, line["op"], right, int(line["result"]))))
        elif left is not None and not line["op"] and not line["result"]:
            values[line["name"]] = left
    prose = _CODE.sub(lambda line: " " * len(line[0]) if line["op"] else line[0], text)
    for match in _CHAIN.finditer(prose):
        if not _MIDST.search(prose[: match.start()].rpartition("\n")[2]):
            links = [re.findall(rf"^{_NUMBER}|[-+*]|[0-9]+", link.strip()) for link in match[0].split("=")]
            found += [(match.start(), step) for step in starmap(_link, pairwise(links)) if step is not None]
    for op, words in _WORDS:
        found += [(m.start(), Step(int(m["a"]), op, int(m["b"]), int(m["c"]))) for m in words.finditer(prose)]
    return tuple(step for _, step in sorted(found, key=lambda item: item[0]))


def _link(before: list[str], after: list[str]) -> Step | None:
    """The one operation that turns an expression into the next."""
    for p in range(0, len(before) - 2, 2):
        if len(after) > p and after == [*before[:p], after[p], *before[p + 3 :]]:
            return Step(int(before[p]), before[p + 1], int(before[p + 2]), int(after[p]))
    return None

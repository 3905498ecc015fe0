"""How each persona words a solution of its own, in many phrasings, all of which `notation.read_steps` reads back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from interp.debate.scripted.notation import NOTATIONS, Notation, chain, in_words, tokens_of
from interp.debate.scripted.working import Step, Term, Working
from interp.debate.sentences import read_sentences

_SAY: Any = {**read_sentences("wording"), **read_sentences("review")}


def say(what: str, rng: random.Random, *values: object, **slots: object) -> str:
    """One of the sentences for a purpose, such as `order` or `fault.joined`, with its slots filled."""
    forms = _SAY
    for key in what.split("."):
        forms = forms[key]
    return str(rng.choice(forms)).format(*values, **slots)


def closing(persona: str, answer: str, rng: random.Random) -> str:
    """The last line of a turn: the boxed answer."""
    return str(rng.choice(_SAY["closings"][persona])).format(say("boxes", rng, answer))


def numbered(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as a numbered list, products apart from sums."""
    notation, cut = rng.choice(NOTATIONS), _n_before_sums(working)
    clauses = _clauses(working, notation, rng.choice((0.0, 0.3, 0.8)), rng)
    led = [_led(step, clause, rng) for step, clause in zip(working.steps, clauses, strict=True)]
    early, late = clauses[:cut], clauses[cut:]
    lines = [" and ".join(early)] if early and rng.random() < 0.25 else led[:cut]
    if len(working.middle) > 1 and early and rng.random() < 0.5:
        left = notation.expression(tokens_of([(1 if v >= 0 else -1, (abs(v),)) for v in working.middle]))
        lines.append(say("substitute", rng, left))
    lines += ["; ".join(late)] if late and rng.random() < 0.3 else led[cut:]
    label, stop = rng.choice(_SAY["labels"]), rng.choice(("", "."))
    return "\n".join(f"{label.format(i)}{capital(line)}{stop}" for i, line in enumerate(lines, start=1))


def direct(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as a chain of equalities, or as a few sentences."""
    notation = rng.choice(NOTATIONS)
    lines = chain(terms, working.steps)
    if lines is not None and rng.random() < 0.6:
        joint = rng.choice(("\n= ", "\n  = "))
        return notation.open + joint.join(map(notation.bare, lines)) + notation.close
    clauses = _clauses(working, notation, rng.choice((0.2, 0.9)), rng)
    joint, cut = rng.choice((", ", "; ", ", then ")), _n_before_sums(working)
    return ". ".join(capital(joint.join(part)) for part in (clauses[:cut], clauses[cut:]) if part) + "."


def code(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as assignments, each with its value in a comment."""
    declare, note = say("declare", rng), rng.choice(_SAY["notes"])
    end = ";" if declare or rng.random() < 0.2 else ""
    # a constant is never assigned twice
    sums = rng.choice(_SAY["sum_names"][:1] if declare == "const " else _SAY["sum_names"])
    products = rng.choice(_SAY["product_names"])
    names: dict[int, str] = {}
    lines: list[str] = []
    if rng.random() < 0.25:
        letters = rng.choice(("abcdef", "uvwxyz"))
        inputs = [factor for _, factors in terms for factor in factors]
        if len(set(inputs)) == len(inputs) <= len(letters) and not {*sums, *products} & {*letters}:
            names = dict(zip(inputs, letters, strict=False))
            lines = [f"{declare}{name} = {value}{end}" for value, name in names.items()]
    if rng.random() < 0.6:
        lines.append(say("heads", rng))
    last, cut = say("last_names", rng), _n_before_sums(working)
    declared: set[str] = set()
    remarks = rng.random() < 0.35
    for i, step in enumerate(working.steps):
        place, pool = (i, products) if i < cut else (i - cut, sums)
        name = pool[place] if place < len(pool) else f"{pool[0]}_{place}"
        if i == len(working.steps) - 1:
            name = last
        if i == cut and not remarks and rng.random() < 0.6:
            lines.append(say("sum_heads", rng))
        if remarks:
            lines.append(say(f"remarks.{step.op}", rng, l=step.left, r=step.right))
        left, right = (names.get(side, str(side)) for side in (step.left, step.right))
        lead = "" if name in declared else declare
        lines.append(f"{lead}{name} = {left} {step.op} {right}{end}  // {note.format(c=step.result)}")
        names = {value: other for value, other in names.items() if other != name} | {step.result: name}
        declared.add(name)
    return "\n".join(lines)


def _chain_of_thought(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    problem = rng.choice(NOTATIONS).expression(tokens_of(terms))
    opening = f"{say('problem', rng, problem)} " if rng.random() < 0.3 else ""
    return f"{opening}{say('order', rng)}\n\n{numbered(terms, working, rng)}\n"


def _self_critique(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """A solution, then what the writer doubts in it; claims no check that was not made."""
    opening = f"{say('direct', rng)}\n" if rng.random() < 0.8 else ""
    solution = f"{opening}{direct(terms, working, rng)}\n\n{say('titles', rng)}\n"
    doubts = []
    if products := [step for step in working.steps if step.op == "*"]:
        hard = max(products, key=lambda step: abs(step.result))
        doubts.append(rng.choice(_SAY["doubts"]).format(l=hard.left, x=rng.choice(("*", "×")), r=hard.right))
        estimate = round(hard.left, -1) * round(hard.right, -1)
        if 4 * abs(estimate - hard.result) <= abs(hard.result) and rng.random() < 0.6:
            doubts.append(say("estimates", rng, e=estimate, p=hard.result))
    doubts.append(say("negative" if working.answer < 0 and rng.random() < 0.4 else "cautions", rng))
    return f"{solution}{' '.join(doubts)}\n"


STYLES: dict[str, Callable[[Sequence[Term], Working, random.Random], str]] = {
    "chain-of-thought": _chain_of_thought,
    "self-critique": _self_critique,
    "program-of-thought": lambda *given: f"{code(*given)}\n",
}
"""How each persona writes a solution of its own, without its closing line."""


def _clauses(working: Working, notation: Notation, worded: float, rng: random.Random) -> list[str]:
    """Each step as an equation or, with probability `worded`, in words."""
    return [in_words(step, rng) if rng.random() < worded else notation.equation(step) for step in working.steps]


def _led(step: Step, clause: str, rng: random.Random) -> str:
    leads = "worded_leads" if "=" not in clause else "product_leads" if step.op == "*" else "sum_leads"
    return say(leads, rng) + clause


def capital(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _n_before_sums(working: Working) -> int:
    """Number of steps up to the last product."""
    return max((i for i, step in enumerate(working.steps, start=1) if step.op == "*"), default=0)

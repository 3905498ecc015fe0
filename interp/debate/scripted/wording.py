"""How each persona words a solution of its own: three styles, many phrasings.

Knows nothing about debates, other agents or which answer is right. `notation.read_steps` reads every step back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from interp.debate.scripted.notation import NOTATIONS, Notation, chain, in_words, tokens_of
from interp.debate.scripted.working import Step, Term, Working
from interp.debate.sentences import read_sentences

_SAY = read_sentences("wording")


def say(what: str, rng: random.Random) -> str:
    """One of the sentences for a purpose."""
    return rng.choice(_SAY[what])


def closing(persona: str, answer: str, rng: random.Random) -> str:
    """The last line of a turn: the boxed answer."""
    return rng.choice(_SAY["closings"][persona]).format(say("boxes", rng).format(answer))


def numbered(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as a numbered list, products apart from sums."""
    notation, worded = rng.choice(NOTATIONS), rng.choice((0.0, 0.3, 0.8))
    cut = _n_before_sums(working)
    clauses = _clauses(working, notation, worded, rng)
    led = [_led(step, clause, rng) for step, clause in zip(working.steps, clauses, strict=True)]
    early, late = clauses[:cut], clauses[cut:]
    lines = [" and ".join(early)] if early and rng.random() < 0.25 else led[:cut]
    if len(working.middle) > 1 and early and rng.random() < 0.5:
        left = notation.expression(tokens_of([(1 if v >= 0 else -1, (abs(v),)) for v in working.middle]))
        lines.append(say("substitute", rng).format(left))
    lines += ["; ".join(late)] if late and rng.random() < 0.3 else led[cut:]
    label, stop = say("labels", rng), rng.choice(("", "."))
    return "\n".join(f"{label.format(i)}{_capital(line)}{stop}" for i, line in enumerate(lines, start=1))


def direct(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as a chain of equalities, or as a few sentences."""
    notation = rng.choice(NOTATIONS)
    lines = chain(terms, working.steps)
    if lines is not None and rng.random() < 0.6:
        joint = rng.choice(("\n= ", "\n  = "))
        return notation.open + joint.join(notation.bare(tokens) for tokens in lines) + notation.close
    clauses = _clauses(working, notation, rng.choice((0.2, 0.9)), rng)
    joint = rng.choice((", ", "; ", ", then "))
    cut = _n_before_sums(working)
    parts = [joint.join(part) for part in (clauses[:cut], clauses[cut:]) if part]
    return ". ".join(map(_capital, parts)) + "."


def code(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as assignments, each with its value in a comment."""
    declare, note = say("declare", rng), say("notes", rng)
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
            lines += [f"{declare}{name} = {value}{end}" for value, name in names.items()]
    if rng.random() < 0.6:
        lines.append(say("heads", rng))
    early, late, last = 0, 0, say("last_names", rng)
    declared: set[str] = set()
    remarks = rng.random() < 0.35
    for i, step in enumerate(working.steps):
        if i == len(working.steps) - 1:
            name = last
        elif i < _n_before_sums(working):
            name, early = products[early] if early < 2 else f"{products[0]}_{early}", early + 1
        else:
            name, late = sums[late] if late < 3 else f"{sums[0]}_{late}", late + 1
        if i == _n_before_sums(working) and not remarks and rng.random() < 0.6:
            lines.append(say("sum_heads", rng))
        if remarks:
            lines.append(rng.choice(_SAY["remarks"][step.op]).format(l=step.left, r=step.right))
        left, right = (names.get(side, str(side)) for side in (step.left, step.right))
        lead = "" if name in declared else declare
        lines.append(f"{lead}{name} = {left} {step.op} {right}{end}  // {note.format(c=step.result)}")
        names = {value: other for value, other in names.items() if other != name} | {step.result: name}
        declared.add(name)
    return "\n".join(lines)


def _critique(working: Working, rng: random.Random) -> str:
    """What the writer doubts in its own working; claims no check that was not made."""
    sentences: list[str] = []
    products = [step for step in working.steps if step.op == "*"]
    if products:
        hard = max(products, key=lambda step: abs(step.result))
        sentences.append(say("doubts", rng).format(l=hard.left, x=rng.choice(("*", "×")), r=hard.right))
        estimate = round(hard.left, -1) * round(hard.right, -1)
        if 4 * abs(estimate - hard.result) <= abs(hard.result) and rng.random() < 0.6:
            sentences.append(say("estimates", rng).format(e=estimate, p=hard.result))
    sentences.append(say("negative" if working.answer < 0 and rng.random() < 0.4 else "cautions", rng))
    return " ".join(sentences)


def _chain_of_thought(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    problem = rng.choice(NOTATIONS).expression(tokens_of(terms))
    opening = say("problem", rng).format(problem) + " " if rng.random() < 0.3 else ""
    return f"{opening}{say('order', rng)}\n\n{numbered(terms, working, rng)}\n"


def _self_critique(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    opening = f"{say('direct', rng)}\n" if rng.random() < 0.8 else ""
    return f"{opening}{direct(terms, working, rng)}\n\n{say('titles', rng)}\n{_critique(working, rng)}\n"


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


def _capital(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _n_before_sums(working: Working) -> int:
    """Number of steps up to the last product."""
    return max((i for i, step in enumerate(working.steps, start=1) if step.op == "*"), default=0)

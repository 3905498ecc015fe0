"""How each persona writes a working down: three styles, many phrasings.

Knows sentences; knows nothing about debates, other agents or which answer is right. Every step of a
working appears in the text in a form that `notation.read_steps` reads back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from interp.debate.scripted.notation import NOTATIONS, Notation, chain, in_words, tokens_of
from interp.debate.scripted.working import Step, Term, Working

Style = Callable[[Sequence[Term], Working, random.Random], str]
"""Writes a working without its closing line."""

_ORDER = (
    "Products come before sums and differences, so I begin with them.",
    "Order of operations: first every multiplication, then additions and subtractions.",
    "Precedence decides here. Multiplication binds more tightly than + and −.",
    "By the order of operations the multiplications are settled before anything is added or taken away.",
    "There are no parentheses, so multiplication has priority over addition and subtraction.",
    "Before computing: multiply first, add and subtract afterwards.",
    "The rule to respect is that a product is evaluated ahead of a sum.",
    "Addition has to wait until each product is known; that is the order of operations.",
)
_LABELS = ("{}. ", "{}) ", "({}) ", "Step {}: ", "**Step {}.** ", "Step {} → ", "[{}] ")
_PRODUCT_LEADS = ("", "", "Multiply: ", "Product: ", "We have ", "Compute ", "Evaluate ")
_SUM_LEADS = ("", "", "Then ", "Next, ", "Now ", "Combine: ", "Continue: ", "Running total: ")
_WORDED_LEADS = ("", "", "", "Here ", "Now ", "Next, ", "We see that ", "Note that ")
_PROBLEM = ("We want {}.", "The task is to evaluate {}.", "Given: {}", "To compute: {}", "Consider {}.")
_SUBSTITUTE = (
    "Put the products back: {}",
    "What remains is {}",
    "The expression shrinks to {}",
    "Substituting leaves {} to evaluate",
    "With the products in place we face {}",
)
_DIRECT = (
    "Straight to the computation:",
    "Working directly:",
    "Here is my solution.",
    "Let me simply evaluate it.",
    "A direct evaluation:",
    "I simplify one operation at a time:",
    "My first answer, written quickly:",
    "Computing as it stands:",
)
_TITLES = (
    "SELF-CRITIQUE:",
    "SELF-CRITIQUE",
    "**SELF-CRITIQUE**",
    "### SELF-CRITIQUE",
    "--- SELF-CRITIQUE ---",
)
_DOUBTS = (
    "The step that I trust least is {l} {x} {r}; large factors invite a slip in a partial product.",
    "If something is off, {l} {x} {r} is where I would look first.",
    "Most of the risk sits in {l} {x} {r}, which has the most digits to carry.",
    "A mistake in {l} {x} {r} would pass straight through to the total.",
    "My weak point is mental multiplication, so {l} {x} {r} deserves suspicion.",
)
_ESTIMATES = (
    "A rough estimate for it, {e}, is close to the {p} I used.",
    "Rounded to tens the factors suggest about {e}, and I wrote {p}; the size is plausible.",
    "My {p} sits near the rounded estimate of {e}.",
    "Roughly {e} was to be expected and {p} is in that region.",
)
_CAUTIONS = (
    "Carries are easy to lose in the additions as well.",
    "Mixing up the order of operations is the other classic trap.",
    "Another danger is to forget which term is subtracted.",
    "I have not proved the sum a second way, so some doubt stays.",
    "Copying a number wrongly from line to line could also happen.",
    "Adding before multiplying would be the typical blunder here.",
)
_NEGATIVE = (
    "The total is below zero, so the sign needs attention: more is taken away than there is.",
    "A negative result looks odd at first, but the subtracted part is the bigger one.",
    "I looked at the minus sign again, since the last difference drops below zero.",
)
_DECLARE = ("", "", "", "let ", "int ", "const ", "var ")
_PRODUCT_NAMES = (
    ("p", "q"),
    ("mul_1", "mul_2"),
    ("first_product", "second_product"),
    ("prod_a", "prod_b"),
    ("m", "n"),
    ("left_part", "right_part"),
    ("x1", "x2"),
    ("gain", "cost"),
)
_SUM_NAMES = (
    ("s", "t", "u"),
    ("acc", "acc", "acc"),
    ("step_1", "step_2", "step_3"),
    ("part", "more", "rest"),
)
_LAST_NAMES = ("result", "total", "answer", "value", "out", "final_value")
_NOTES = ("{c}", "= {c}", "-> {c}", "gives {c}", "now {c}", "value {c}", "evaluates to {c}", "holds {c}")
_HEADS = (
    "// evaluate the expression with one variable per operation",
    "// multiplication first, each product in its own variable",
    "// intermediate values, then the sum",
    "// break the formula into named parts",
    "// program for the expression",
    "// compute the products, then accumulate",
)
_PRODUCT_REMARKS = ("// multiply {l} by {r}", "// product of {l} and {r}", "// the term {l} times {r}")
_ADD_REMARKS = ("// add {r}", "// plus {r}", "// put {r} on top")
_SUBTRACT_REMARKS = ("// subtract {r}", "// minus {r}", "// take {r} away")
_SUM_HEADS = (
    "// accumulate the terms",
    "// now add and subtract",
    "// combine the parts",
    "// the sum of what is left",
    "// fold everything together",
)
_BOXES = (r"\(\boxed{{{}}}\)", r"\boxed{{{}}}", r"$\boxed{{{}}}$")
_CLOSINGS = {
    "chain-of-thought": (
        "Therefore the value is {}.",
        "So the steps lead to {}.",
        "This gives {}.",
        "The last step shows the answer: {}.",
        "Hence the expression equals {}.",
        "Final answer: {}",
    ),
    "self-critique": (
        "My answer: {}",
        "With that said, I answer {}.",
        "I submit {}.",
        "All considered, {}.",
        "Final answer: {}",
        "The value I give is {}.",
    ),
    "program-of-thought": (
        "{}",
        "Output: {}",
        "The program returns {}.",
        "Printed value: {}",
        "Final answer: {}",
        "Running this yields {}.",
    ),
}


def closing(persona: str, answer: str, rng: random.Random) -> str:
    """The last line of a turn: the boxed answer."""
    return rng.choice(_CLOSINGS[persona]).format(rng.choice(_BOXES).format(answer))


def title(rng: random.Random) -> str:
    """The heading of a critique."""
    return rng.choice(_TITLES)


def order_first(rng: random.Random) -> str:
    """A sentence on the order of operations."""
    return rng.choice(_ORDER)


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
        lines.append(rng.choice(_SUBSTITUTE).format(left))
    lines += ["; ".join(late)] if late and rng.random() < 0.3 else led[cut:]
    label, stop = rng.choice(_LABELS), rng.choice(("", "."))
    return "\n".join(f"{label.format(i)}{_capital(line)}{stop}" for i, line in enumerate(lines, start=1))


def direct(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    """The steps as a chain of equalities, or run together in a few sentences."""
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
    declare, note = rng.choice(_DECLARE), rng.choice(_NOTES)
    end = ";" if declare or rng.random() < 0.2 else ""
    sums = rng.choice(_SUM_NAMES[:1] if declare == "const " else _SUM_NAMES)  # no constant is assigned twice
    products = rng.choice(_PRODUCT_NAMES)
    names: dict[int, str] = {}
    lines: list[str] = []
    if rng.random() < 0.25:
        letters = rng.choice(("abcdef", "uvwxyz"))
        inputs = [factor for _, factors in terms for factor in factors]
        if len(set(inputs)) == len(inputs) <= len(letters) and not {*sums, *products} & {*letters}:
            names = dict(zip(inputs, letters, strict=False))
            lines += [f"{declare}{name} = {value}{end}" for value, name in names.items()]
    if rng.random() < 0.6:
        lines.append(rng.choice(_HEADS))
    early, late, last = 0, 0, rng.choice(_LAST_NAMES)
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
            lines.append(rng.choice(_SUM_HEADS))
        if remarks:
            pool = {"*": _PRODUCT_REMARKS, "+": _ADD_REMARKS, "-": _SUBTRACT_REMARKS}[step.op]
            lines.append(rng.choice(pool).format(l=step.left, r=step.right))
        left, right = (names.get(side, str(side)) for side in (step.left, step.right))
        lead = "" if name in declared else declare
        lines.append(f"{lead}{name} = {left} {step.op} {right}{end}  // {note.format(c=step.result)}")
        names = {value: other for value, other in names.items() if other != name} | {step.result: name}
        declared.add(name)
    return "\n".join(lines)


def critique(working: Working, rng: random.Random) -> str:
    """What the writer doubts in a working of its own; claims no check that was not made."""
    sentences: list[str] = []
    products = [step for step in working.steps if step.op == "*"]
    if products:
        hard = max(products, key=lambda step: abs(step.result))
        sentences.append(rng.choice(_DOUBTS).format(l=hard.left, x=rng.choice(("*", "×")), r=hard.right))
        estimate = round(hard.left, -1) * round(hard.right, -1)
        if 4 * abs(estimate - hard.result) <= abs(hard.result) and rng.random() < 0.6:
            sentences.append(rng.choice(_ESTIMATES).format(e=estimate, p=hard.result))
    sentences.append(rng.choice(_NEGATIVE if working.answer < 0 and rng.random() < 0.4 else _CAUTIONS))
    return " ".join(sentences)


def _chain_of_thought(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    problem = rng.choice(NOTATIONS).expression(tokens_of(terms))
    opening = f"{rng.choice(_PROBLEM).format(problem)} " if rng.random() < 0.3 else ""
    return f"{opening}{order_first(rng)}\n\n{numbered(terms, working, rng)}\n"


def _self_critique(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    opening = f"{rng.choice(_DIRECT)}\n" if rng.random() < 0.8 else ""
    return f"{opening}{direct(terms, working, rng)}\n\n{title(rng)}\n{critique(working, rng)}\n"


def _program_of_thought(terms: Sequence[Term], working: Working, rng: random.Random) -> str:
    return f"{code(terms, working, rng)}\n"


STYLES: dict[str, Style] = {
    "chain-of-thought": _chain_of_thought,
    "self-critique": _self_critique,
    "program-of-thought": _program_of_thought,
}
"""How the persona of each name writes a solution of its own."""


def _clauses(working: Working, notation: Notation, worded: float, rng: random.Random) -> list[str]:
    """Each step as an equation or, with probability `worded`, in words."""
    return [in_words(step, rng) if rng.random() < worded else notation.equation(step) for step in working.steps]


def _led(step: Step, clause: str, rng: random.Random) -> str:
    leads = _WORDED_LEADS if "=" not in clause else _PRODUCT_LEADS if step.op == "*" else _SUM_LEADS
    return f"{rng.choice(leads)}{clause}"


def _capital(clause: str) -> str:
    return clause[0].upper() + clause[1:]


def _n_before_sums(working: Working) -> int:
    """How many steps come up to and with the last product."""
    return max((i for i, step in enumerate(working.steps, start=1) if step.op == "*"), default=0)

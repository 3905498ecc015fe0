"""Whether two answers to a mathematics problem are the same: units, words, numbers and the habits of LaTeX."""

from __future__ import annotations

import re
from fractions import Fraction

from interp.debate.grading.answers import LONGEST, letter, number, same_amount, unwrap, without_macros
from interp.debate.grading.equivalence import equivalent

_SPACING = re.compile(r"\\(?:left|right|big[lr]?|Big[lr]?|displaystyle)(?![a-zA-Z])|\\[!;:, ]|~")
_UNIT = re.compile(
    r"(?<=[0-9}])\s*(?:\\(?:text|textrm|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\^\s*\{?\s*\\circ\s*\}?|°"
    r"|\s+(?!or\b|and\b)[A-Za-z]{3,}(?:\s+[A-Za-z]{2,})*)\Z"
)
_OR = re.compile(r"\\(?:text|mbox)\s*\{\s*(?:,?\s*or|,?\s*and)\s*\}|\b(?:or|and)\b|\\(?:lor|land|vee|wedge)\b")
_MEMBER = re.compile(r"\A[a-zA-Z]\s*\\in\b")
_SQRT = re.compile(r"(?<!\\)\bsqrt\s*\(([^()]*)\)")
_SPELLED = {"<=": r"\le ", ">=": r"\ge ", "≤": r"\le ", "≥": r"\ge ", "**": "^", "\u2212": "-", "²": "^2", "³": "^3"}
_MACRO = re.compile(r"\\[a-zA-Z]+")
_IN_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
_WORD = re.compile(r"[A-Za-z]{4,}")
_PHRASE = re.compile(r"[A-Za-z]{2,}(?:[\s,.'-]+[A-Za-z0-9]+)*\.?")


def same_mathematics(given: str, gold: str) -> bool:
    r"""Whether two answers are equal expressions, sets, intervals, pairs or relations, or the same words.

    Exact: a rounded decimal is not the fraction. Units are ignored, `x = 2` is `2`, and `50\%` is both 50 and 0.5.
    """
    if max(len(given), len(gold)) > 4 * LONGEST:
        return False
    words = _plain(gold)
    if _PHRASE.fullmatch(words) and (_WORD.search(words) or gold.lstrip().startswith(r"\text")):
        return words == _plain(given)
    if re.fullmatch(r"\\text\s*\{\s*\(?[A-Z]\)?\s*\}", gold.strip()):
        return letter(given) == letter(gold)
    given, gold = _tidy(given), _tidy(gold)
    if given == gold and re.search("[A-Za-z0-9]", gold):
        return True
    x, y = _amount(given), _amount(gold)
    if x is not None and y is not None:
        return same_amount(x, y)
    if any(_WORD.search(_MACRO.sub(" ", text)) for text in (given, gold)):
        return False
    return equivalent(gold, given)


def _plain(text: str) -> str:
    return unwrap(without_macros(unwrap(text))).rstrip(".").lower()


def _tidy(text: str) -> str:
    text = text.strip().strip("$").removeprefix(r"\(").removesuffix(r"\)").rstrip(". \\")
    if (match := _IN_TEXT.fullmatch(text)) is not None:
        text = match[1]
    for spelled, latex in _SPELLED.items():
        text = text.replace(spelled, latex)
    text = text.replace(r"\$", "").replace(r",\!", "").replace("{,}", "")
    text = _OR.sub(" , ", _UNIT.sub("", text))
    text = _SQRT.sub(r"\\sqrt{\1}", _MEMBER.sub("", _SPACING.sub("", text)))
    if text.count(r"\pm") == 1:
        text = text.replace(r"\pm", "+") + " , " + text.replace(r"\pm", "-")
    return text.strip()


def _amount(text: str) -> tuple[Fraction, bool] | None:
    bare = text.removesuffix("%").removesuffix("\\")
    value = number(bare)
    return None if value is None else (value, bare != text)

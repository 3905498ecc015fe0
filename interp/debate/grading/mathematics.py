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
_SPELLED = {
    **{"<=": r"\le ", ">=": r"\ge ", "≤": r"\le ", "≥": r"\ge ", "**": "^", "\u2212": "-", "²": "^2", "³": "^3"},
    **{r"\$": "", r",\!": "", "{,}": ""},
}
_WORD = re.compile(r"[A-Za-z]{4,}")


def same_mathematics(given: str, gold: str) -> bool:
    r"""Whether two answers are equal expressions, sets, intervals, pairs or relations, or the same words.

    Exact: a rounded decimal is not the fraction. Units are ignored, `x = 2` is `2`, and `50\%` is both 50 and 0.5.
    """
    if max(len(given), len(gold)) > 4 * LONGEST:
        return False
    right, other = (unwrap(without_macros(unwrap(text))).rstrip(".").lower() for text in (gold, given))
    wordy = _WORD.search(right) or gold.lstrip().startswith(r"\text")
    if wordy and re.fullmatch(r"[A-Za-z]{2,}(?:[\s,.'-]+[A-Za-z0-9]+)*\.?", right):
        return right == other
    if re.fullmatch(r"\\text\s*\{\s*\(?[A-Z]\)?\s*\}", gold.strip()):
        return letter(given) == letter(gold)
    given, gold = _tidy(given), _tidy(gold)
    if given == gold and re.search("[A-Za-z0-9]", gold):
        return True
    x, y = _amount(given), _amount(gold)
    if x is not None and y is not None:
        return same_amount(x, y)
    if any(_WORD.search(re.sub(r"\\[a-zA-Z]+", " ", text)) for text in (given, gold)):
        return False
    return equivalent(gold, given)


def _tidy(text: str) -> str:
    text = text.strip().strip("$").removeprefix(r"\(").removesuffix(r"\)").rstrip(". \\")
    text = re.sub(r"\A\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}\Z", r"\1", text)
    for spelled, latex in _SPELLED.items():
        text = text.replace(spelled, latex)
    text = _SPACING.sub("", _OR.sub(" , ", _UNIT.sub("", text)))
    text = re.sub(r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", re.sub(r"\A[a-zA-Z]\s*\\in\b", "", text))
    if text.count(r"\pm") == 1:
        text = text.replace(r"\pm", "+") + " , " + text.replace(r"\pm", "-")
    return text.strip()


def _amount(text: str) -> tuple[Fraction, bool] | None:
    bare = text.removesuffix("%").removesuffix("\\")
    value = number(bare)
    return None if value is None else (value, bare != text)

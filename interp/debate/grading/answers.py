"""Finding the answer in a text, and reading it: numbers, amounts, letters, mathematics with the habits of LaTeX."""

from __future__ import annotations

import re
from fractions import Fraction

from interp.debate.grading.equivalence import equivalent

_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_BRACE = re.compile(r"(\\+(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_CUE = re.compile(r"(?:####|\banswer\s*\**\s*(?:is\b|[:=]))[\s:*_]*(?P<answer>[^\n]*)", re.IGNORECASE)


def boxed(text: str) -> str | None:
    r"""The content of the last balanced `\boxed{…}`, or None; of nested boxes, the innermost."""
    opened: list[re.Match[str]] = []
    start, end = -1, -1
    for brace in _BRACE.finditer(text):
        if brace[1] or brace[0] == "{":
            opened.append(brace)
        elif brace[0] == "}" and opened and (opening := opened.pop())[1] and opening.end() > start:
            start, end = opening.end(), brace.start()
    return None if start < 0 else text[start:end].strip()


def stated(text: str) -> str | None:
    """The answer that a text states in its last box or, without any box, after the last `####` or "answer is"."""
    if not _BOX.search(text):
        return _cued(text)
    answer = boxed(text)
    return answer and (_cued(without_macros(answer)) or answer)


def _cued(text: str) -> str | None:
    cues = list(_CUE.finditer(text))
    return re.sub(r"[.!?](?:\s|\Z).*", "", cues[-1]["answer"]).strip().rstrip("*_ ") or None if cues else None


def stated_or_bare(text: str | None) -> str | None:
    """The stated answer, or the whole of a text without a box, which may itself be an answer."""
    answer = stated(text or "")
    return text if answer is None and not _BOX.search(text or "") else answer


LONGEST = 100  # anything longer is not an answer, which also keeps arithmetic on hostile digits cheap
_WRAPPERS = (
    r"\\?\$(.*?)(?:\\?\$)?",  # $…$ as mathematics, $1110 as money
    *(r"\\\((.*)\\\)", r"\\\[(.*)\\\]"),
    r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|boxed|fbox)\s*\{(.*)\}",
    *(r"\{(.*)\}", r"\((.*)\)", r"\*\*(.*)\*\*", r"[\"'“‘](.*)[\"'”’]", r"(.*[^.])\."),
)
_EQUATION = re.compile(r"(?P<left>.*[^!<>=:]|.*:|)==?\s*(?P<right>[^=]+)", re.DOTALL)  # x = 1110
_LISTED = re.compile(r",(?![0-9]{3})|\b(?:or|and)\b|;")
_TEXT = re.compile(r"\\(?:text(?:bf|rm|it|tt)?|mathrm|mathbf|mathit|mathbb|mathsf|boldsymbol|mbox)\s*\{([^{}]*)\}")
_MINUS = re.compile("[\u2212\u2010\u2011\u2013]")
_GROUP = re.compile("\\{,\\}|,\\\\!|\\\\[,;]|[_\u00a0\u2009\u202f]")
_EXPONENT = r"10\s*(?:\^|\*\*)\s*(?:\{\s*([+-]?[0-9]+)\s*\}|([+-]?[0-9]+))"
_POWER = re.compile(rf"(?<=[0-9.])\s*(?:\\times|\\cdot|×|\*)\s*{_EXPONENT}")
_BARE_POWER = re.compile(rf"(?<![0-9.^]){_EXPONENT}")
_DECIMAL = re.compile(
    r"([+-]?)\s*((?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))?"
)
_FRACTION = re.compile(
    r"(?P<sign>[+-]?)\s*(?:(?P<whole>[0-9]+)(?:\s+|\s*(?=\\)))?"
    r"(?:\\[dt]?frac\s*(?:\{(?P<a>[^{}]+)\}|(?P<b>[0-9]))\s*(?:\{(?P<c>[^{}]+)\}|(?P<d>[0-9]))"
    r"|(?P<e>[^/\s]+)\s*/\s*(?P<f>[^/]+))"
)


def unwrap(text: str) -> str:
    r"""The text without the `$…$`, `\text{…}`, brackets, stars and full stop around it."""
    text, before = text.strip(), None
    while text != before:
        before = text
        for wrapper in _WRAPPERS:
            if match := re.fullmatch(wrapper, text, re.DOTALL):
                text = match[1].strip()
    return text


def without_macros(text: str) -> str:
    r"""The text with `\text{…}` and similar macros replaced by their content."""
    return _TEXT.sub(r"\1", text)


def number(text: str) -> Fraction | None:
    r"""The exact number that an answer states, or None.

    Reads thousands (`1,110`, `1{,}110`), decimals, `1.11e3`, `1.11 \times 10^{3}`, fractions and mixed numbers, inside
    `$…$`, `\(…\)`, `\text{…}`, `x = …` and before a full stop. Commas must separate groups of three digits.
    """
    if len(text) > LONGEST:
        return None
    text = unwrap(_GROUP.sub(",", _MINUS.sub("-", text)))
    while (match := _EQUATION.fullmatch(text)) and not _LISTED.search(match["left"]):
        text = unwrap(match["right"])
    text = _BARE_POWER.sub(r"1e\1\2", _POWER.sub(r"e\1\2", text))
    if match := _DECIMAL.fullmatch(text):
        return _decimal(match)
    if match := _FRACTION.fullmatch(text):
        above, below = (_DECIMAL.fullmatch(next(filter(None, match.group(*part))).strip()) for part in ("abe", "cdf"))
        if above and below and _decimal(below) != 0:
            value = int(match["whole"] or 0) + _decimal(above) / _decimal(below)
            return -value if match["sign"] == "-" else value
    return None


def _decimal(match: re.Match[str]) -> Fraction:
    value = Fraction("0" + match[2].replace(",", "").rstrip(".")) * Fraction(10) ** int(match[3] or 0)
    return -value if match[1] == "-" else value


_CURRENCY = r"(?:\\?\$|[€£¥₹]|\b(?:USD|EUR|GBP|US\\?\$)\s)"
_MAGNITUDES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_AMOUNT = re.compile(
    rf"(?:[A-Za-z ]+:\s*|(?:about|approximately|≈|\\approx)\s*)?(?P<sign>[+-]?)\s*(?:{_CURRENCY})?\s*"
    r"(?P<number>[+-]?(?:[0-9]+\s*)?\\[dt]?frac\s*(?:\{[^{}]*\}|[0-9])\s*(?:\{[^{}]*\}|[0-9])|[+-]?[0-9.][0-9,.\s]*(?:/\s*[0-9][0-9,.]*)?)"
    rf"\s*(?P<percent>\\?%|percent\b)?(?:\s*{_CURRENCY})?\s*(?:°|\^\s*\{{?\s*\\circ\s*\}}?)?"
    rf"\s*(?P<magnitude>{'|'.join(_MAGNITUDES)})?(?:\s*/?\s*\(?[A-Za-z][\sA-Za-z./'-]*\)?(?:\^\s*\{{?[23]\}}?)?)?\s*;?"
)


def amount(text: str) -> tuple[Fraction, bool] | None:
    """The number in an answer, and whether it is a percentage; None for no number or several.

    Reads what `number` reads, and `$18`, `18 dollars`, `18 km/h`, `18 cm^2`, `18 thousand`, `45°`, `50%`.
    """
    if (value := number(text)) is not None:
        return value, False
    if len(text) > LONGEST:
        return None
    text = unwrap(without_macros(re.sub(r"\\[,;: ](?![0-9])", " ", _MINUS.sub("-", text))))  # thin spaces
    if (match := _EQUATION.fullmatch(text)) and not _LISTED.search(match["left"]):
        text = unwrap(match["right"])
    if not (match := _AMOUNT.fullmatch(text)) or (value := number(match["number"])) is None:
        return None
    value *= _MAGNITUDES.get(match["magnitude"], 1) * (-1 if match["sign"] == "-" else 1)
    return value, match["percent"] is not None


def same_amount(given: tuple[Fraction, bool], gold: tuple[Fraction, bool]) -> bool:
    """Whether two amounts are the same; if only one has a percent sign, `50%` is 50 as well as 0.5."""
    (x, x_percent), (y, y_percent) = given, gold
    return x == y or (x_percent and not y_percent and x == 100 * y) or (y_percent and not x_percent and y == 100 * x)


_LETTER = re.compile(
    r"(?:(?:the )?(?:correct |final |best )?(?:answer|option|choice)\s*(?:is\b)?\s*:?\s*)?"
    r"(?:[(\[](?P<a>[A-Z])[)\]]"
    r"|(?P<b>[A-Z])(?:\Z|[).:]|\s+[-–—]\s|,?\s+(?:since|because|is (?:the )?(?:correct|right))\b))[).:]*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)


def letter(text: str) -> str | None:
    """The option that an answer names, as a capital: `B`, `(b)`, `B. text`, not `A plant cell`; None for several."""
    if len(text) > 10 * LONGEST:
        return None
    text = unwrap(without_macros(text).translate(str.maketrans("АВСЕНІЈ", "ABCEHIJ")))  # Cyrillic capitals
    match = _LETTER.match(re.sub(r"\A\[\s*(.*?)\s*\]\Z", r"\1", text, flags=re.DOTALL))
    if not match or re.match(r"\s*(?:,|/|&|and\b|or\b)|.*\([A-Z]\)", match["rest"], re.DOTALL):  # none, or another too
        return None
    return str(match["a"] or match["b"]).upper()


_VALIDITY = re.compile(
    r"(?:(?:the|this) argument is |it is )?(?P<not>not )?(?:deductively |logically )?(?P<in>in)?valid"
    r"(?: argument)?(?: \((?!.*valid).*)?"
)
_YES_OR_NO = re.compile(r"(?P<word>yes|no)(?:\s*[.,;:!(–—-](?!.*\b(?:yes|no)\b).*)?", re.DOTALL)


def verdict(text: str) -> str | None:
    """`valid`, `invalid`, `yes` or `no`; None for anything else and for both."""
    words = unwrap(without_macros(unwrap(text))).rstrip(".! ").lower()
    if match := _VALIDITY.fullmatch(words):
        return "invalid" if bool(match["not"]) != bool(match["in"]) else "valid"
    match = _YES_OR_NO.fullmatch(words) if len(words) <= LONGEST else None
    return match and match["word"]


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
    x, y = (number(text.removesuffix("%").removesuffix("\\")) for text in (given, gold))
    if x is not None and y is not None:
        return same_amount((x, given.endswith(("%", "\\"))), (y, gold.endswith(("%", "\\"))))
    macros = re.compile(r"\\[a-zA-Z]+")
    return not any(_WORD.search(macros.sub(" ", text)) for text in (given, gold)) and equivalent(gold, given)


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

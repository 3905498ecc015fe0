"""Finding the answer in a text and reading it: numbers, amounts, letters."""

from __future__ import annotations

import re
from fractions import Fraction

_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_BRACE = re.compile(r"(\\+(?:boxed|fbox)\s*\{)|\\.|[{}]", re.DOTALL)
_CUE = re.compile(r"(?:####|\banswer\s*\**\s*(?:is\b|[:=]))[\s:*_]*(?P<answer>[^\n]*)", re.IGNORECASE)


def boxed(text: str) -> str | None:
    r"""The content of the last balanced `\boxed{…}`, or None; of nested boxes, the innermost."""
    opened: list[int | None] = []  # where the content of each open brace starts, None if it is not a box
    last: tuple[int, int] | None = None
    for brace in _BRACE.finditer(text):
        if brace[1] or brace[0] == "{":
            opened.append(brace.end() if brace[1] else None)
        elif brace[0] == "}" and opened:
            start = opened.pop()
            if start is not None and (last is None or start > last[0]):
                last = (start, brace.start())
    return None if last is None else text[last[0] : last[1]].strip()


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


LONGEST = 100
"""Anything longer is not an answer; the limit also keeps arithmetic on hostile digits cheap."""
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
    """The option that an answer names, as a capital: `B`, `(b)`, `B. its text`, `Option B`; None for none or several.

    A letter that starts a sentence (`A plant cell`) is a word, not an option.
    """
    if len(text) > 10 * LONGEST:
        return None
    text = unwrap(without_macros(text).translate(str.maketrans("АВСЕНІЈ", "ABCEHIJ")))  # Cyrillic capitals
    match = _LETTER.match(re.sub(r"\A\[\s*(.*?)\s*\]\Z", r"\1", text, flags=re.DOTALL))
    if not match or re.match(r"\s*(?:,|/|&|and\b|or\b)|.*\([A-Z]\)", match["rest"], re.DOTALL):  # none, or another too
        return None
    return str(match["a"] or match["b"]).upper()

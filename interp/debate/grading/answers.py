"""Finding the answer in a text, and reading it: numbers, amounts, letters, mathematics with the habits of LaTeX."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any
from unicodedata import normalize

from interp.debate.grading.equivalence import equivalent

_BOX = re.compile(r"\\(?:boxed|fbox)\b")
_BRACE = re.compile(r"(?P<escapes>\\*+)(?:(?P<box>(?<=\\)(?:boxed|fbox)\s*+\{)|(?P<brace>[{}]))|\\++")
_THOUGHT = re.compile(
    r"(?:[<◁]|\[(?=/?think\]))(?P<end>/?)(?:seed:)?(?P<name>think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad)[>\]▷]"
    r"|<\|(?:begin_of_|start_)(?P<begun>thought|thinking)\|>|<\|end_(?:of_)?(?P<ended>thought|thinking)\|>"
    r"|<\|channel\|>(?:(?P<open>analysis|commentary)|final)(?:<\|message\|>)?|\A(?P<bare>analysis)(?=[A-Z])|assistantfinal",
    re.IGNORECASE,
)
_CUE = re.compile(
    r"""\#{4,}+|<answer>
    |(?:\A|[\n#*|]\ ?)(?:(?:the|my|final|correct)\ ){0,2}answer[*_\ \t]*+[\n|]  # a heading, the cell before in a table
    |(?<![a-z])(?:answer|(?:my|correct|right|best|final)\ (?:option|choice))
        (?:,[^,.\n]{1,40},|\ to\ (?:the|this|your)\ \w{1,20})?
        [\s*_"]*+(?:(?:is|was|(?:would|should|must)\ be)\b|[:=→]|->|[-–—](?=\s)|(?=\([A-Z]\)))
    |\b(?:option|choice)\ (?P<named>\(?[A-Z]\)?)\ is\ (?:the\ )?(?:correct|right|best)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_LEAD = re.compile(
    r"(?:[\s:*_|,\"…]|\.{2,}+|(?:therefore|thus|then|definitely|clearly|simply|indeed|in fact|now|still|equal to)\b"
    r"|the(?=\s[0-9$\\]))*+"
)
_REMARK = re.compile(
    r"(?:(?:\w+ly )?(?:not|never|neither|no longer)\b"  # a denial
    r"|(?:in|correct|right|wrong|clear|helpful|consistent|reasonable|above|below|found|obtained|written|shown)\b|\Z)",
    re.IGNORECASE,
)
_AFTER = re.compile(  # where the answer ends: a sentence, a clause that explains or contrasts, a remark in brackets
    r"[.!?…]++[*_\"')\]]*+(?:\s|\Z)|\ \((?=[a-z]{2,}\b|[0-9.]+[)\s])"
    r"|(?<!\s)(?:(?:,?\s+and|,)\s+not|,\s+(?:about|approximately|roughly))\b"
    r"|(?<!\s)[,;]?\s++(?:[-–—]\s)?(?:because|since|as|which|where|so|for|given|when|if|i\.e\.|rather|instead|but|though)\b"
)
_MARK_UP = re.compile(r"<\|\w+\|>|</?\w{1,20}>|\*\*(?!\w)|(?<!\w)\*\*|[\u2600-\u27bf\ufe0f\U0001f000-\U0001faff]")
_LAST_LINE = re.compile(  # in bold with a number or one of the tasks' answers, or an option
    r"\*\*(?=[^*]*[0-9]|(?:\(?[A-Z]\)?|(?i:yes|no|valid|invalid|unknown|do it|do not))\W)[^*]+\*\*\.?|\(?[A-Z]\)?\.?"
)
_TAKEN_BACK = re.compile(
    r"\b(?:wait|no|actually|correct(?:ion|ed|ing)|mistake|error|oops|sorry|wrong|rather|instead)\b", re.I
)


def spoken(text: str) -> str:
    """The text outside thoughts (`<think>…</think>` and its kind); nothing if it breaks off inside one.

    A lone `</think>` ends a thought that the prompt began.
    """
    said, start, inside, any_yet = "", 0, None, False
    for mark in _THOUGHT.finditer(text):
        name = (mark["name"] or mark["begun"] or mark["ended"] or "channel").lower()
        if (mark["name"] and not mark["end"]) or mark["begun"] or mark["open"] or mark["bare"]:
            if inside is None:
                said, inside, any_yet = said + text[start : mark.start()], name, True
        elif inside == name or not any_yet:
            start, inside = mark.end(), None
            any_yet = True
    return said + text[start:] if inside is None else ""


def _last_box(text: str) -> tuple[int, int]:
    opened, start, end = list[int](), -1, -1  # where the content of each open brace begins if it is a box, else -1
    for mark in _BRACE.finditer(text):
        brace = mark["brace"] if len(mark["escapes"] or "") % 2 == 0 else None
        if mark["box"] or brace == "{":
            opened.append(mark.end() if mark["box"] else -1)
        elif brace == "}" and opened and (opening := opened.pop()) > start:
            start, end = opening, mark.end("escapes")
    return start, end


def boxed(text: str) -> str | None:
    r"""The content of the last balanced `\boxed{…}`, or None; of nested boxes, the innermost."""
    start, end = _last_box(text)
    return None if start < 0 else text[start:end].strip()


def is_remark(text: str) -> bool:
    """Whether what follows "the answer is" only speaks about it: `not 30`, `correct`, `in the box above`."""
    return _REMARK.match(text) is not None


def stated(text: str, read: Callable[[str], Any]) -> str | None:
    """The answer that a text states outside its thoughts, or None.

    It is what the last box holds, or stands behind a later cue ("the answer is") once the text took the box back;
    without any box, what stands behind the last cue, or a last line that is bold or an option. A remark behind a cue
    (`not 30`, `correct`) is skipped unless `read` can read it.
    """
    text = spoken(text)
    start, end = _last_box(text)
    after = max([end, *(mark.end() for mark in _BOX.finditer(text))])
    taken_back = _TAKEN_BACK.search(text, after) if after >= 0 else None
    for place, content in _cued(text, max(after, 0)):
        if after >= 0 and not (taken_back and taken_back.start() < place):
            break
        if content and (read(content) is not None or (after < 0 and not is_remark(content))):
            return content
    if after >= 0:
        answer = text[start:end].strip() if start >= 0 else None
        return answer and next((content for _, content in _cued(without_macros(answer)) if content), answer)
    last = text.rstrip().rpartition("\n")[2].strip()
    return last if _LAST_LINE.fullmatch(last) else None


def stated_or_bare(text: str, read: Callable[[str], Any]) -> str | None:
    """The stated answer, or the whole of a text without a box, which may itself be an answer."""
    answer = stated(text, read)
    return spoken(text) if answer is None and not _BOX.search(text) else answer


def _cued(text: str, start: int = 0) -> Iterator[tuple[int, str]]:
    """Where each cue is and what stands behind it, from the last to the first."""
    until = len(text)
    for cue in reversed([*_CUE.finditer(text, start)]):
        yield cue.start(), cue["named"] or _content(text, cue, until)
        until = cue.start()


def _content(text: str, cue: re.Match[str], until: int) -> str:
    lead = _LEAD.match(text, cue.end(), until)
    at = lead.end() if lead else until
    for opening, closing in (("$$", "$$"), ("\\[", "\\]")):
        if text.startswith(opening, at) and (close := text.find(closing, at + 2, until)) > 0:
            return text[at + 2 : close].strip()
    line = text[at : min(until, at + 10 * LONGEST)].partition("|" if cue[0].endswith("|") else "\n")[0]
    content = _AFTER.split(_MARK_UP.sub("", line), maxsplit=1)[0].strip()
    return content.rstrip('"}, ' if '"' in text[cue.start() : at] else "*_ ")  # of JSON, or of words in bold


LONGEST = 100  # anything longer is not an answer, which also keeps arithmetic on hostile digits cheap
_WRAPPERS = [
    re.compile(wrapper, re.DOTALL)
    for wrapper in (
        r"\\?\$(.*?)(?:\\?\$)?",  # $…$ as mathematics, $1110 as money
        *(r"\\\((.*)\\\)", r"\\\[(.*)\\\]"),
        r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox|boxed|fbox)\s*\{(.*)\}",
        *(r"\{(.*)\}", r"\((.*)\)", r"\*(.*)\*", r"__(.*)__", r"[\"'“‘`](.*)[\"'”’`]", r"(.*[^.])\."),
        *(r"(?:\\[,;:! ]|~)(.*)", r"(.*?)(?:(?<!\\)\\[,;:! ]|~)"),
    )
]
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


_MAGNITUDES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9}
_UP_TO_19 = (
    "zero one two three four five six seven eight nine ten "
    "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SMALL = {word: i for i, word in enumerate(re.findall(r"\w+", _UP_TO_19))}
_SMALL |= {word: 10 * i for i, word in enumerate(re.findall(r"\w+", _TENS), start=2)}
_ANY, _ONES, _TENS = ("|".join([*_SMALL][part]) for part in (slice(None), slice(1, 10), slice(20, None)))
_WORDS = re.compile(rf"\b(?:(?:({_TENS})[\s-])?({_ONES})|({_ANY}))\b", re.IGNORECASE)
_BELOW = {"hal": 2, "thi": 3, "qua": 4, "fou": 4, "fif": 5, "six": 6, "eig": 8}
_PART = re.compile(rf"(?i)\b({_ANY}|an?)[\s-](half|halves|(?:third|quarter|fourth|fifth|sixth|eighth)s?)\b")
_TH = r"(?:\\(?:text|textrm|mathrm|mbox)\s?\{\s?(?:st|nd|rd|th)\s?\}|(?:st|nd|rd|th)\b)"
_ORDINAL = re.compile(rf"(?<=[0-9])\s?(?:\^\s?\{{\s?{_TH}\s?\}}|\^?\s?{_TH})")


def in_digits(text: str) -> str:
    """The text with `twenty-one`, `minus`, `a dozen`, `two and a half`, `½` and `12th` as digits and signs."""
    if text.isascii() and not re.search("[A-Za-z]", text):
        return text
    text = _ORDINAL.sub("", _MINUS.sub("-", re.sub("[¼-¾⅐-⅞]", lambda part: " " + normalize("NFKC", part[0]), text)))
    text = re.sub(r"\b(?:minus|negative)\s+", "-", text.replace("\u2044", "/"), flags=re.IGNORECASE)
    text = _PART.sub(lambda m: f"{_SMALL.get(m[1].lower(), 1)}/{_BELOW[m[2][:3].lower()]}", text)
    text = _WORDS.sub(lambda m: str(sum(_SMALL[part.lower()] for part in m.groups() if part)), text)
    text = re.sub(rf"\ban?\s+(?={'|'.join(_MAGNITUDES)})", "1 ", text, flags=re.IGNORECASE)
    return re.sub(r"(?<=[0-9])\s+and\s+(?=[0-9]+/[0-9])", " ", text)


def unwrap(text: str) -> str:
    r"""The text without the `$…$`, `\text{…}`, brackets, stars and full stop around it."""
    text, before = text.strip(), None
    while text != before and not text.isalnum():
        before = text
        for wrapper in _WRAPPERS:
            if match := wrapper.fullmatch(text):
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
    text = unwrap(_GROUP.sub(",", unwrap(in_digits(text))))
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


_CURRENCY = r"(?:(?:US)?\\?\$|[€£¥₹]|\b(?:USD|EUR|GBP)\s)"
_UNITS = (  # words that say more than a unit are none
    r"(?:\s*/?\s*\(?(?!.*\b(?:and|or|is|are|was|were|plus|minus|times|half)\b)[A-Za-z]"
    r"[\sA-Za-z./'-]*\)?(?:\^\s*\{?[23]\}?|[²³])?)"
)
_HEDGE = r"(?:about|approximately|exactly|only|just|the|a total of|≈|\\approx)\s*"
_AMOUNT = re.compile(
    rf"(?:[A-Za-z ]+:\s*|{_HEDGE})?(?P<sign>[+-]?)\s*(?:{_CURRENCY})?\s*"
    r"(?P<number>[+-]?(?:[0-9]+\s*)?\\[dt]?frac\s*(?:\{[^{}]*\}|[0-9])\s*(?:\{[^{}]*\}|[0-9])|[+-]?[0-9.][0-9,.\s]*(?:/\s*[0-9][0-9,.]*)?)"
    rf"\s*(?P<percent>\\?%|per ?cent\b)?(?:\s*{_CURRENCY})?\s*(?:°|\^\s*\{{?\s*\\circ\s*\}}?)?"
    rf"\s*(?P<magnitude>{'|'.join(_MAGNITUDES)})?{_UNITS}?\s*;?"
)


def amount(text: str) -> tuple[Fraction, bool] | None:
    """The number in an answer, and whether it is a percentage; None for no number or several.

    Reads what `number` reads, and `$18`, `18 dollars`, `18 km/h`, `18 cm^2`, `18 thousand`, `45°`, `50%`.
    """
    if (value := number(text)) is not None:
        return value, False
    if len(text) > LONGEST:
        return None
    text = unwrap(without_macros(re.sub(r"\\[,;: ](?![0-9])", " ", in_digits(text))))  # thin spaces
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
    words = unwrap(without_macros(unwrap(text[: 10 * LONGEST]))).rstrip(".! ").lower()
    if match := _VALIDITY.fullmatch(words):
        return "invalid" if bool(match["not"]) != bool(match["in"]) else "valid"
    match = _YES_OR_NO.fullmatch(words) if len(words) <= LONGEST else None
    return match and match["word"]


_SPACING = re.compile(r"\\(?:left|right|big[lr]?|Big[lr]?|displaystyle)(?![a-zA-Z])|(?<!\\)\\[!;:,]")
_UNIT = re.compile(
    r"(?:(?<=[0-9}$])|(?<=\\pi))\s*(?:\\(?:text|textrm|mathrm|mbox)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?|\^\s*\{?\s*\\circ\s*\}?|°"
    r"|\s+(?!or\b|and\b)[A-Za-z]{3,}(?:\s+[A-Za-z]{2,})*)\Z"
)
_OR = re.compile(r"\\(?:text|mbox)\s*\{\s*(?:,?\s*or|,?\s*and)\s*\}|\b(?:or|and)\b|\\(?:lor|land|vee|wedge)\b")
_SPELLED = {
    **{"<=": r"\le ", ">=": r"\ge ", "≤": r"\le ", "≥": r"\ge ", "**": "^", "\u2212": "-", "²": "^2", "³": "^3"},
    **{r"\$": "", r",\!": "", "{,}": "", r"\lbrace": r"\{", r"\rbrace": r"\}", r"\degree": r"^\circ"},
    **{r"\varnothing": r"\emptyset", "∞": r"\infty ", "∪": r"\cup ", "π": r"\pi ", "√": r"\sqrt ", "×": r"\times "},
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
    macros = re.compile(r"\\(?:begin|end)\{[a-z]+\}|\\[a-zA-Z]+")
    return not any(_WORD.search(macros.sub(" ", text)) for text in (given, gold)) and equivalent(gold, given)


def _tidy(text: str) -> str:
    text = text.strip().strip("$").removeprefix(r"\(").removesuffix(r"\)").rstrip(". \\")
    text = re.sub(r"\A\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}\Z", r"\1", text)
    for spelled, latex in _SPELLED.items():
        text = text.replace(spelled, latex)
    text = re.sub(r"(?<!\\)\\ |[~\n]", " ", text)
    text = re.sub(r"\\\\\[[^\[\]]{1,9}\]", r"\\\\", text)  # room between the rows of a matrix
    text = re.sub(r"\A\\\{\s*[a-z]\s*(?::|\||\\mid)(.*)\\\}\Z", r"\1", text)  # {x : …}
    text = _SPACING.sub("", re.sub(r"(?:,\s*){2,}", ", ", _OR.sub(" , ", _UNIT.sub("", text))))
    text = re.sub(r"(?<!\\)\bsqrt\s*\(([^()]*)\)", r"\\sqrt{\1}", re.sub(r"\A[a-zA-Z]\s*\\in\b", "", text))
    if text.count(r"\pm") == 1:
        text = text.replace(r"\pm", "+") + " , " + text.replace(r"\pm", "-")
    return text.strip("$ \n")

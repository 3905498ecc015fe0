"""Numbers in the documents: `python tests/documents.py --write` renders every passage of results again.

A passage stands between `<!-- tests/passages/NAME.md -->` and `<!-- end -->`. That file is its Jinja template: every
result in it is an expression over what `tests/shipped.py` reads. All other numbers, in a template or in a document,
are named with the reason in `tests/passages/exceptions.toml`.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import jinja2
import shipped
from jinja2 import nodes

ROOT = Path(__file__).resolve().parents[1]
PASSAGES = ROOT / "tests/passages"
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "notebooks").glob("*.ipynb")])
EXCEPTIONS: dict[str, dict[str, list[str]]] = tomllib.loads((PASSAGES / "exceptions.toml").read_text("utf-8"))
PASSAGE = re.compile(r"(<!-- tests/passages/([\w-]+)\.md -->\n)(.*?)(<!-- end -->)", re.DOTALL)
WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|twenty|hundred|half|twice"
NUMBER = re.compile(r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9_][-.,])\d(?:[\d,]*\.?\d+)*(?![\w]|-[A-Za-z])")
NUMBER_WORD = re.compile(rf"\b(?:{WORDS})\b", re.IGNORECASE)
LABEL = re.compile(
    r"\b(agents?|layers?|stage|rounds?|seats?|seeds?|notebook|Python)\s\d[\d.]*((,| and| or)\s\d+)*|95 % intervals?|"
    r"\bcoefficient 0(?!\.?\d)|^(#+ )?\d+(\.| ·) ",
    re.IGNORECASE | re.MULTILINE,
)
"""What is numbered, or named with a number; "95 % interval" names its kind."""
COMMANDS = ("$ ", "interp ", "python ", "python3 ", "make ", "pip ", "accelerate ", "transformers ", "source ")
_START, _END = "\x02", "\x03"  # around what an expression gave


def _marked(value: object) -> str:
    return f"{_START}{value}{_END}" if str(value) else ""


_JINJA = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PASSAGES),
    undefined=jinja2.StrictUndefined,
    finalize=_marked,
    extensions=["jinja2.ext.do"],
    trim_blocks=True,
    lstrip_blocks=True,
)
_JINJA.filters.update(shipped.FORMATS)
_JINJA.globals = shipped.LOOKUPS  # nothing else: no range, no dict


def template(text: str) -> jinja2.Template:
    """A template from its text."""
    return _JINJA.from_string(text)


@cache
def marked(name: str) -> str:
    """A passage with marks around what was looked up. Raises `AssertionError` where a claim no longer holds."""
    return _JINJA.get_template(f"{name}.md").render()


def rendered(name: str) -> str:
    """A passage as it stands in its document, wrapped."""
    return wrapped(re.sub(f"[{_START}{_END}]", "", marked(name)))


def wrapped(text: str) -> str:
    """Paragraphs and items of lists in lines of 120 characters, not broken at \xa0; tables and code as they are."""
    lines: list[str] = []
    code = False
    for line in text.splitlines():
        fence = line.lstrip().startswith("```")
        plain = not (code or fence or not line or line.startswith("|"))
        starts = bool(re.match(r"\s*- |\*\*|#|<", line)) or not lines or not lines[-1] or lines[-1].startswith("|")
        code ^= fence
        if plain and not starts and not lines[-1].lstrip().startswith("```"):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line)
    filled = []
    code = False
    for line in lines:
        code ^= line.lstrip().startswith("```")
        if code or "```" in line or line.startswith("|") or not line:
            filled.append(line)
        else:
            indent = "  " if re.match(r"\s*- ", line) else ""
            how = {"break_long_words": False, "break_on_hyphens": False}
            filled += textwrap.wrap(line.replace(" %", "\xa0%"), 120, subsequent_indent=indent, **how)
    return "\n".join(filled).replace("\xa0", " ").strip("\n") + "\n"


def texts(path: Path) -> list[str]:
    """The text of a document, or of each Markdown cell of a notebook."""
    if path.suffix == ".md":
        return [path.read_text("utf-8")]
    return ["".join(c["source"]) for c in json.loads(path.read_text("utf-8"))["cells"] if c["cell_type"] == "markdown"]


def outdated(text: str) -> list[str]:
    """The passages that do not stand in the text as they are rendered."""
    return [name for _, name, stands, _ in PASSAGE.findall(text) if stands != rendered(name)]


def unlooked(text: str) -> str:
    """The text without code and without what was looked up; passages between \x04 and \x05."""

    def blanked(found: re.Match[str]) -> str:
        return f"\x04{re.sub(f'{_START}[^{_START}{_END}]*{_END}', '…', marked(found[2]))}\x05"

    return without_code(PASSAGE.sub(blanked, text))


def by_hand(text: str, exceptions: list[str]) -> list[str]:
    """Numbers that were neither looked up nor excepted, each with the words around it."""
    prose = unlooked(text)
    known = [found.span() for pattern in [*map(excepted, exceptions), LABEL] for found in pattern.finditer(prose)]
    passages = [found.span() for found in re.finditer("\x04[^\x05]*\x05", prose)]
    numbers = list(NUMBER.finditer(prose))
    numbers += [n for n in NUMBER_WORD.finditer(prose) if any(a <= n.start() < b for a, b in passages)]
    hand = [n for n in numbers if not any(a <= n.start() and n.end() <= b for a, b in known)]
    return [" ".join(prose[max(0, n.start() - 40) : n.end() + 40].split()) for n in hand]


def excepted(snippet: str) -> re.Pattern[str]:
    """Where a snippet stands; its `…` is up to 2,000 characters of anything."""
    parts = (r"\s+".join(map(re.escape, part.split())) for part in snippet.split("…"))
    return re.compile(r"\s*.{0,2000}?\s*".join(parts), re.DOTALL)


def without_code(text: str) -> str:
    """The text with commands, options, Python, addresses and comments blanked, at the same places."""

    def blank(found: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", found[0])

    def without_commands(found: re.Match[str]) -> str:
        kept, goes_on = [], False
        for line in found[0].split("\n"):
            command = goes_on or line.startswith(COMMANDS)
            goes_on = command and line.endswith("\\")
            kept.append(" " * len(line) if command or found[1] == "python" or "```" in line else line)
        return "\n".join(kept)

    text = re.sub(r"^ *```(\w*)\n.*?^ *```", without_commands, text, flags=re.DOTALL | re.MULTILINE)
    commands = "|".join(map(re.escape, (*COMMANDS, "--", "torch==")))
    text = re.sub(rf"`(?:{commands})[^`]*`", blank, text)
    return re.sub(r"\]\([^)\s]*\)|https?://\S+|<!--.*?-->", blank, text, flags=re.DOTALL)


def constants(name: str) -> list[int]:
    """The lines of a template that put out, keep or go through numbers that were not looked up."""
    tree = _JINJA.parse((PASSAGES / f"{name}.md").read_text("utf-8"))
    values = [e for out in tree.find_all(nodes.Output) for e in out.nodes if not isinstance(e, nodes.TemplateData)]
    values += [assigned.node for assigned in tree.find_all(nodes.Assign)]
    values += [loop.iter for loop in tree.find_all(nodes.For)]
    return [value.lineno for value in values if not _looked_up(value) and _has_a_number(value)]


def _looked_up(value: nodes.Node) -> bool:
    return isinstance(value, nodes.Name) or value.find(nodes.Name) is not None


def _has_a_number(value: nodes.Node) -> bool:
    typed = (c.value for c in ([value] if isinstance(value, nodes.Const) else value.find_all(nodes.Const)))
    return any(NUMBER.search(LABEL.sub("", c)) if isinstance(c, str) else isinstance(c, int | float) for c in typed)


def stale(path: Path) -> list[str]:
    """Exceptions of a document that do not stand in it."""
    text = "\n".join(map(unlooked, texts(path)))
    own = EXCEPTIONS.get(path.stem, {}).values()
    return [snippet for snippets in own for snippet in snippets if not excepted(snippet).search(text)]


def exceptions(path: Path) -> list[str]:
    """What may stand in a document without a look-up."""
    tables = (EXCEPTIONS["everywhere"], EXCEPTIONS.get(path.stem, {}))
    return [snippet for table in tables for snippets in table.values() for snippet in snippets]


def names() -> Iterator[str]:
    """All templates."""
    yield from sorted(path.stem for path in PASSAGES.glob("*.md"))


def write() -> None:
    """Put every passage into its document as it is rendered now."""
    for path in DOCUMENTS:
        text = path.read_text("utf-8")
        new = PASSAGE.sub(lambda found: f"{found[1]}{rendered(found[2])}{found[4]}", text)
        if new != text:
            path.write_text(new, "utf-8")
            print(path.relative_to(ROOT))


if __name__ == "__main__":
    assert sys.argv[1:] == ["--write"], __doc__
    write()

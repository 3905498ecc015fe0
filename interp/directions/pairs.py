"""From pairs of texts, a positive and a negative each, to one direction with its evidence."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from interp.activations.corpus import COLUMNS, Corpus, Skip, Tokenization, TurnTable
from interp.debate.agents import Request, chat_messages
from interp.debate.personas import Persona
from interp.debate.transcript import question_key
from interp.directions.contrast import Contrast
from interp.directions.directions import Directions
from interp.directions.extract import Extraction, extracted
from interp.directions.settings import FitSettings
from interp.errors import Progress, UserError
from interp.models.layers import Site
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.storage.rows import table_rows
from interp.storage.text import read_text

SIDES = ("positive", "negative")
Sides = Sequence[tuple[Sequence[int], int]]
"""Of a pair, the token ids of each text with what it follows, and where the text starts."""
FEWEST = 3
"""Groups: a direction, the layer chosen for it and its evidence each need questions of their own."""


@dataclass(frozen=True)
class TextPair:
    """Two texts that differ in one trait.

    >>> interp.directions.TextPair("I love it.", "I hate it.", prompt="The film? ").group
    ''
    """

    positive: str
    negative: str
    group: str = ""
    """Pairs of one group are held out together; without one a pair is a group of its own."""
    prompt: str = ""
    """What both texts follow, as it stands: end it with a blank if they are to be apart."""


def read_pairs(
    path: str | Path | None = None, *, positives: str | Path | None = None, negatives: str | Path | None = None
) -> list[TextPair]:
    """Pairs from a JSON, JSONL, CSV or Parquet file, or from two text files with one text a line.

    A row has `positive` and `negative`, and may have `group` and `prompt`. Raises `UserError` for anything else.

    >>> _ = (tmp_path / "pairs.csv").write_text("positive,negative\\nI love it.,I hate it.")
    >>> interp.directions.read_pairs(tmp_path / "pairs.csv")[0].negative
    'I hate it.'
    """
    if path is not None and positives is negatives is None:
        return [_pair(row, f"{path}, {place}") for place, row in table_rows(path)]
    if path is not None or positives is None or negatives is None:
        raise UserError("pairs: give them with --pairs, or as two text files with --positives and --negatives")
    return _paired(f"{positives}, {negatives}", positive=_lines(positives), negative=_lines(negatives))


def _lines(path: str | Path) -> list[str]:
    lines = read_text(path).removesuffix("\n").split("\n")
    if blank := [i for i, line in enumerate(lines, start=1) if not line.strip()]:
        raise UserError(f"{path}, line {blank[0]}: empty; give a text in every line, or pairs as JSONL with --pairs")
    return lines


def _paired(where: str, **columns: Sequence[Any]) -> list[TextPair]:
    """Pairs from columns of equal length."""
    if len({*map(len, columns.values())}) > 1:
        sizes = ", ".join(f"{len(column):,} of {name}" for name, column in columns.items())
        raise UserError(f"{where}: {sizes}; give as many of each, in the same order")
    rows = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
    return [_pair(row, f"{where}, pair {i}") for i, row in enumerate(rows, start=1)]


def _pair(row: Any, where: str) -> TextPair:
    """The pair of a row."""
    names = [field.name for field in fields(TextPair)]
    if not isinstance(row, dict):
        raise UserError(f"{where}: not a row with names; give an object with a positive and a negative")
    given = {name: value for name, value in row.items() if value is not None and value == value}  # NaN is not itself
    if missing := [name for name in SIDES if name not in given]:
        holds = f"has {', '.join(map(str, given)) or 'nothing'}, but no {' and no '.join(missing)}"
        raise UserError(f"{where}: {holds}; give each pair a positive and a negative, and maybe a group and a prompt")
    if unknown := [name for name in row if name not in names]:
        raise UserError(f"{where}: {unknown[0]!r} is unknown; take it out, or name it one of {', '.join(names)}")
    if isinstance(group := given.get("group"), int | float):
        given["group"] = f"{group:g}"
    if wrong := [name for name, value in given.items() if not isinstance(value, str)]:
        raise UserError(f"{where}: its {wrong[0]} is {given[wrong[0]]!r}, not a text; put it in quotes")
    return TextPair(**given)


def groups(pairs: Sequence[TextPair]) -> list[int]:
    """The first pair of each pair's group; those that share a text are one, or what evaluates would have fitted."""
    of, seen = list(range(len(pairs))), dict[tuple[str, ...], int]()
    for i, pair in enumerate(pairs):
        owners = [(pair.prompt, question_key(pair.positive)), (pair.prompt, question_key(pair.negative))]
        for owner in (*owners, *[(question_key(pair.group),)] * bool(pair.group)):
            first, second = sorted((of[seen.setdefault(owner, i)], of[i]))
            if first != second:
                of = [first if g == second else g for g in of]
    return of


def _compared(pairs: Sequence[TextPair], model: Model, settings: FitSettings, where: str) -> tuple[Corpus, Contrast]:
    """The pairs as a corpus, with a text for a transcript and one turn in each, and which are compared."""
    encode, longest, template = Encoder(model.tokenizer), model.context_length, model.tokenizer.chat_template
    if settings.chat and not template:
        raise UserError(f"{model.name}: has no chat template; leave --chat out")
    kept, skipped, seen = list[tuple[int, Sides]](), list[Skip](), dict[TextPair, int]()
    of = groups(pairs)
    names = {g: pairs[g].group or pairs[g].prompt + pairs[g].positive for g in of}
    for i, pair in enumerate(pairs):
        said, read = f"{where}, pair {i + 1}", list[tuple[Sequence[int], int]]()
        if (first := seen.setdefault(replace(pair, group=""), i)) != i:
            raise UserError(f"{said}: the same as pair {first + 1}; take one of them out")
        if settings.chat and not pair.prompt.strip():
            raise UserError(f"{said}: has no prompt for the chat template; give one, or leave --chat out")
        opening = prompt_tokens(model.tokenizer, [{"role": "user", "content": pair.prompt}]) if settings.chat else []
        for side in SIDES:
            text = getattr(pair, side)
            chatted = settings.chat and ([*opening, *encode.continuation(text)], len(opening))
            read.append(chatted or encode.after(pair.prompt, text))
            if not text.strip() or read[-1][1] >= len(read[-1][0]):
                raise UserError(f"{said}: its {side} text is empty; give a text, or take the pair out")
        if read[0][0] == read[1][0]:
            same = "is the same text on both sides" if pair.positive == pair.negative else "has the same tokens"
            raise UserError(f"{said}: {same} ({pair.positive[:40]!r}); let them differ")
        if (n := max(len(ids) for ids, _ in read)) > (longest or n):
            reason = f"{n:,} tokens, more than the {longest:,} that the model reads"
            if not settings.skip_long:
                raise UserError(f"{said}: {reason}; shorten it, or leave it out with --skip-long")
            skipped.append(Skip(i + 1, names[of[i]], None, reason))
            continue
        kept.append((of[i], read))
    known, question = np.unique([group for group, _ in kept], return_inverse=True)
    if (n := len(known)) < FEWEST:
        too_few = f"{len(kept):,} pairs, of which only {n:,} have no group and no text in common"
        raise UserError(f"{where}: {too_few}; evidence holds some out: give at least {FEWEST} such pairs")
    return _contrasted([read for _, read in kept], question, [names[g] for g in known], settings.label, skipped)


def _contrasted(
    read: Sequence[Sides],
    question: Sequence[int] | np.ndarray,
    names: Sequence[str],
    label: str,
    skipped: Sequence[Skip] = (),
) -> tuple[Corpus, Contrast]:
    """Pairs as a corpus, with a text for a transcript and one turn in each; `question` says which of `names` it has."""
    texts = [(ids, start, i, side) for i, sides in enumerate(read) for side, (ids, start) in enumerate(sides)]
    rows = [(n, question[i], 1 + side, 1, start, start, len(ids)) for n, (ids, start, i, side) in enumerate(texts)]
    columns = dict(zip(COLUMNS, np.array(rows, dtype=np.int64).T, strict=True))
    turns, tokens = TurnTable(**columns, persona=SIDES * len(read)), Tokenization(tokens=sum(row[-1] for row in rows))
    corpus = Corpus([array("i", ids) for ids, *_ in texts], turns, tuple(names), tuple(skipped), tokens)
    table = np.arange(len(rows)).reshape(-1, 2)
    return corpus, Contrast(SIDES, table, np.asarray(question), np.ones(len(table), int), corpus.skipped, label)


def fit_pairs(
    model: Model,
    pairs: Sequence[TextPair],
    out: str | Path | None = None,
    settings: FitSettings | None = None,
    *,
    source: str = "pairs",
    restart: bool = False,
    progress: Progress = lambda *_: None,
    **changes: Any,
) -> Extraction:
    """What `fit` finds, with the projections that a report draws; as `extract_directions`, it resumes in `out`.

    >>> TextPair, sums = interp.directions.TextPair, range(2, 12)
    >>> pairs = [TextPair(f"{a}+1={a + 1}", f"{a}+1={a - 1}") for a in sums]
    >>> found = interp.directions.fit_pairs(model, pairs, layers=[2, 3])
    >>> interp.reports.write_report(found, tmp_path).name
    'report.html'
    """
    settings = replace(settings or FitSettings(), **changes)
    digest = hashlib.sha256(json.dumps([astuple(pair) for pair in pairs]).encode()).hexdigest()
    compared, data = partial(_compared, pairs, model, settings, source), {"source": source, "sha256": digest}
    return extracted(model, compared, out, settings, data, restart=restart, progress=progress)


def fit(
    model: Model,
    positives: Sequence[str],
    negatives: Sequence[str],
    out: str | Path | None = None,
    settings: FitSettings | None = None,
    *,
    groups: Sequence[str] = (),
    prompts: Sequence[str] = (),
    **changes: Any,
) -> Directions:
    """One direction a layer, from the negatives to the positives, with the evidence of `extract_directions`.

    Texts pair up in the order given. `groups` says which pairs are held out together (each alone, by default), and
    `prompts` what both texts of each pair follow. Keyword arguments change fields of `FitSettings`; with `out`,
    `directions.safetensors` and `directions.json` are written there, and a killed call resumes. Raises `UserError` for
    unusable texts.

    >>> right, wrong = ([f"{a}+1={a + step}" for a in range(2, 12)] for step in (1, -1))
    >>> found = interp.fit(model, right, wrong, label="right", layers=[2, 3])
    >>> found.labels, found["right", 2].vector.shape
    (('right',), (128,))
    """
    optional = {name: column for name, column in (("group", groups), ("prompt", prompts)) if column}
    pairs = _paired("pairs", positive=positives, negative=negatives, **optional)
    return fit_pairs(model, pairs, out, settings, **changes).directions


def prompt_contrast(
    model: Model,
    questions: Sequence[str],
    malicious: Persona,
    benign: Persona,
    *,
    layers: Sequence[int] | None = None,
    site: Site = "resid_post",
) -> Directions:
    """One direction a layer: the mean difference at the last prompt token (Latent Agents, suppression).

    A pair, as in `fit`, is a question under both system prompts; no untrained model is read beside it. Raises
    `UserError` without questions, and for personas with the same prompt.

    >>> from interp.debate.personas import TRAIT_PERSONAS
    >>> evil, guardian = TRAIT_PERSONAS["evil"], TRAIT_PERSONAS["guardian"]
    >>> interp.directions.prompt_contrast(model, ["1+1=?", "2+3=?"], evil, guardian).labels
    ('evil',)
    """
    if not questions:
        raise UserError("no questions given; a contrast of prompts needs at least one")
    if malicious.system_prompt == benign.system_prompt:
        raise UserError(f"{malicious.name} and {benign.name}: the same system prompt; give different ones")
    asked = list({question_key(q): q for q in questions}.values())
    chats = [[chat_messages(persona, Request(q, 1)) for persona in (malicious, benign)] for q in asked]
    prompts = [[prompt_tokens(model.tokenizer, chat) for chat in sides] for sides in chats]
    if all(positive == negative for positive, negative in prompts):
        same = f"{malicious.name} and {benign.name}: {model.name} is shown the same prompts for both"
        raise UserError(f"{same}; give personas that its chat template tells apart")
    longest = max(len(ids) for sides in prompts for ids in sides)
    if longest > (model.context_length or longest):
        raise UserError(f"text of {longest:,} tokens: {model.name} reads {model.context_length:,}; shorten it")
    read = [[(ids, len(ids) - 1) for ids in sides] for sides in prompts]
    settings = FitSettings(None if layers is None else tuple(layers), site, label=malicious.name, controls=False)
    compared = partial(_contrasted, read, range(len(asked)), asked, malicious.name)
    return extracted(model, compared, None, settings, {"source": "prompts"}).directions

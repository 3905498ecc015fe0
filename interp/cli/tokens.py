"""`interp tokens`: texts in, a page with each token in the colour of its projection out."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from interp.cli.extract_directions import load
from interp.cli.sweep import OtherModel, tell_taken_for
from interp.debate.embedded import DEBATED, EMBEDDED, find_transcripts
from interp.errors import UserError
from interp.models.layers import parse_layers
from interp.models.settings import ModelSettings
from interp.options import DIRECTIONS, WHOSE, Limit, verb
from interp.outputs import Made, Writes, says
from interp.reports.terminal import Terminal
from interp.storage.text import read_text, suffix

if TYPE_CHECKING:
    from interp.directions.directions import Directions
    from interp.probing.probe import Probe

PAGE = Writes(lambda out, _: [Made([out], partial(says, out, 'content="interp tokens"'))], folder=False)


@verb
def tokens(
    *,
    directions: Annotated[Path, Option(help=f"{DIRECTIONS} A probe's file too.")],
    text: Annotated[
        list[str], Option(help="A text, a file of one, or transcripts (a file or an embedded set); repeat for several.")
    ],
    direction_of: Annotated[list[str] | None, Option(help=f"{WHOSE}; repeat for several.")] = None,
    layers: Annotated[str, Option(help="Layers: all, or numbers and ranges such as 0,10-15.")] = "all",
    chat: Annotated[bool, Option("--chat/--no-chat", help="Read each text as a user's message.")] = False,
    limit: Limit = None,
    other_model: OtherModel = False,
    model: ModelSettings,
    out: Annotated[Path, Option(help="HTML page to write."), PAGE] = Path("tokens.html"),
) -> None:
    """Colour each token of a text by how far it lies along a direction, at every layer, on one page.

    Beside it stands the scale of random directions: a token says something where it lies beyond most of them.

    Example: `interp tokens --directions found/directions.safetensors --text "What is 12*7+5?" --out page.html`
    """
    from interp.directions.directions import Directions, require_made_on
    from interp.reports.tokens import show_tokens

    texts = [each for given in text for each in _read(given, limit)]
    chosen, console = parse_layers(layers), Terminal(soft_wrap=True)
    found = directions_or_probe(directions)
    if isinstance(found, Directions):
        tell_taken_for(console, {directions: found})
    loaded = load(model, console)
    if isinstance(found, Directions) and not other_model:
        require_made_on(found, loaded, directions)
    page = show_tokens(loaded, texts, found, labels=direction_of, layers=chosen, chat=chat)
    page.save(out)
    n = sum(len(one.tokens) for one in page.projections)
    console.print(f"wrote {out}: {n:,} tokens of {len(texts)} text{'s'[: len(texts) != 1]}")


def directions_or_probe(path: Path) -> Directions | Probe:
    """What a file has to colour tokens by. Raises `UserError` for one that has neither."""
    from interp.directions.directions import Directions
    from interp.probing.probe import Probe

    return Probe.load(path) if says(path, "interp.probe/") else Directions.load(path)


def _read(given: str, limit: int | None) -> list[Any]:
    """The transcripts or the text that are meant."""
    if given in (*EMBEDDED, *DEBATED) or (suffix(given) in (".json", ".jsonl") and " " not in given):
        return list(find_transcripts(given)[:limit])
    if os.path.isfile(given):
        return [read_text(given)]
    if len(given.split()) == 1 and (os.path.isdir(given) or suffix(given) in (".txt", ".md")):
        raise UserError(
            f"--text {given}: {'a folder' if os.path.isdir(given) else 'no such file'}; give a text or a file"
        )
    return [given]

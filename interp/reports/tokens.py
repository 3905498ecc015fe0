"""A page of texts in which each token has the colour of its projection on a direction, for files and notebooks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from interp.debate.transcript import Transcript
from interp.directions.directions import Direction, Directions
from interp.directions.tokens import TokenProjections, project_tokens, random_bounds
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.probing.probe import Probe
from interp.storage.files import atomic_write

Shown = str | Transcript
Of = Directions | Direction | Probe | Sequence[Direction]


@dataclass(frozen=True)
class TokenPage:
    """What `show_tokens` gives: a notebook shows it, and `save` writes it.

    >>> interp.show_tokens(model, "3+4", found[2]).save(tmp_path / "page.html").name
    'page.html'
    """

    projections: Sequence[TokenProjections] = field(repr=False)
    """Of each text."""
    html: str = field(repr=False)
    """One page that needs no network and no other file."""

    def save(self, path: str | Path) -> Path:
        """Write the page; an old one is replaced only by a whole new one."""
        with atomic_write(path) as temporary:
            temporary.write_text(self.html, "utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 520px; border: 0"
        return f'<iframe title="Tokens in colour" style="{style}" srcdoc="{escape(self.html)}"></iframe>'


def show_tokens(
    model: Model,
    text: Shown | Sequence[Shown],
    directions: Of,
    *,
    labels: Sequence[str] | None = None,
    layers: Sequence[int] | None = None,
    chat: bool = False,
    relative: bool = False,
) -> TokenPage:
    """Colour each token of a text, or of several, by its projection on each direction at each layer.

    A probe has the direction of its weights towards each class. With `chat` a text is read as a user's message. With
    `relative` the page opens with projections minus their text's median. Raises `UserError` as `project_tokens` does.

    >>> page = interp.show_tokens(model, "3+4*2", found, labels=["agent 2"], layers=[1, 2])
    >>> page.projections[0].values.shape
    (6, 1, 2)
    """
    texts, tokenizer = [text] if isinstance(text, (str, Transcript)) else list(text), model.tokenizer

    def read(one: Shown) -> str | list[int]:
        if isinstance(one, Transcript):
            return Encoder(tokenizer).transcript(one).ids
        return prompt_tokens(tokenizer, [{"role": "user", "content": one}]) if chat and one.strip() else one

    directions = directions.shown if isinstance(directions, Probe) else directions
    directions = [directions] if isinstance(directions, Direction) else directions
    found = project_tokens(model, [read(one) for one in texts], directions, labels=labels, layers=layers)
    names = [one.question if isinstance(one, Transcript) else f"Text {n}" for n, one in enumerate(texts, start=1)]
    best = directions.facts.get("best_layers", []) if isinstance(directions, Directions) else []
    hook_point = directions.hook_point if isinstance(directions, Directions) else directions[0].hook_point
    content = {"model": model.name, "site": hook_point.partition("hook_")[2], "relative": relative}
    return TokenPage(found, _page(names, found, best, content))


def _page(names: Sequence[str], found: Sequence[TokenProjections], best: Sequence[int], content: dict[str, Any]) -> str:
    from markupsafe import Markup

    from interp.reports.page import filled

    def bounds(of: Sequence[TokenProjections]) -> list[float]:
        return [float(f"{bound:.4g}") for bound in random_bounds(of)]

    first = found[0]
    data: dict[str, Any] = {"layers": first.layers, "covariance": first.covariance}
    data |= {"bounds": bounds(found), "bounds_centred": bounds([one.centred for one in found])}
    data["values"] = [one.record()["values"] for one in found]
    data["names"] = [[repr(token) if token else "part of a character" for token in one.tokens] for one in found]
    return filled(
        "tokens.html.jinja",
        (resources.files("interp.reports") / "tokens.js").read_text("utf-8"),
        data=Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        labels=first.labels,
        layers=first.layers,
        start=next((first.layers.index(layer) for layer in best if layer in first.layers), len(first.layers) // 2),
        texts=[{"name": name, "tokens": one.tokens} for name, one in zip(names, found, strict=True)],
        **content,
    )

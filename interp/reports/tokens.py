"""A page of texts in which each token has the colour of its projection on a direction, for files and notebooks."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from interp.debate.transcript import Transcript
from interp.directions.directions import Direction, Directions
from interp.directions.tokens import TokenProjections, project_tokens
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

    if isinstance(directions, Probe):
        classes = directions.classes[len(directions.classes) == 2 :] or ("",)
        directions = [directions.direction(name, "logistic") for name in classes]
    directions = [directions] if isinstance(directions, Direction) else directions
    found = project_tokens(model, [read(one) for one in texts], directions, labels=labels, layers=layers)
    return TokenPage(found, _page(model, texts, found, directions, relative))


def _page(
    model: Model,
    texts: Sequence[Shown],
    found: Sequence[TokenProjections],
    directions: Directions | Sequence[Direction],
    relative: bool,
) -> str:
    import jinja2
    from markupsafe import Markup

    loader = jinja2.PackageLoader("interp.reports", "")
    templates = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, loader=loader
    )
    style, script = (
        Markup((resources.files("interp.reports") / name).read_text("utf-8")) for name in ("page.css", "tokens.js")
    )
    first = found[0]
    records = [one.record() for one in found]
    data: dict[str, Any] = {key: records[0][key] for key in ("layers", "covariance")}
    data["values"] = [record["values"] for record in records]
    data["names"] = [[repr(token) if token else "part of a character" for token in one.tokens] for one in found]
    for name, of in (("bounds", found), ("bounds_centred", [one.centred for one in found])):
        data[name] = [float(f"{x:.4g}") for x in pooled(of)]
    best = directions.facts.get("best_layers", [])[:1] if isinstance(directions, Directions) else []
    start = first.layers.index(best[0]) if best and best[0] in first.layers else len(first.layers) // 2
    hook_point = directions.hook_point if isinstance(directions, Directions) else directions[0].hook_point
    site = hook_point.partition("hook_")[2] or hook_point
    named = [one.question if isinstance(one, Transcript) else f"Text {n}" for n, one in enumerate(texts, start=1)]
    shown = [{"name": name, "tokens": map(visible, one.tokens)} for name, one in zip(named, found, strict=True)]
    digest = b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return templates.get_template("tokens.html.jinja").render(
        title=f"Tokens along {', '.join(first.labels[:3])}{' …' if len(first.labels) > 3 else ''} in {model.name}",
        css=style,
        script=script,
        allowed=Markup(f"'sha256-{digest}'"),
        data=Markup(json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")),
        labels=first.labels,
        layers=first.layers,
        start=start,
        site=site,
        texts=shown,
        relative=relative,
    )


def pooled(found: Sequence[TokenProjections]) -> np.ndarray:
    """Within ± this lie 95 % of the random directions' projections of all texts' tokens, at each layer."""
    return np.asarray(np.quantile(np.abs(np.concatenate([one.random for one in found])), 0.95, axis=(0, 1)))


def visible(token: str) -> str:
    """A token with its line ends marked."""
    return token.replace("\n", "↵\n")

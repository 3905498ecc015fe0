"""`interp watch`: a training as it runs, in the terminal and as a page."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, NotRequired

import typer

from figures.verb import library
from interp.errors import UserError
from interp.options import alone, flag, verb
from interp.outputs import Made, Writes, in_use, says

_STAGES = ("sft", "debategpt", "imad")
_SHOWN = {
    "loss": "loss",
    "length": "length in tokens",
    "limit": "limit in tokens",
    "correctness": "right answers",
    "removed": "taken away",
    "mean_token_accuracy": "tokens right",
}
"""What is shown of the metrics that a stage logs, and its name."""
_BARS = "▁▂▃▄▅▆▇█"
_QUIET = 30.0  # seconds without a change after which a run that no command holds has ended
_CHANGING = ("metrics.jsonl", "samples.json", "transcripts.jsonl", "direct.jsonl", "results/*.jsonl", ".*.resume")


@dataclass(frozen=True)
class Curve:
    """What one stage of one seed logged of one quantity."""

    seed: int
    stage: str
    what: str
    steps: int
    values: Sequence[float]

    def sparkline(self, width: int = 20) -> str:
        """The values from first to last as small bars, each the mean of its share of the steps; flat if all are equal.

        >>> Curve(0, "sft", "loss", 4, [4.0, 2.0, 1.0, 0.5]).sparkline()
        '█▄▂▁'
        """
        n = min(width, len(self.values))
        ends = [round(i * len(self.values) / n) for i in range(n + 1)]
        means = [fmean(self.values[a:b]) for a, b in pairwise(ends)]
        low, high = min(means), max(means)
        return "".join(_BARS[round(7 * (mean - low) / (high - low)) if high > low else 0] for mean in means)


@dataclass(frozen=True)
class Look:
    """What a run's folder holds at one moment."""

    title: str
    state: str
    running: bool
    curves: Sequence[Curve]
    samples: Sequence[Mapping[str, Any]]
    """With `seed`, `when`, `question`, `text` and, of completions in stage 2, `score`."""


def look(folder: Path) -> Look:
    """What the folder of a run, or of one of its seeds, holds now. Raises `UserError` if it is not one."""
    from figures.training_dynamics import read_run
    from interp.training.settings import PRESET_FILE, kept_preset

    if not any(any(folder.glob(name)) for name in (PRESET_FILE, "metrics.jsonl", "seed-*/metrics.jsonl")):
        raise UserError(f"{folder}: not the folder of a training run; give the --out of interp train")
    seeds = {int(at.name[5:]): at for at in sorted(folder.glob("seed-*")) if at.name[5:].isdecimal()} or {0: folder}
    there = any((at / "metrics.jsonl").exists() for at in seeds.values())
    by_seed, preset = read_run(folder) if there else ({}, kept_preset(folder))
    curves = [curve for seed, rows in by_seed.items() for curve in _curves(seed, rows)]
    table = (folder / "table.json").exists()
    done = table or all((at / stage).exists() for at in seeds.values() for stage in _STAGES)
    changed = max((path.stat().st_mtime for at in (folder, *seeds.values()) for path in _changing(at)), default=0.0)
    held = in_use(folder / PRESET_FILE) or in_use(folder.parent / PRESET_FILE)
    running = held or (not done and time.time() - changed < _QUIET)
    if running:
        state = f"running: {_now(by_seed)}"
    elif done:
        state = f"finished{', with its table' * table}: {_now(by_seed)}"
    else:
        state = f"stopped: {_now(by_seed)}; the same interp train goes on"
    samples = [sample for seed, at in seeds.items() for sample in _samples(seed, at)]
    name = f"Training of {preset.name} ({preset.model})" if preset else f"Training in {folder.resolve().name}"
    return Look(name, state, running, curves, samples)


def _curves(seed: int, rows: Sequence[Mapping[str, Any]]) -> Iterator[Curve]:
    for stage in _STAGES:
        here = [row for row in rows if row["stage"] == stage]
        for what in _SHOWN:
            if values := [row[what] for row in here if isinstance(row.get(what), int | float)]:
                yield Curve(seed, stage, what, max(row["step"] for row in here), values)


def _changing(folder: Path) -> Iterator[Path]:
    for name in _CHANGING:
        yield from folder.glob(name)


def _now(by_seed: Mapping[int, Sequence[Mapping[str, Any]]]) -> str:
    last = {seed: rows[-1] for seed, rows in by_seed.items() if rows}
    if not last:
        return "no step yet (the base debates first)"
    seed, row = [*last.items()][-1]
    return f"seed {seed}, {row['stage']}, step {row['step']:,}"


def _samples(seed: int, folder: Path) -> Iterator[dict[str, Any]]:
    """Texts of the last step of stage 2; of a run that has been evaluated, answers of the internalized model."""
    from interp.storage.files import entries, read_json
    from interp.storage.journal import read_lines

    kind: Any = entries(question=str, texts=list[str])
    answers, last = folder / "results" / "imad.jsonl", folder / "samples.json"
    text: Any = entries(question=str, text=str, score=NotRequired[float])
    if answers.exists() and (found := read_lines(answers, kind)[:4]):
        for one in found:
            yield {"seed": seed, "when": "in the table", "question": one["question"], "text": one["texts"][0]}
    elif last.exists():
        kept = read_json(last, entries(stage=str, step=int, samples=list[text]), "samples of a run", "interp train")
        for one in kept["samples"]:
            yield {"seed": seed, "when": f"step {kept['step']:,}", **one}


def _shown(curve: Curve, value: float) -> str:
    return f"{value:.1%}" if curve.what in ("correctness", "mean_token_accuracy") else f"{value:.4g}"


def rows(seen: Look) -> list[tuple[str, ...]]:
    """A row of the table for each curve: seed, stage, steps, what, first value, latest value, curve."""
    found: list[tuple[str, ...]] = []
    for c in seen.curves:
        first, now = (_shown(c, value) for value in (c.values[0], c.values[-1]))
        found.append((str(c.seed), c.stage, f"{c.steps:,}", _SHOWN[c.what], first, now, c.sparkline()))
    return found


HEADINGS = ("seed", "stage", "steps", "", "first", "now", "curve")


def in_terminal(seen: Look) -> Any:
    """What the terminal shows."""
    from rich.console import Group
    from rich.text import Text

    from interp.reports.terminal import table

    curves = table(f"{seen.title}\n{seen.state}", "", HEADINGS, left=("stage", "", "curve"), whole=True)
    for row in rows(seen):
        curves.add_row(*row)
    texts = [f"{one['when']}: {one['question']} → {' '.join(one['text'].split())}"[:240] for one in seen.samples[-4:]]
    return Group(curves, *map(Text, texts))


def page(folder: Path, seen: Look, every: float) -> str:
    """The same as a page, with the figure of stage 2 once it has begun."""
    from figures.training_dynamics import draw
    from interp.reports.page import render

    try:
        drawn = draw(folder)
    except UserError:  # stage 2 has not begun
        drawn = []
    return render("watch.html.jinja", drawn, seen=seen, rows=rows(seen), headings=HEADINGS, every=max(1, round(every)))


def _made(out: Path, _: Any) -> Iterator[Made]:
    yield Made([out], lambda: says(out, 'id="watch"'))
    yield library(out.parent)


@verb
def watch(
    *,
    run: Annotated[Path, typer.Argument(help="Folder of a run: the --out of interp train, or a seed's in it.")],
    every: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds from one look to the next.")] = 2.0,
    once: Annotated[bool, flag("--once", "Look once, even if the run goes on.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Page to write as well, again and again; plotly.min.js goes beside it."),
        Writes(_made, folder=False),
    ] = None,
) -> None:
    """Watch a training: curves, limit, and texts that the model writes, until it ends.

    It may be over, running, or not have begun its first step. Ctrl-C ends the watching, not the training.

    Example: `interp watch out/smollm2 --out watch.html`
    """
    from rich.live import Live

    from interp.reports.page import write_library, write_whole
    from interp.reports.terminal import Terminal

    console, before = Terminal(), ""
    seen = look(run)
    if out:
        write_library(out.parent)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            if out and (now := page(run, seen, every)) != before:
                write_whole(out, now)
                before = now
            live.update(in_terminal(seen), refresh=True)
            if once or not seen.running:
                break
            time.sleep(every)
            seen = look(run)
    console.print(in_terminal(seen))
    if out:
        console.print(f"wrote {out}", soft_wrap=True)


def main() -> None:
    """The command line: `python -m figures.watch RUN`."""
    alone(watch, "figures.watch", help=watch.__doc__)


if __name__ == "__main__":
    main()

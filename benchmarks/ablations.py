"""What each part of stage 2 contributes: `python -m benchmarks.ablations RUN --out OUT`.

RUN is a finished run of `interp train`. Stage 2 is trained again from its SFT checkpoint (or its base) with one
change at a time, each in its own folder, with the questions and the seed of the full procedure, and evaluated on the
questions of the run's table. The same command resumes a killed run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from interp.debate.tasks import make_task
from interp.errors import UserError
from interp.evaluation.accuracy import EvaluationRow, paired, summarize
from interp.models.lineage import Lineage, read_lineage
from interp.options import alone, verb
from interp.outputs import Made, Writes, says
from interp.reports.terminal import Terminal, table, training_bars
from interp.reports.words import bracketed
from interp.statistics import PairedTest
from interp.training.grpo import train_grpo
from interp.training.pipeline import TRANSCRIPTS_FILE, keep_settings, rewarded, seed_folder, table_task
from interp.training.results import ask_checkpoint, stage_hashes, table_seed, when_needed, write_results
from interp.training.run import Progress, Run
from interp.training.settings import PRESET_FILE, Preset, kept_preset

FULL = "full procedure"


@dataclass(frozen=True)
class Variant:
    """The full procedure with one change."""

    name: str
    what: str
    changes: dict[str, str] = field(default_factory=dict)
    """Changes of the preset, as `Preset.override` takes them."""
    from_base: bool = False
    """Start stage 2 from the base."""


CONSENSUS = Variant("consensus", "the debates' consensus is rewarded, right or not", {"grpo.reward": "consensus"})
"""For a run on given debates: stage 2 asks their questions."""


@dataclass(frozen=True)
class Result:
    """The result of a procedure."""

    name: str
    row: EvaluationRow
    limit: int
    """Length limit at the end of stage 2, in tokens."""
    against_full: PairedTest | None
    """Accuracy minus the full procedure's, on the same questions; None for the full procedure."""


def variants(preset: Preset) -> list[Variant]:
    """All variants that differ from a preset in one setting."""
    grpo = preset.grpo
    first = grpo.descent
    return [
        Variant("no-sft", "stage 2 from the base, without stage 1", from_base=True),
        Variant("no-clipping", "the limit stays the first", {"grpo.descent.last_limit": str(first.first_limit)}),
        Variant("no-structure", "tags earn nothing", {"grpo.use_structure": "false"}),
        Variant(
            "fixed-structure",
            "the structure reward never decays",
            {"grpo.descent.last_coefficient": str(first.first_coefficient)},
        ),
        *(
            Variant(name, f"{name} rewards, not {grpo.combine}", {"grpo.combine": name})
            for name in ("additive", "gated")
            if name != grpo.combine
        ),
        *(
            Variant(name, f"schedule {name}, not {grpo.schedule}", {"grpo.schedule": name})
            for name in ("steps", "smooth", "waiting")
            if name != grpo.schedule
        ),
    ]


def ablate(
    run: Path, out: Path, *, only: Sequence[str] = (), seed: int | None = None, progress: Progress | None = None
) -> list[Result]:
    """Train variants of a run's seed (by default its first): those that `only` names, or all; evaluate all trained.

    Writes `out/NAME` for each, and `out/ablations.json`. Raises `UserError` for an unfinished run, an unknown name,
    and an `out` with the ablations of another run.
    """
    preset = kept_preset(run)
    if preset.internalize != "grpo":
        raise UserError(f"{run}: its stage 2 is {preset.internalize}, without the parts to leave out; give one of GRPO")
    seed = preset.seed if seed is None else seed
    folder = seed_folder(run, seed)
    sft, full = (_lineage(folder / name, run) for name in ("sft", "imad"))
    preset = replace(preset, model=sft.base_name)
    given = not (run / TRANSCRIPTS_FILE).with_suffix(".json").exists()
    chosen = {variant.name: variant for variant in [*variants(preset), *[CONSENSUS] * given]}
    if unknown := [name for name in only if name not in chosen]:
        raise UserError(f"--only {unknown[0]}: unknown; choose one of {', '.join(chosen)}")
    keep_settings(out, {"preset": kept_preset(run).record(), "seed": seed, "sft": sft.stages[-1].hash})

    task = make_task(preset.task, **preset.task_options)
    tested, asked = table_task(run, preset), table_seed(preset)

    def told(name: str) -> Progress | None:
        return progress and (lambda what, *rest: progress(f"{name}: {what}", *rest))

    own = Run(folder, replace(preset, seed=seed), told("full"))
    reference = ask_checkpoint(own, "imad", folder / "imad", tested, asked)
    results = [Result(FULL, summarize(reference, FULL, tested.name), _limit(full), None)]
    checkpoints = {FULL: folder / "imad"}
    for variant in chosen.values():
        if only and variant.name not in only and not (out / variant.name / "imad").exists():
            continue
        one = Run(out / variant.name, own.preset.override(variant.changes), told(variant.name))
        start = sft.base_name if variant.from_base else str(folder / "sft")
        with when_needed(preset.model) as base:
            questions, undecided = rewarded(Run(run, preset.override(variant.changes)), task, base)
        checkpoints[variant.name] = train_grpo(one, start, questions, task, undecided=undecided)
        records = ask_checkpoint(one, variant.name, checkpoints[variant.name], tested, asked)
        row = summarize(records, variant.name, tested.name)
        limit = _limit(_lineage(checkpoints[variant.name], out))
        results.append(Result(variant.name, row, limit, paired(records, reference)))
    kept = [asdict(result) | {"row": result.row.record()} for result in results]
    made_by = {"seed": seed, "checkpoints": stage_hashes(checkpoints)}
    changed = {name: asdict(chosen[name]) for name in checkpoints if name in chosen}
    write_results(out / "ablations.json", {"rows": kept, "variants": changed}, preset, tested, made_by)
    return results


def ablation_table(results: Sequence[Result]) -> Table:
    """One row per procedure."""
    made = table(
        f"Stage 2 with one change, on {results[0].row.questions:,} questions that no stage has seen",
        "accuracy: 95 % interval; out: tokens written per question; limit: at the end, in tokens\n"
        "− full: accuracy minus the full procedure's, on the same questions; p: exact sign-flip test",
        ("procedure", "accuracy", "out", "limit", "− full", "p"),
        left=("procedure",),
    )
    for result in results:
        accuracy, test = result.row.accuracy, result.against_full
        against = ("", "")
        if test is not None:
            difference = test.difference
            against = bracketed(difference.mean, difference.low, difference.high, digits=3), f"{test.p:.2g}"
        shown = bracketed(accuracy.mean, accuracy.low, accuracy.high, digits=3)
        made.add_row(result.name, shown, f"{result.row.output_tokens:,.1f}", f"{result.limit:,}", *against)
    return made


def _lineage(checkpoint: Path, run: Path) -> Lineage:
    found = read_lineage(str(checkpoint))
    if found is None:
        raise UserError(
            f"{run}: {checkpoint.parent.name}/{checkpoint.name} is not finished; run the same interp train again"
        )
    return found


def _limit(lineage: Lineage) -> int:
    return int(lineage.stages[-1].facts["schedule"]["limit"])


def _made(out: Path, _: object) -> list[Made]:
    settings = out / PRESET_FILE
    return [Made([settings, *out.glob("*")], lambda: says(settings, '"sft"'), [settings])]


@verb
def ablations(
    *,
    run: Annotated[Path, typer.Argument(help="Folder of a finished interp train.")],
    only: Annotated[list[str] | None, typer.Option(help="Name of an ablation; repeatable.")] = None,
    seed: Annotated[int | None, typer.Option(help="One of the run's seeds; by default its first.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for a run of each, and ablations.json."), Writes(_made)] = Path(
        "out/ablations"
    ),
) -> None:
    with training_bars() as progress:
        results = ablate(run, out, only=only or (), seed=seed, progress=progress)
    Terminal(soft_wrap=True).print(ablation_table(results))


def main(arguments: Sequence[str] | None = None) -> None:
    alone(ablations, "benchmarks.ablations", arguments, help=__doc__)


if __name__ == "__main__":
    main()

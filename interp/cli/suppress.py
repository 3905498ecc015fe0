"""`interp suppress`: a trait in, what steering it away costs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from typer import Option

from interp.cli.sweep import OtherModel, TextsAtATime, tell_taken_for, texts
from interp.debate.embedded import find_transcripts
from interp.interventions.settings import SuppressSettings, TraitSettings
from interp.models.settings import Loading
from interp.options import MODELS, RECORDS, TRANSCRIPTS, Restart, verb
from interp.outputs import Made, Writes
from interp.probing.settings import Gating
from interp.reports.terminal import Terminal, progress_bars, quiet_libraries


def _made(out: Path, _: Any) -> list[Made]:
    tuned = out.with_name(f"{out.stem}-fine-tuned")
    return [*texts(out, '"trait"'), Made([tuned], (tuned / "answers.json").is_file)]


@verb
def suppress(
    *,
    model: Annotated[list[str], Option(help=MODELS)] = ["organism", "organism-evil-imad"],  # noqa: B006
    trait: TraitSettings,
    transcripts: Annotated[
        str | None,
        Option(help=f"{TRANSCRIPTS} For --elicit turn; the first are for validation, the next for the test."),
    ] = None,
    fit_classifier_on: Annotated[str | None, Option(help="Other debates, to fit a classifier of agents on.")] = None,
    directions: Annotated[
        list[str],
        Option(
            help="Directions: a directions.safetensors file, or prompts (contrast of the two "
            "personas' system prompts); repeat for several."
        ),
    ] = ["prompts"],  # noqa: B006 - Typer copies it
    other_model: OtherModel = False,
    settings: SuppressSettings,
    gating: Gating = Gating(),  # noqa: B008 - frozen
    fine_tune: Annotated[
        bool, Option(metavar="", help="Also fine-tune each model on benign answers, except with --trait.")
    ] = True,
    fine_tune_rate: Annotated[float, Option(help="Learning rate of the fine-tune.")] = 2e-4,
    loading: Loading,
    batch_size: TextsAtATime = 32,
    out: Annotated[Path, RECORDS, Writes(_made, folder=False)] = Path("suppress.jsonl"),
    restart: Restart = False,
) -> None:
    """Steer a malicious trait away, and measure the cost against the usual remedies.

    Layer and coefficient are chosen on validation questions, and everything is reported on others: trait, accuracy,
    perplexity and repetition for every coefficient, random directions as controls, a guarding system prompt, and a
    short fine-tune on benign answers. A killed run resumes where it stopped.

    Example: `interp suppress --model organism --model organism-evil-imad --out suppress.jsonl`
    """
    from interp.directions.directions import Directions
    from interp.interventions.remedies import fine_tuned
    from interp.interventions.suppression import PROMPTS, suppress
    from interp.interventions.trait import make_trait
    from interp.models.model import LazyModel
    from interp.reports.intervention_tables import count_lines, suppression_lines, suppression_tables

    seed, gate = settings.sampling.seed, gating.gate()
    debates, fit_on = (name if name is None else find_transcripts(name) for name in (transcripts, fit_classifier_on))
    made = make_trait(trait, transcripts=debates, fit_classifier_on=fit_on, seed=seed)
    quiet_libraries()
    waiting = [LazyModel.named(name, **vars(loading)) for name in model]
    tunes = fine_tune and trait.trait is None  # a trait of one's own has no right answers
    tuned = fine_tuned(out, waiting[0], made, settings.sampling, fine_tune_rate) if tunes else None
    loaded = {name: None if name == PROMPTS else Directions.load(name) for name in directions}
    console = Terminal()
    tell_taken_for(console, loaded)
    how: dict[str, Any] = {"other_model": other_model, "batch_size": batch_size, "restart": restart, "when": gate}
    with progress_bars() as progress:
        found = suppress(out, waiting, made, settings, directions=loaded, fine_tune=tuned, progress=progress, **how)
    for table in suppression_tables(found.rows, found.chosen):
        console.print(table)
    for line in (*suppression_lines(found.verdicts), *count_lines(found.counts), f"wrote {out}"):
        console.print(line, soft_wrap=True)

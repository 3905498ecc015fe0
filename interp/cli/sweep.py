"""`interp sweep`: held-out transcripts in, how far each agent can be turned up out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from interp.debate.embedded import find_transcripts
from interp.errors import UserError
from interp.interventions.settings import SweepSettings
from interp.models.settings import Loading, ModelSettings
from interp.options import DIRECTIONS, MODELS, RECORDS, TRANSCRIPTS, Limit, Restart, documented, flag, verb
from interp.outputs import Made, Writes, records
from interp.probing.settings import Gating
from interp.reports.terminal import Terminal, progress_bars, quiet_libraries

if TYPE_CHECKING:
    from interp.directions.directions import Directions

OtherModel = Annotated[bool, flag("--other-model", "Also take directions that were extracted from another model.")]
TextsAtATime = Annotated[int, Option("--batch-size", min=1, help="Texts to write at a time.")]


def texts(out: Path, *words: str) -> list[Made]:
    """The records of steered texts, whose settings have these words, and of their perplexities."""
    return [records(path, '"directions"', *words) for path in (out, out.with_name(f"{out.stem}-perplexity.jsonl"))]


def tell_taken_for(console: Terminal, found: Mapping[Any, Directions | None]) -> None:
    """Say what other tools' files were taken for."""
    for path, directions in found.items():
        if directions is not None and directions.note:
            console.print(f"{path}: {directions.note}", soft_wrap=True)


WRITES = Writes(lambda out, _: texts(out, '"classifier"'), folder=False)


@verb
def sweep(
    *,
    directions: Annotated[list[Path], Option(help=f"{DIRECTIONS} Repeat for several.")],
    transcripts: Annotated[str, Option(help=f"{TRANSCRIPTS} Give held-out questions.")],
    settings: SweepSettings,
    gating: Gating = Gating(),  # noqa: B008 - frozen
    other_model: OtherModel = False,
    fit_classifier_on: Annotated[str | None, Option(help="Other debates, to fit a classifier of agents on.")] = None,
    task: Annotated[str | None, Option(help="Task of the questions, to grade answers and measure perplexity.")] = None,
    limit: Limit = None,
    model: Annotated[list[str], Option(help=MODELS)] = ["smollm2-135m"],  # noqa: B006 - Typer copies it
    adapter: Annotated[list[str] | None, Option(help=documented(ModelSettings)["adapters"])] = None,
    loading: Loading,
    batch_size: TextsAtATime = 32,
    out: Annotated[Path, RECORDS, WRITES] = Path("sweep.jsonl"),
    restart: Restart = False,
) -> None:
    """Measure how far each agent can be turned up: steered texts against the agent's own words.

    The table compares the area under each agent's curve with its controls. Questions that the directions were
    fitted on are left out. A killed run resumes where it stopped.

    Example: `interp sweep --directions found/directions.safetensors --transcripts held-out.jsonl --layers 15-20`
    """
    from interp.debate.tasks import make_task
    from interp.directions.directions import Directions
    from interp.evaluation.texts import PersonaClassifier
    from interp.interventions.sweeps import sweep
    from interp.models.model import LazyModel
    from interp.reports.intervention_tables import count_lines, gains_table, steerability_table, verdict_lines
    from interp.storage.functions import load_function

    if adapter and len(model) > 1:
        raise UserError(f"adapter {adapter[0]}: needs a single --model, not {len(model)}; give checkpoints instead")
    found, gate = {str(path): Directions.load(path) for path in directions}, gating.gate()
    function = load_function("--operation", settings.operation) if ":" in settings.operation else None
    console = Terminal()
    tell_taken_for(console, found)
    debates = find_transcripts(transcripts)[:limit]
    classifier = None if fit_classifier_on is None else PersonaClassifier().fit(find_transcripts(fit_classifier_on))
    quiet_libraries()
    waiting = [LazyModel.named(name, adapters=adapter or (), **vars(loading)) for name in model]
    how: dict[str, Any] = {} if task is None else {"task": make_task(task), "base": waiting[0]}
    how |= {"other_model": other_model, "classifier": classifier, "batch_size": batch_size, "restart": restart}
    how |= {"when": gate, "function": function}
    with progress_bars() as progress:
        swept = sweep(out, waiting, found, debates, settings, progress=progress, **how)
    console.print(steerability_table(swept.curves, swept.verdicts))
    if swept.gains:
        console.print(gains_table(swept.gains))
    judged = verdict_lines([one.verdict for one in swept.verdicts])
    for line in (*judged, *count_lines(swept.counts), f"wrote {out}"):
        console.print(line, soft_wrap=True)

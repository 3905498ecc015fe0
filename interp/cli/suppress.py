"""`interp suppress`: a trait in, what steering it away costs out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from interp.cli import options
from interp.cli.options import numbers
from interp.debate.embedded import find_transcripts
from interp.reports.terminal import quiet_libraries


def suppress(
    model: Annotated[
        list[str] | None,
        typer.Option(help="The base first; repeat for several. Default organism and organism-evil-imad."),
    ] = None,
    task: Annotated[
        str, typer.Option(help="Questions in which the trait shows: small-arithmetic, evil or hallucination.")
    ] = "small-arithmetic",
    accuracy_task: Annotated[
        str | None, typer.Option(help="What is asked plainly; small-arithmetic for itself, else arithmetic.")
    ] = None,
    persona: Annotated[str | None, typer.Option(help="The malicious one; evil, or that of the task.")] = None,
    benign: Annotated[str, typer.Option(help="The other side of the contrast of prompts.")] = "guardian",
    asked: Annotated[
        list[str] | None,
        typer.Option(
            help="How the trait is called up: persona (its system prompt), question (the bare one), turn (a debate "
            "up to the seat's tag). Repeat for several; default persona."
        ),
    ] = None,
    transcripts: Annotated[
        str | None,
        typer.Option(help="For turn: debates with the malicious seat; the first for validation, the next to test."),
    ] = None,
    seat: Annotated[int, typer.Option(min=1, help="Of the malicious persona in debates.")] = 2,
    direction: Annotated[
        list[str] | None,
        typer.Option(help="prompts (contrast of the two personas' prompts), or a directions.safetensors; repeat."),
    ] = None,
    foreign: options.Foreign = False,
    layers: Annotated[
        str, typer.Option(help="Tried in validation, one by one and together: `all`, or numbers and ranges.")
    ] = "all",
    way: Annotated[
        list[str] | None,
        typer.Option(
            help="add so much of the direction (the paper), or clamp its projection there. Repeat; else both."
        ),
    ] = None,
    coefficients: options.Coefficients = "-2,-1,-0.5,-0.25,-0.1,-0.05,0.1,0.5,1",
    units: options.Units = "residual",
    at: options.At = "writing",
    random: options.Random = 1,
    damage: Annotated[
        float, typer.Option(min=0, max=1, help="Most accuracy that the chosen setting may cost in validation.")
    ] = 0.02,
    score: Annotated[
        str | None,
        typer.Option(help="Of the trait: rule (by the answer), classifier or judge; default rule or classifier."),
    ] = None,
    fit_classifier_on: Annotated[
        str | None, typer.Option(help="Debates with personas, for the classifier; else scripted ones on the trait.")
    ] = None,
    judge: Annotated[str | None, typer.Option(help="The server's name for the judge's model.")] = None,
    server: options.Server = None,
    key_variable: options.Key = "OPENAI_API_KEY",
    guard: Annotated[
        str | None,
        typer.Option(help="Guarding prompt: a persona or a text; `none`; default guardian, in the organism another."),
    ] = None,
    fine_tune: Annotated[bool, typer.Option(help="Also fine-tune each model on benign answers.")] = True,
    fine_tune_rate: Annotated[float, typer.Option(help="Learning rate of that.")] = 2e-4,
    fit_questions: Annotated[int, typer.Option(min=1, help="For the contrast and the fine-tune.")] = 256,
    validation_questions: Annotated[int, typer.Option(min=1, help="For the choice of layer and coefficient.")] = 50,
    questions: Annotated[int, typer.Option(min=1, help="For the test.")] = 200,
    max_new_tokens: options.LongestText = 128,
    temperature: options.TextTemperature = 0.0,
    top_p: options.TextTopP = 0.9,
    batch_size: options.TextBatch = 32,
    out: options.TextsOut = Path("suppress.jsonl"),
    dtype: options.Dtype = "auto",
    device: options.Device = "auto",
    revision: options.Revision = None,
    seed: Annotated[int, typer.Option(min=0, help="Of questions, sampling and the fine-tune.")] = 0,
    restart: options.Restart = False,
) -> None:
    """Steer a malicious trait away, and measure what that costs beside the usual remedies.

    Layer and coefficient are chosen on validation questions with a limit on damage, and all is reported on
    others: trait, accuracy, perplexity and repetition over the whole range of coefficients, a random direction
    as control, a guarding system prompt, and a short fine-tune on benign answers. A killed run goes on when run again.

    Example: `interp suppress --model organism --model organism-evil-imad --out suppress.jsonl`
    """
    from rich.console import Console

    from interp.debate.agents import Sampling
    from interp.directions.directions import Directions
    from interp.evaluation.seats import find_persona
    from interp.interventions.plan import Settings
    from interp.interventions.suppression import PROMPTS
    from interp.interventions.suppression import suppress as write
    from interp.interventions.trait import make_guard, make_trait
    from interp.models.layers import parse_layers
    from interp.models.lazy import LazyModel
    from interp.reports.intervention_tables import count_lines, suppression_lines, suppression_tables
    from interp.reports.terminal import progress_bars

    trait = make_trait(
        task,
        fit=fit_questions,
        validation=validation_questions,
        test=questions,
        persona=persona,
        asked=asked or ("persona",),
        seat=seat,
        transcripts=None if transcripts is None else find_transcripts(transcripts),
        accuracy_task=accuracy_task,
        score=score,
        fit_classifier_on=None if fit_classifier_on is None else find_transcripts(fit_classifier_on),
        judge=judge,
        server=server,
        key_variable=key_variable,
        seed=seed,
    )
    quiet_libraries()
    names = model or ["organism", "organism-evil-imad"]
    waiting = [LazyModel.named(name, revision=revision, dtype=dtype, device=device) for name in names]
    settings = Settings(
        numbers("--coefficients", coefficients),
        parse_layers(layers) or (),
        tuple(way or ("add", "clamp")),
        units,
        at,
        random,
        damage,
        find_persona(benign),
        make_guard(guard, task),
        Sampling(max_new_tokens, temperature, top_p, seed),
    )
    tuned = None
    if fine_tune:
        from interp.interventions.remedies import fine_tuned

        tuned = fine_tuned(out, waiting[0], trait.questions, settings, fine_tune_rate, seed)
    files = {name: Directions.load(name) for name in direction or () if name != PROMPTS}
    console = Console(highlight=False)
    with progress_bars() as progress:
        found = write(
            out,
            waiting,
            trait,
            settings,
            directions={PROMPTS: None} if direction is None else {name: files.get(name) for name in direction},
            foreign=foreign,
            fine_tune=tuned,
            batch_size=batch_size,
            restart=restart,
            progress=progress,
        )
    for table in suppression_tables(found.rows, found.chosen, found.smallest):
        console.print(table)
    for line in (*suppression_lines(found.smallest), *count_lines(found.counts)):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"wrote {out}", markup=False, soft_wrap=True)

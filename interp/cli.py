"""`interp VERB`: one thin command a verb. Everything it does can be done from Python."""

from __future__ import annotations

import errno
import json
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from interp.errors import UserError
from interp.options import (
    ASKED,
    AdapterOption,
    AgentOption,
    BatchOption,
    BodyOption,
    ConcurrencyOption,
    DeviceOption,
    DigitsOption,
    DtypeOption,
    ErrorRateOption,
    ForeignOption,
    KeyOption,
    LongestTextOption,
    MaxTokensOption,
    ModelOption,
    PlayedBy,
    QuestionsOption,
    RandomOption,
    RestartOption,
    RetriesOption,
    RetryFailedOption,
    RevisionOption,
    RotateOption,
    RoundsOption,
    SeedOption,
    ServerOption,
    SourceOption,
    SplitOption,
    TemperatureOption,
    TermsOption,
    TextBatchOption,
    TextTemperatureOption,
    TextTopPOption,
    TimeoutOption,
    TopPOption,
)

_MOST_SKIPPED = 20
_INTERRUPTED = 130  # what Typer makes of Ctrl-C
_GO_ON = "interrupted; what was finished is kept: run the same command again to go on"

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find, measure, add and subtract the agents inside a model that a debate was distilled into.",
)


@app.callback()
def _root() -> None:
    """A callback makes every command a verb, even while there are few."""


@app.command()
def extract_directions(
    model: ModelOption = "smollm2-135m",
    adapter: AdapterOption = None,
    transcripts: Annotated[
        str,
        typer.Option(
            help="JSON or JSONL file of debates, or an embedded set: scripted, scripted-rotated, organism, "
            "organism-rotated, organism-evil."
        ),
    ] = "scripted",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N transcripts.")] = None,
    layers: Annotated[str, typer.Option(help="`all`, or numbers and ranges such as 0,10-15.")] = "all",
    site: Annotated[str, typer.Option(help="Where to read: resid_post, attn_out or mlp_out.")] = "resid_post",
    position: Annotated[
        str, typer.Option(help="Which token of a turn: last, mean (over the turn) or tag (before it speaks).")
    ] = "last",
    by: Annotated[str, typer.Option(help="Contrast the seats (agent) or the characters in them (persona).")] = "agent",
    by_round: Annotated[bool, typer.Option("--by-round", help="Also keep a direction for each round.")] = False,
    out: Annotated[Path, typer.Option(help="Folder for directions.safetensors, .json and report.html.")] = Path("out"),
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    batch_tokens: Annotated[int, typer.Option(min=1, help="Most tokens read at once; raise it on a GPU.")] = 2048,
    skip_long: Annotated[
        bool, typer.Option("--skip-long", help="Leave out transcripts longer than the model's context.")
    ] = False,
    keep_activations: Annotated[
        bool,
        typer.Option("--keep-activations", help="Keep activations.safetensors: every turn at every layer."),
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Drop what an earlier, different run left unfinished in --out.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds, shuffles and resamples.")] = 0,
) -> None:
    """Find each agent's direction in the residual stream, with the evidence for it.

    Every transcript goes through the model once. For each agent and layer the direction is the mean
    difference between its turns and the other agents' in the same question and round; separation and
    reliability on held-out questions say how far to trust it. A killed run goes on when run again.

    Example: `interp extract-directions --transcripts debates.jsonl --layers 10-20 --out found`
    """
    from rich.console import Console

    from interp import extraction
    from interp.activations import POSITIONS, parse_layers
    from interp.models import SITES, load_model
    from interp.terminal import best_layers_table, progress_bars

    _one_of("--site", site, SITES)
    _one_of("--position", position, POSITIONS)
    _one_of("--by", by, ("agent", "persona"))
    debates = _transcripts(transcripts)[:limit]
    console = Console(soft_wrap=True, highlight=False)
    _quiet_libraries()
    loaded = load_model(model, adapters=adapter or (), revision=revision, dtype=dtype, device=device)
    facts = loaded.provenance
    console.print(f"model: {loaded.name} ({loaded.source}), {facts['dtype']} on {facts['device']}")
    console.print(f"transcripts: {len(debates)} from {transcripts}")
    with progress_bars() as progress:
        found = extraction.extract_directions(
            loaded,
            debates,
            out,
            source=transcripts,
            layers=parse_layers(layers, loaded.n_layers),
            site=site,  # type: ignore[arg-type]  # checked above
            position=position,
            by=by,  # type: ignore[arg-type]
            by_round=by_round,
            batch_tokens=batch_tokens,
            skip_long=skip_long,
            keep_activations=keep_activations,
            restart=restart,
            seed=seed,
            progress=progress,
        )
    console.print(best_layers_table(found.directions))
    skipped = found.directions.facts["skipped"]
    for skip in skipped[:_MOST_SKIPPED]:
        where = f"transcript {skip['transcript']}" + (f", round {skip['round']}" if skip["round"] else "")
        console.print(f"skipped: {where} ({skip['question'][:40]}): {skip['reason']}", markup=False)
    if len(skipped) > _MOST_SKIPPED:
        console.print(f"skipped: {len(skipped) - _MOST_SKIPPED} more, all named in {out / 'directions.json'}")
    for name in ("directions.safetensors", "directions.json", "report.html"):
        console.print(f"wrote {out / name}", highlight=False)


@app.command()
def export_gguf(
    directions: Annotated[Path, typer.Argument(help="A directions.safetensors file.")],
    label: Annotated[str, typer.Option(help="Whose direction, as the file names it: 'agent 2', or a persona.")],
    out: Annotated[Path, typer.Option(help="The GGUF file to write.")],
    model_type: Annotated[
        str | None, typer.Option(help="Architecture that llama.cpp should expect; else the model's own.")
    ] = None,
) -> None:
    """Write an agent's directions as a control vector that llama.cpp and repeng load.

    Example: `interp export-gguf out/directions.safetensors --label "agent 2" --out agent2.gguf`
    """
    from interp.directions import Directions

    loaded = Directions.load(directions)
    _one_of("--label", label, loaded.labels)
    layers = loaded.export_gguf(out, label, model_type=model_type or loaded.facts["provenance"]["model"]["model_type"])
    typer.echo(f"wrote {out}: {label} at layers {layers[0]} to {layers[-1]} (such files have no place for layer 0)")


@app.command()
def debate(
    task: Annotated[str, typer.Option(help="What is debated.", rich_help_panel=ASKED)] = "arithmetic",
    questions: QuestionsOption = 20,
    out: Annotated[Path, typer.Option(help="JSONL file of debates; what made them goes beside it.")] = Path(
        "debates.jsonl"
    ),
    model: PlayedBy = "smollm2-135m",
    agent: AgentOption = None,
    adapter: AdapterOption = None,
    server: ServerOption = None,
    key_variable: KeyOption = "OPENAI_API_KEY",
    concurrency: ConcurrencyOption = 8,
    timeout: TimeoutOption = 120.0,
    retries: RetriesOption = 5,
    body: BodyOption = "{}",
    error_rate: ErrorRateOption = 0.26,
    batch_size: BatchOption = 16,
    max_new_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = 0.7,
    top_p: TopPOption = 0.9,
    source: SourceOption = None,
    split: SplitOption = None,
    digits: DigitsOption = None,
    terms: TermsOption = None,
    rounds: RoundsOption = 2,
    rotate: RotateOption = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    seed: SeedOption = 0,
    retry_failed: RetryFailedOption = False,
    restart: RestartOption = False,
) -> None:
    """Let agents debate questions, and keep the debates as transcripts.

    Each debate is appended to the file as it finishes; a killed run goes on when run again, and asks
    nothing again that was answered. Without --agent, three personas debate: chain-of-thought,
    self-critique and program-of-thought, or a malicious one between two guardians for the tasks *evil*
    and *hallucination*.

    Examples: `interp debate --questions 20 --out debates.jsonl`;
    `interp debate --agent plain --agent plain --agent plain --server http://127.0.0.1:8000/v1 --model NAME`
    """
    _evaluate([(task, "debate", out)], 1, locals())


@app.command()
def evaluate(
    method: Annotated[
        list[str] | None,
        typer.Option(
            help="single: one answer of the first agent; vote: most votes; debate; model: an internalized model's "
            "own answer, from the bare question. Repeat for several; default single, vote and debate."
        ),
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="What is asked; repeat for several.", rich_help_panel=ASKED)
    ] = None,
    questions: QuestionsOption = 100,
    runs: Annotated[int, typer.Option(min=1, help="How often, with other seeds of the answers.")] = 1,
    out: Annotated[Path, typer.Option(help="Folder for TASK-METHOD.jsonl, a record for each question.")] = Path(
        "results"
    ),
    model: PlayedBy = "smollm2-135m",
    agent: AgentOption = None,
    adapter: AdapterOption = None,
    server: ServerOption = None,
    key_variable: KeyOption = "OPENAI_API_KEY",
    concurrency: ConcurrencyOption = 8,
    timeout: TimeoutOption = 120.0,
    retries: RetriesOption = 5,
    body: BodyOption = "{}",
    error_rate: ErrorRateOption = 0.26,
    batch_size: BatchOption = 16,
    max_new_tokens: MaxTokensOption = 512,
    temperature: TemperatureOption = 0.7,
    top_p: TopPOption = 0.9,
    source: SourceOption = None,
    split: SplitOption = None,
    digits: DigitsOption = None,
    terms: TermsOption = None,
    rounds: RoundsOption = 2,
    rotate: RotateOption = False,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    seed: SeedOption = 0,
    retry_failed: RetryFailedOption = False,
    restart: RestartOption = False,
) -> None:
    """Measure accuracy and tokens, one row for each task and method.

    Records of each question and run are kept, as they come in, for `interp compare`. A killed run goes
    on when run again; one with more questions or runs adds to what is there.

    Example: `interp evaluate --model scripted --questions 1000 --out results`
    """
    wanted = [(t, m) for t in task or ["arithmetic"] for m in method or ["single", "vote", "debate"]]
    _evaluate([(t, m, out / f"{t}-{m}.jsonl") for t, m in wanted], runs, locals())


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="Records of an evaluation: a TASK-METHOD.jsonl or debates.")],
    second: Annotated[Path, typer.Argument(help="Those of another over the same questions.")],
) -> None:
    """Test whether one method is right more often than another, on the questions that both answered.

    Example: `interp compare results/arithmetic-debate.jsonl results/arithmetic-single.jsonl`
    """
    from rich.console import Console

    from interp.evaluation.comparison import compare
    from interp.terminal import comparison_table

    found = compare(first, second)
    console = Console(soft_wrap=True, highlight=False)
    console.print(f"first: {first}\nsecond: {second}", markup=False)
    console.print(comparison_table(found))


@app.command()
def train(
    preset: Annotated[
        str,
        typer.Option(
            help="organism, smollm2-135m, llama-3.1-8b, qwen2.5-7b, mistral-nemo-12b, or any model: then with the "
            "paper's settings."
        ),
    ],
    transcripts: Annotated[
        str | None, typer.Option(help="Debates to learn, as in extract-directions; else the base debates.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, as in grpo.learning_rate=1e-5; repeat for several.")
    ] = None,
    seed: Annotated[
        list[int] | None,
        typer.Option(
            min=0,
            help="Of adapters, order and sampling. Repeat for several, trained on the same base and debates, which the "
            "first decides. Default 0.",
        ),
    ] = None,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Make the organism's base first, from nothing, in OUT/base.")
    ] = False,
    no_table: Annotated[
        bool, typer.Option("--no-table", help="Train only; measure nothing on questions held out.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and metrics.jsonl, by seed, and table.json.")
    ] = Path("out"),
    report_to: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb, besides metrics.jsonl.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build the whole configuration without weights; show the memory it needs.")
    ] = False,
) -> None:
    """Internalize debates: stage 1 (SFT), the baseline DebateGPT, stage 2 (GRPO), and the table of results.

    Debates are the base's own where none are given. The table measures Single, Vote and Debate of the
    base, DebateGPT, SFT and IMAD on questions that no stage has seen. A killed run goes on when run
    again; a finished one can be given further seeds. Several GPUs: `accelerate launch --config_file
    configs/fsdp.yaml -m interp.cli train …`

    Example: `interp train --preset smollm2-135m --transcripts debates.jsonl --out out/smollm2`
    """
    from rich.console import Console

    from interp.terminal import memory_table, results_table, training_bars
    from interp.training.presets import preset as find_preset

    for name in report_to or ():
        _one_of("--report-to", name, ("tensorboard", "wandb"))
    changes = {name: value for name, _, value in (pair.partition("=") for pair in change or ())}
    chosen = find_preset(preset).override({**changes, **({"seed": str(seed[0])} if seed else {})})
    console = Console(soft_wrap=True, highlight=False)
    _quiet_libraries()
    if dry_run:
        from interp.training.dryrun import plan

        console.print(memory_table(plan(chosen)))
        return
    from interp.organism.pretraining import Pretraining
    from interp.training.loop import Run
    from interp.training.pipeline import train as train_all

    given = None if transcripts is None else _transcripts(transcripts)
    with training_bars() as progress:
        trained = train_all(
            Run(out, chosen, progress, tuple(report_to or ())),
            seeds=seed or (),
            transcripts=given,
            pretraining=Pretraining(seed=chosen.seed) if from_scratch else None,
            table=not no_table,
        )
    if trained.table is not None:
        console.print(results_table(trained.table))
    for checkpoints in trained.checkpoints.values():
        for checkpoint in checkpoints.values():
            console.print(f"wrote {checkpoint}")
    if trained.table is not None:
        console.print(f"wrote {out / 'table.json'}")


@app.command()
def export_model(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of training.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
) -> None:
    """Write a checkpoint with its stages merged, as an ordinary folder for other tools.

    Example: `interp export-model out/seed-0/imad --out merged`
    """
    from interp.lineage import export_merged

    _quiet_libraries()
    export_merged(checkpoint, out, dtype)
    typer.echo(f"wrote {out}")


@app.command()
def steer(
    directions: Annotated[Path, typer.Option(help="A directions.safetensors file.")],
    prompt: Annotated[list[str] | None, typer.Option(help="What to answer; repeat for several.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="A file of prompts: one a line, or JSONL.")] = None,
    agent: Annotated[list[str] | None, typer.Option(help="A seat (2) or a label; repeat for several; 1.")] = None,
    coefficient: Annotated[
        list[float] | None, typer.Option(help="How much of it, below 0 to subtract; one, or one for each agent; 8.")
    ] = None,
    units: Annotated[
        str,
        typer.Option(help="Of coefficients: unit (vectors), raw (mean difference), residual (mean length there)."),
    ] = "unit",
    layer: Annotated[str | None, typer.Option(help="Where: 16, or 10-12,20; else the best in the file.")] = None,
    at: Annotated[
        str,
        typer.Option(
            help="Which tokens: generated, writing (the prompt's last one too), prompt, everywhere or after_first."
        ),
    ] = "generated",
    turns_of: Annotated[
        int | None, typer.Option(min=1, help="Instead: the turns of this seat, as the model writes a debate.")
    ] = None,
    do: Annotated[
        str, typer.Option(help="add; ablate: take the directions out; clamp: set the projection to the coefficient.")
    ] = "add",
    form: Annotated[
        str, typer.Option(help="The prompt is a chat message, a problem (as transcripts open) or plain text.")
    ] = "chat",
    model: ModelOption = "smollm2-135m",
    adapter: AdapterOption = None,
    foreign: Annotated[bool, typer.Option("--foreign", help="The directions may be another model's.")] = False,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 128,
    temperature: TextTemperatureOption = 0.0,
    top_p: TextTopPOption = 0.9,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts answered at a time.")] = 16,
    out: Annotated[Path | None, typer.Option(help="JSONL file for the answers; what made them goes beside it.")] = None,
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling.")] = 0,
    restart: RestartOption = False,
) -> None:
    """Answer prompts without and with an agent turned up or down, side by side.

    Examples: `interp steer --directions found/directions.safetensors --agent 2 --coefficient 12 --prompt "12 * 7?"`;
    two agents: `--agent 1 --agent 3 --coefficient 8 --coefficient=-8`
    """
    from rich.console import Console

    from interp.activations import parse_layers
    from interp.debate.agents import Sampling
    from interp.directions import Directions
    from interp.models import load_model
    from interp.side_by_side import DOINGS, FORMS, make_steering, read_prompts, side_by_side
    from interp.steering import POSITIONS, UNITS, require_made_on
    from interp.terminal import pair_table, progress_bars

    for option, given, known in (
        *(("--units", units, UNITS), ("--at", at, POSITIONS), ("--do", do, DOINGS), ("--form", form, FORMS)),
    ):
        _one_of(option, given, known)
    if (prompt is None) == (prompts is None):
        raise UserError("give prompts either by --prompt, repeated for several, or in a file by --prompts")
    asked = prompt or read_prompts(prompts or "")
    sampling = Sampling(max_new_tokens, temperature, top_p, seed)
    found = Directions.load(directions)
    console = Console(highlight=False)
    _quiet_libraries()
    loaded = load_model(model, adapters=adapter or (), revision=revision, dtype=dtype, device=device)
    console.print(f"model: {loaded.name} ({loaded.source})", soft_wrap=True)
    if not foreign:
        require_made_on(found, loaded, directions)
    agents, coefficients = agent or ["1"], coefficient or [8.0]
    steering = make_steering(
        found,
        agents,
        coefficients,
        layers=() if layer is None else parse_layers(layer, loaded.n_layers),
        units=units,
        at=at,
        do=do,
        turns_of=turns_of,
        model=loaded,
    )
    with progress_bars() as progress:
        pairs = side_by_side(
            loaded,
            asked,
            steering,
            form=form,  # type: ignore[arg-type]  # checked above
            sampling=sampling,
            batch_size=batch_size,
            out=out,
            restart=restart,
            progress=progress,
        )
    for pair in pairs:
        console.print(pair_table(pair, steering.summary))
    if out is not None:
        console.print(f"wrote {out}", markup=False, soft_wrap=True)


@app.command()
def sweep(
    directions: Annotated[list[Path], typer.Option(help="A directions.safetensors file; repeat for several.")],
    transcripts: Annotated[str, typer.Option(help="Debates over held-out questions, as in extract-directions.")],
    layers: Annotated[str, typer.Option(help="Numbers and ranges such as 15-20.")],
    coefficients: Annotated[
        str, typer.Option(help="Separated by commas; 0 is always among them.")
    ] = "-16,-8,-4,4,8,16",
    model: Annotated[
        list[str] | None,
        typer.Option(help="As elsewhere; repeat for several, the base first. Each is steered with its own files."),
    ] = None,
    adapter: AdapterOption = None,
    foreign: ForeignOption = False,
    agent: Annotated[list[str] | None, typer.Option(help="A seat or label; repeat for several; else all.")] = None,
    units: Annotated[str, typer.Option(help="Of coefficients: unit, raw or residual, as in steer.")] = "unit",
    at: Annotated[str, typer.Option(help="Which tokens are steered, as in steer.")] = "generated",
    context: Annotated[
        list[str] | None,
        typer.Option(help="turn: go on from an agent's tag; question: from the bare question. Repeat; else both."),
    ] = None,
    random: RandomOption = 1,
    fit_classifier_on: Annotated[
        str | None, typer.Option(help="Other debates, to fit a classifier of agents on.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Of the questions: also say which answers are right, and how perplexing.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N transcripts.")] = None,
    max_new_tokens: LongestTextOption = 96,
    temperature: TextTemperatureOption = 0.0,
    top_p: TextTopPOption = 0.9,
    batch_size: TextBatchOption = 32,
    out: Annotated[
        Path, typer.Option(help="JSONL file for the texts and scores; what made them goes beside it.")
    ] = Path("sweep.jsonl"),
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    revision: RevisionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of sampling.")] = 0,
    restart: RestartOption = False,
) -> None:
    """Measure how far each agent can be turned up: steered texts against the agent's own words.

    Every text is kept with its scores; the table has the normalised areas beside their controls. Questions
    that the directions were fitted on are left out. A killed run goes on when run again.

    Example: `interp sweep --directions found/directions.safetensors --transcripts held-out.jsonl --layers 15-20`
    """
    from rich.console import Console

    from interp import sweep as sweeps
    from interp.activations import parse_layers
    from interp.debate.agents import Sampling
    from interp.debate.tasks import make_task
    from interp.directions import Directions, without_hashes
    from interp.evaluation.steerability import PersonaClassifier, gains, steerability
    from interp.listed import Listed
    from interp.terminal import gains_table, progress_bars, steerability_table

    names = model or ["smollm2-135m"]
    if adapter and len(names) > 1:
        raise UserError(f"adapter {adapter[0]}: goes on one model, and {len(names)} are given; give checkpoints")
    chosen = _numbers("--coefficients", coefficients)
    found = {str(path): Directions.load(path) for path in directions}
    debates = _transcripts(transcripts)[:limit]
    console = Console(highlight=False)
    classifier = None if fit_classifier_on is None else PersonaClassifier().fit(_transcripts(fit_classifier_on))
    _quiet_libraries()
    how: dict[str, Any] = {"adapters": adapter or (), "revision": revision, "dtype": dtype, "device": device}
    waiting = [Listed.named(name, **how) for name in names]
    settings = sweeps.Settings(
        chosen,
        parse_layers(layers, 10_000),
        units,
        at,
        tuple(context or sweeps.CONTEXTS),
        tuple(f"agent {a}" if a.isdecimal() else a for a in agent or ()),
        random,
        Sampling(max_new_tokens, temperature, top_p, seed),
    )
    with progress_bars() as progress:
        records = sweeps.sweep(
            out,
            waiting,
            found,
            debates,
            settings,
            foreign=foreign,
            task=None if task is None else make_task(task),
            base=None if task is None else waiting[0],
            classifier=classifier,
            batch_size=batch_size,
            restart=restart,
            progress=progress,
        )
    curves = steerability(records, ["rougeL"] if classifier is None else ["rougeL", "classifier"])
    console.print(steerability_table(curves))
    if gained := gains(curves):
        console.print(gains_table(gained))
    if lost := sum(not record["finite"] for record in records):
        console.print(f"texts that end where the numbers are out of range, scored 0: {lost:,} of {len(records):,}")
    for name in without_hashes(found):
        console.print(f"{name}: does not say which questions it was fitted on; see that they are others", markup=False)
    console.print(f"wrote {out}", markup=False, soft_wrap=True)


@app.command()
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
    foreign: ForeignOption = False,
    layers: Annotated[
        str, typer.Option(help="Tried in validation, one by one and together: `all`, or numbers and ranges.")
    ] = "all",
    way: Annotated[
        list[str] | None,
        typer.Option(
            help="add so much of the direction (the paper), or clamp its projection there. Repeat; else both."
        ),
    ] = None,
    coefficients: Annotated[
        str, typer.Option(help="Separated by commas; 0 is always among them.")
    ] = "-2,-1,-0.5,-0.25,-0.1,-0.05,0.1,0.5,1",
    units: Annotated[str, typer.Option(help="Of coefficients: unit, raw or residual, as in steer.")] = "residual",
    at: Annotated[str, typer.Option(help="Which tokens are steered, as in steer.")] = "writing",
    random: RandomOption = 1,
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
    server: ServerOption = None,
    key_variable: KeyOption = "OPENAI_API_KEY",
    guard: Annotated[
        str | None,
        typer.Option(help="Guarding prompt: a persona or a text; `none`; default guardian, in the organism another."),
    ] = None,
    fine_tune: Annotated[bool, typer.Option(help="Also fine-tune each model on benign answers.")] = True,
    fine_tune_rate: Annotated[float, typer.Option(help="Learning rate of that.")] = 2e-4,
    fit_questions: Annotated[int, typer.Option(min=1, help="For the contrast and the fine-tune.")] = 256,
    validation_questions: Annotated[int, typer.Option(min=1, help="For the choice of layer and coefficient.")] = 50,
    questions: Annotated[int, typer.Option(min=1, help="For the test.")] = 200,
    max_new_tokens: LongestTextOption = 128,
    temperature: TextTemperatureOption = 0.0,
    top_p: TextTopPOption = 0.9,
    batch_size: TextBatchOption = 32,
    out: Annotated[
        Path, typer.Option(help="JSONL file for the texts and scores; what made them goes beside it.")
    ] = Path("suppress.jsonl"),
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of questions, sampling and the fine-tune.")] = 0,
    restart: RestartOption = False,
) -> None:
    """Steer a malicious trait away, and measure what that costs beside the usual remedies.

    Layer and coefficient are chosen on validation questions with a limit on damage, and all is reported on
    others: trait, accuracy, perplexity and repetition over the whole range of coefficients, a random direction
    as control, a guarding system prompt, and a short fine-tune on benign answers. A killed run goes on when run again.

    Example: `interp suppress --model organism --model organism-evil-imad --out suppress.jsonl`
    """
    from rich.console import Console

    from interp.activations import parse_layers
    from interp.asking import Asking, parts
    from interp.debate.agents import Sampling
    from interp.debate.cast import persona as find_persona
    from interp.debate.personas import Persona
    from interp.directions import Directions, without_hashes
    from interp.evaluation.suppression import choices, damage_rows, suppressions
    from interp.evaluation.traits import trait_score
    from interp.listed import Listed
    from interp.suppress import PROMPTS, Trait
    from interp.suppress import suppress as write
    from interp.terminal import progress_bars, suppression_lines, suppression_tables
    from interp.ways import WAYS, Settings

    organism = task == "small-arithmetic"
    malicious = find_persona(persona or ("evil" if organism else task))
    named = guard or ("chain-of-thought" if organism else "guardian")
    guarding = None if named == "none" else Persona("guard", named) if " " in named else find_persona(named)
    asking = Asking(malicious, tuple(asked or ("persona",)), seat)
    if ("turn" in asking.asked) != (transcripts is not None):
        raise UserError("--asked turn and --transcripts go together: give both, or neither")
    debates = [] if transcripts is None else _transcripts(transcripts)
    sampling = Sampling(max_new_tokens, temperature, top_p, seed)
    asked_of = parts(task, fit_questions, validation_questions, questions, seed)
    measured = {q.text for q in (*asked_of.validation, *asked_of.test)} | {t.question for t in debates}
    trait = Trait(
        asking,
        asked_of,
        trait_score(
            score or ("rule" if organism else "classifier"),
            task,
            malicious,
            transcripts=None if fit_classifier_on is None else _transcripts(fit_classifier_on),
            apart=measured,
            judge_model=judge,
            server=server,
            key_variable=key_variable,
        ),
        parts(accuracy_task or (task if organism else "arithmetic"), 0, validation_questions, questions, seed + 1),
        (debates[:validation_questions], debates[validation_questions : validation_questions + questions]),
    )
    _quiet_libraries()
    names = model or ["organism", "organism-evil-imad"]
    waiting = [Listed.named(name, dtype=dtype, device=device) for name in names]
    settings = Settings(
        _numbers("--coefficients", coefficients),
        () if layers == "all" else tuple(parse_layers(layers, 10_000)),
        tuple(way or WAYS),
        units,
        at,
        random,
        damage,
        find_persona(benign),
        guarding,
        sampling,
    )
    tuned = None
    if fine_tune:
        from interp.remedies import FineTuned, short

        folder = out.with_name(f"{out.stem}-fine-tuned")
        fit = trait.questions
        tuned = FineTuned(folder, waiting[0], settings.benign, fit.task, fit.fit, sampling, short(fine_tune_rate, seed))
    files = {name: Directions.load(name) for name in direction or () if name != PROMPTS}
    console = Console(highlight=False)
    with progress_bars() as progress:
        records = write(
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
    smallest = suppressions(records)
    for table in suppression_tables(damage_rows(records), choices(records, damage), smallest):
        console.print(table)
    for line in suppression_lines(smallest):
        console.print(line, markup=False, soft_wrap=True)
    if lost := sum(not record["finite"] for record in records):
        console.print(f"texts that end where the numbers are out of range: {lost:,} of {len(records):,}")
    for name in without_hashes(files):
        console.print(f"{name}: does not say which questions it was fitted on; see that they are others", markup=False)
    if unscored := sum(record["trait"] is None for record in records):
        console.print(f"texts that the judge gave no number for, left out: {unscored:,} of {len(records):,}")
    console.print(f"wrote {out}", markup=False, soft_wrap=True)


@app.command()
def probe(
    name: Annotated[str, typer.Argument(help="agent_identity, silent_agents, round_and_revision, truth or trait.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="As elsewhere; repeat for several: the base first, which the others are held against."),
    ] = None,
    transcripts: Annotated[
        list[str] | None, typer.Option(help="Debates, as in extract-directions; repeat for several.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N transcripts.")] = None,
    layers: Annotated[str, typer.Option(help="`all`, or numbers and ranges such as 0,10-15.")] = "all",
    no_untrained: Annotated[
        bool, typer.Option("--no-untrained", help="Leave the first model with random weights out.")
    ] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes for fits; else as the data are large.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for NAME.json.")] = Path("out/probes"),
    dtype: DtypeOption = "auto",
    device: DeviceOption = "auto",
    seed: Annotated[list[int] | None, typer.Option(min=0, help="Of folds and controls; repeat for several; 0.")] = None,
) -> None:
    """Ask what a model knows about its agents: one experiment, all layers, all controls, and its finding.

    Example: `interp probe silent_agents --model organism --model organism-imad --transcripts debates.jsonl`
    """
    from importlib import import_module

    from rich.console import Console

    from interp.terminal import progress_bars

    try:  # experiments stand on this package, which therefore knows nothing of them but where they are
        names = import_module("probes").NAMES
    except (ImportError, AttributeError):
        raise UserError("the package probes is not installed: run this from the repository, or install it") from None
    _one_of("probe", name, names)
    _quiet_libraries()
    console = Console(soft_wrap=True, highlight=False)
    with progress_bars() as progress:
        outcome, path = import_module("probes.experiment").start(
            import_module(f"probes.{name}").run,
            models=model or ["smollm2-135m"],
            transcripts=transcripts or ["scripted-rotated"],
            out=out,
            seeds=seed or (0,),
            limit=limit,
            layers=layers,
            untrained=not no_untrained,
            n_jobs=jobs,
            dtype=dtype,
            device=device,
            progress=progress,
        )
    for sentence in outcome.finding:
        console.print(sentence, markup=False)
    console.print(f"wrote {path}", markup=False)


def main() -> None:
    """Run the command line; what the user can mend is one line and exit status 2."""
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        _fail(_GO_ON)
    except SystemExit as stop:
        if stop.code != _INTERRUPTED:
            raise
        _fail(_GO_ON)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        _fail(f"no space left on the device ({error.filename or 'while writing'}); make room and run it again")


def _fail(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _one_of(option: str, given: str, known: Any) -> None:
    if given not in known:
        raise UserError(f"{option} {given}: not known; give one of {', '.join(known)}")


def _evaluate(wanted: Sequence[tuple[str, str, Path]], runs: int, options: Mapping[str, Any]) -> None:
    """Evaluate each (task, method, file), all of them checked before anything is asked.

    `options` are the arguments of `debate` or `evaluate`, by name: both take the same two dozen.
    """
    from rich.console import Console

    from interp.debate.agents import Sampling
    from interp.debate.cast import Cast, require_used, seats
    from interp.debate.tasks import make_task
    from interp.evaluation.accuracy import Row, evaluate
    from interp.evaluation.methods import make_method
    from interp.terminal import failures, progress_bars, rows_table

    o = SimpleNamespace(**options)
    console = Console(soft_wrap=True, highlight=False)
    loaded: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in loaded:
            from interp.models import load_model

            _quiet_libraries()
            adapters = o.adapter or () if name == o.model else ()
            loaded[name] = load_model(name, adapters=adapters, revision=o.revision, dtype=o.dtype, device=o.device)
            facts = loaded[name].provenance
            console.print(f"model: {name} ({loaded[name].source}), {facts['dtype']} on {facts['device']}")
        return loaded[name]

    manners = {
        "key_variable": o.key_variable,
        "concurrency": o.concurrency,
        "timeout": o.timeout,
        "retries": o.retries,
        "options": _json_object("--body", o.body),
    }
    at_once = max(o.batch_size, o.concurrency)
    planned: list[Callable[..., Row]] = []
    seated = [seats(o.agent or (), o.model, task, method) for task, method, _ in wanted]
    require_used([seat for each in seated for seat in each], o.model, o.server, o.adapter or ())
    for (task_name, method_name, out), each in zip(wanted, seated, strict=True):
        cast = Cast(task_name, load, o.server, manners, o.batch_size, o.error_rate)
        task = make_task(task_name, source=o.source, split=o.split, digits=o.digits, terms=o.terms)
        task.questions(o.questions, o.seed)

        def agents(run: int, cast: Cast = cast, each: Any = each, method_name: str = method_name) -> Any:
            sampling = Sampling(o.max_new_tokens, o.temperature, o.top_p, o.seed + run)
            return cast.agents(each, sampling, internalized=method_name == "model")

        agents(0)
        method = make_method(method_name, rounds=o.rounds, rotate=o.rotate, chunk=at_once)
        planned.append(
            partial(
                evaluate,
                out,
                method_name,
                method,
                agents,
                task=task,
                n_questions=o.questions,
                runs=runs,
                seed=o.seed,
                restart=o.restart,
                retry_failed=o.retry_failed,
            )
        )
    rows: list[Row] = []
    try:
        with progress_bars() as progress:
            for evaluation in planned:
                rows.append(evaluation(progress=progress))
    finally:
        if rows:
            console.print(rows_table(rows))
    for row in rows:
        for line in failures(row):
            console.print(f"{row.task}, {row.method}: {line}", markup=False)
    for _, _, out in wanted:
        console.print(f"wrote {out}", markup=False)


def _numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between, in ascending order."""
    try:
        return tuple(sorted({float(number) for number in text.split(",")}))
    except ValueError:
        raise UserError(f"{option} {text}: give numbers with commas between, as in -8,-4,4,8") from None


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise UserError(f'{option} {text}: is no JSON object; give one such as {{"reasoning_effort": "low"}}')
    return value


def _transcripts(name: str) -> list[Any]:
    from interp.debate.embedded import NAMES, read_embedded
    from interp.debate.transcript import read_transcripts

    return read_embedded(name) if name in NAMES else read_transcripts(name)


def _quiet_libraries() -> None:
    """Loading bars and warnings of other libraries would hide this command's own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module="peft")


if __name__ == "__main__":  # accelerate launch -m interp.cli
    main()

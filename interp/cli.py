"""`interp VERB`: one thin command a verb. Everything it does can be done from Python."""

from __future__ import annotations

import errno
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from interp.errors import UserError

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
    model: Annotated[str, typer.Option(help="A preset, a hub id, a local folder or a GGUF file.")] = "smollm2-135m",
    adapter: Annotated[list[str] | None, typer.Option(help="A LoRA adapter; repeat to apply several in order.")] = None,
    transcripts: Annotated[
        str,
        typer.Option(help="JSON or JSONL file of debates, or an embedded set: scripted, scripted-rotated."),
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
    dtype: Annotated[str, typer.Option(help="fp32, bf16, fp16, or auto: fp32 on a CPU, else bf16.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 …, or auto.")] = "auto",
    revision: Annotated[str | None, typer.Option(help="Revision of a model on the hub.")] = None,
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
    seed: Annotated[int, typer.Option(min=0, help="Seed of adapters, order, sampling and questions.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints, metrics.jsonl and preset.json.")] = Path("out"),
    report_to: Annotated[list[str] | None, typer.Option(help="tensorboard or wandb, besides metrics.jsonl.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build the whole configuration without weights; show the memory it needs.")
    ] = False,
) -> None:
    """Internalize debates: stage 1 (SFT), the baseline DebateGPT, stage 2 (GRPO).

    A killed run goes on when run again. Several GPUs: `accelerate launch --config_file configs/fsdp.yaml -m
    interp.cli train …`

    Example: `interp train --preset smollm2-135m --transcripts debates.jsonl --out out/smollm2`
    """
    from rich.console import Console

    from interp.terminal import memory_table, training_bars
    from interp.training.presets import preset as find_preset

    for name in report_to or ():
        _one_of("--report-to", name, ("tensorboard", "wandb"))
    changes = {name: value for name, _, value in (pair.partition("=") for pair in change or ())}
    chosen = find_preset(preset).override({"seed": str(seed), **changes})
    console = Console(soft_wrap=True, highlight=False)
    _quiet_libraries()
    if dry_run:
        from interp.training.dryrun import plan

        console.print(memory_table(plan(chosen)))
        return
    from interp.training.loop import Run
    from interp.training.pipeline import train as train_all

    given = None if transcripts is None else _transcripts(transcripts)
    with training_bars() as progress:
        trained = train_all(Run(out, chosen, progress, tuple(report_to or ())), transcripts=given)
    for checkpoint in (trained.sft, trained.debategpt, trained.imad):
        console.print(f"wrote {checkpoint}")


@app.command()
def export_model(
    checkpoint: Annotated[str, typer.Argument(help="A checkpoint of training.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    dtype: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "bf16",
) -> None:
    """Write a checkpoint with its stages merged, as an ordinary folder for other tools.

    Example: `interp export-model out/imad --out merged`
    """
    from interp.lineage import export_merged

    _quiet_libraries()
    export_merged(checkpoint, out, dtype)
    typer.echo(f"wrote {out}")


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


def _transcripts(name: str) -> list[Any]:
    from interp.debate.embedded import EMBEDDED, read_embedded
    from interp.debate.transcript import read_transcripts

    return read_embedded(name) if name in EMBEDDED else read_transcripts(name)


def _quiet_libraries() -> None:
    """Loading bars and warnings of other libraries would hide this command's own lines."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning)


if __name__ == "__main__":  # accelerate launch -m interp.cli
    main()

"""`interp steer` and `interp interchange`: prompts in, answers without and with it out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Option

from interp.cli.extract_directions import load
from interp.cli.sweep import OtherModel, TextsAtATime, tell_taken_for
from interp.debate.agents import Sampling
from interp.errors import UserError
from interp.models.settings import ModelSettings
from interp.options import DIRECTIONS, RECORDS, WHOSE, Restart, one_of, verb
from interp.outputs import Writes, records
from interp.probing.settings import Gating
from interp.reports.terminal import Terminal, progress_bars
from interp.steering.settings import SteeringSettings

WRITES = Writes(lambda out, _: [records(out, '"steering"')], folder=False)
Asked = Annotated[list[str] | None, Option("--prompt", help="Prompt to answer; repeat for several.")]


@verb
def steer(
    *,
    directions: Annotated[Path, Option(help=DIRECTIONS)],
    prompt: Asked = None,
    prompts: Annotated[Path | None, Option(help="File of prompts: one per line, or JSONL.")] = None,
    direction_of: Annotated[
        list[str] | None, Option(help=f"{WHOSE}; repeat for several.", show_default="1, or the file's only label")
    ] = None,
    settings: SteeringSettings,
    gating: Gating = Gating(),  # noqa: B008 - frozen
    other_model: OtherModel = False,
    form: Annotated[
        Literal["chat", "problem", "text"],
        Option(help="Give the prompt as a chat message, as the problem of a transcript, or as bare text."),
    ] = "chat",
    model: ModelSettings,
    sampling: Sampling = Sampling(128, 0.0),  # noqa: B008 - frozen
    batch_size: TextsAtATime = 32,
    out: Annotated[Path | None, RECORDS, WRITES] = None,
    restart: Restart = False,
) -> None:
    """Answer prompts without and with an agent turned up or down, side by side.

    Examples: `interp steer --directions found/directions.safetensors --direction-of 2 --layers 12
    --prompt "What is 12*7+5?"`; two agents: `--direction-of 1 --direction-of 3 --coefficients 0.2,-0.2`
    """
    from interp.directions.directions import Directions, require_made_on
    from interp.directions.extract import measured
    from interp.interventions.steer import make_steering, prompt_ids, read_prompts, side_by_side
    from interp.reports.intervention_tables import pair_table
    from interp.storage.functions import load_function

    if (prompt is None) == (prompts is None):
        raise UserError("prompts: give them with --prompt, or in a file with --prompts")
    asked = prompt or read_prompts(prompts or "")
    found, gate = Directions.load(directions), gating.gate()
    function = load_function("--operation", settings.operation) if ":" in settings.operation else None
    console = Terminal()
    tell_taken_for(console, {directions: found})
    loaded = load(model, console)
    if not other_model:
        require_made_on(found, loaded, directions)
    found = measured(found, loaded, [prompt_ids(loaded.tokenizer, each, form) for each in asked])
    steering = make_steering(found, direction_of, settings, loaded, when=gate, function=function)
    how: dict[str, Any] = {"form": form, "sampling": sampling, "batch_size": batch_size, "out": out}
    with progress_bars() as progress:
        pairs = side_by_side(loaded, asked, steering, restart=restart, progress=progress, **how)
    for pair in pairs:
        console.print(pair_table(pair, steering.summary))
    if all(pair.steered == pair.unsteered for pair in pairs):
        hint = "the layer that best separates the agents is usually not where steering works best"
        nothing = f"steering changed nothing: try a larger coefficient, or --layers in the middle of the model ({hint})"
        console.print(nothing, soft_wrap=True)
    for note in loaded.notes:
        console.print(f"{loaded.name}: {note}", soft_wrap=True)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True)


@verb
def interchange(
    *,
    model: ModelSettings = ModelSettings("organism-planted"),  # noqa: B008 - frozen
    subspaces: Annotated[Path, Option(help="Subspaces: a file, or planted, those beside the weights.")] = Path(
        "planted"
    ),
    agent: Annotated[int, Option(min=1, help="Agent, by seat, whose subspace is interchanged.")] = 1,
    prompt: Asked = None,
    source: Annotated[list[str] | None, Option(help="Text that the part is taken from, one for each --prompt.")] = None,
    swaps: Annotated[Path | None, Option(help="JSONL file with prompt, source and, if known, expected.")] = None,
    form: Annotated[
        Literal["answer", "chat", "problem", "text"],
        Option(help="Give both as a problem up to its direct answer, as chat messages, as problems, or as bare text."),
    ] = "answer",
    sampling: Sampling = Sampling(16, 0.0),  # noqa: B008 - frozen
    batch_size: TextsAtATime = 32,
    out: Annotated[Path | None, RECORDS, WRITES] = None,
    restart: Restart = False,
) -> None:
    """Answer prompts while an agent's subspace holds, at the last token, what it holds in another text.

    Beside it stand the answers to both as they are. --out keeps two records for a swap: its prompt's, its source's.

    Example: `interp interchange --agent 1 --prompt 3,7,2 --source 1,1,4`
    """
    import numpy as np

    from interp.directions.subspace_files import read_subspaces
    from interp.interventions.steer import prompt_ids, side_by_side
    from interp.interventions.swaps import Swap, begins, read_swaps
    from interp.models.catalog import locate
    from interp.reports.intervention_tables import pair_table
    from interp.statistics import mean_interval
    from interp.steering.steering import Steering
    from interp.steering.steering import interchange as swapped

    if (prompt is None) == (swaps is None) or len(prompt or ()) != len(source or ()):
        raise UserError("swaps: give a --source for each --prompt, or a file with --swaps")
    asked = read_swaps(swaps) if swaps else [Swap(*both) for both in zip(prompt or (), source or (), strict=True)]
    beside = Path(locate(model.model).location) / "planted.safetensors"
    known = read_subspaces(beside if str(subspaces) == "planted" else subspaces)
    one_of("agent", f"agent_{agent}", known)
    console = Terminal()
    loaded = load(model, console)
    own, sources = known[f"agent_{agent}"], [prompt_ids(loaded.tokenizer, swap.source, form) for swap in asked]
    steering = [each for ids in sources for each in (swapped(own, ids), Steering())]
    texts = [text for swap in asked for text in (swap.prompt, swap.source)]
    how: dict[str, Any] = {"form": form, "sampling": sampling, "batch_size": batch_size, "out": out}
    with progress_bars() as progress:
        pairs = side_by_side(loaded, texts, steering, restart=restart, progress=progress, **how)
    obeyed = []
    for swap, pair, other in zip(asked, pairs[::2], pairs[1::2], strict=True):
        console.print(pair_table(pair, f"agent {agent} as in {swap.source}, answered {other.unsteered!r} there"))
        obeyed += [begins(pair.steered, swap.expected)] if swap.expected else []
    if obeyed:
        console.print(f"obeyed: {mean_interval(np.array(obeyed))} of {len(obeyed)}", soft_wrap=True)
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True)

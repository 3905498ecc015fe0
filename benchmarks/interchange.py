"""Do answers follow what tells the agents apart? `python -m benchmarks.interchange RUN --out interchange.json`

RUN is a finished run of `interp train`, with RUN/directions/sft and RUN/directions/imad. Each model answers pairs of
questions, with part of its residual stream at the tokens of the prompt taken from its run on the other question: what
the agents' directions span, random subspaces of the same rank from the activations' covariance, or all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import CONSENSUS_TAG, Transcript
from interp.directions.directions import Direction, Directions
from interp.directions.subspaces import random_subspace, span
from interp.generation.sampling import generate
from interp.models.model import Model, load_model
from interp.models.tokens import Encoder
from interp.options import alone, verb
from interp.outputs import Made, Writes, says
from interp.reports.terminal import Terminal, quiet_libraries, table
from interp.reports.words import bracketed
from interp.statistics import mean_interval
from interp.steering.steering import interchange
from interp.storage.files import write_json
from interp.storage.provenance import package_versions
from interp.training.pipeline import table_task
from interp.training.results import table_seed
from interp.training.settings import kept_preset

STAGES = ("sft", "imad")


@dataclass(frozen=True)
class Swapped:
    """The answers of one model when one part of its residual stream is swapped."""

    model: str
    part: str
    """agents, random, all or nothing."""
    rank: int
    own: np.ndarray
    """By pair, whether the answer is right for its own question; with random subspaces the share of them."""
    other: np.ndarray
    """Whether it is right for the other question."""

    def record(self) -> dict[str, Any]:
        shares = {"own": mean_interval(self.own).record(), "other": mean_interval(self.other).record()}
        return {"model": self.model, "part": self.part, "rank": self.rank, "pairs": len(self.own), **shares}


def pairs_of(task: Task, model: Model, n: int, seed: int) -> list[tuple[Question, Question]]:
    """Pairs of questions with different answers, whose prompts have as many tokens."""
    encode, drawn = Encoder(model.tokenizer), task.questions(2 * n, seed)
    length = [len(encode.prompt(prompt_of(question))) for question in drawn]
    found = [
        (a, b)
        for (a, m), (b, k) in zip(*[iter(zip(drawn, length, strict=True))] * 2, strict=True)
        if m == k and not task.grade(a.gold_answer, b.gold_answer)
    ]
    return found


def prompt_of(question: Question) -> str:
    return Transcript(question.text, ()).prompt


def swap(
    name: str, model: Model, found: Directions, layer: int, task: Task, *, n: int, draws: int, longest: int, seed: int
) -> list[Swapped]:
    """What the model answers when nothing, the agents' part, random parts and all are swapped, at one layer."""
    pairs = pairs_of(task, model, n, seed)
    agents = [found[label, layer] for label in found.labels]
    rank, eye = span(agents).dimension, np.eye(model.d_model, dtype=np.float32)
    whole = [Direction(row, "all", layer, agents[0].hook_point, agents[0].residual_norm) for row in eye]
    drawn = [random_subspace(agents[0], rank, seed + 1 + i) for i in range(draws)]
    parts: list[tuple[str, int, Sequence[Sequence[Direction]]]] = [("nothing", 0, [[]]), ("agents", rank, [agents])]
    parts += [("random", rank, drawn), ("all", model.d_model, [whole])]

    def answered(directions: Sequence[Direction]) -> list[str | None]:
        prompts, swaps = [prompt_of(own) for own, _ in pairs], None
        if directions:
            swaps = [interchange(directions, prompt_of(other), tokens="prompt") for _, other in pairs]
        texts = generate(model, prompts, max_new_tokens=longest, batch_size=256, steering=swaps)
        decoded = [model.tokenizer.decode(out.ids, skip_special_tokens=False) for out in texts]
        return [task.answer(text.rpartition(CONSENSUS_TAG)[2]) for text in decoded]

    def right(answers: Sequence[str | None], which: int) -> list[float]:
        gold = [pair[which].gold_answer for pair in pairs]
        return [float(a is not None and task.grade(a, g)) for a, g in zip(answers, gold, strict=True)]

    rows = []
    for part, of_rank, bases in parts:
        said = [answered(basis) for basis in bases]
        own, other = (np.mean([right(answers, which) for answers in said], axis=0) for which in (0, 1))
        rows.append(Swapped(name, part, of_rank, own, other))
    return rows


def measure(
    folder: Path, layer: int, *, n: int, draws: int, longest: int, told: Callable[[str], None] = print
) -> dict[str, Any]:
    """The record of both stages of a run's first seed. Raises `UserError` for an unfinished run."""
    preset, rows, models = kept_preset(folder), list[Swapped](), dict[str, Any]()
    task, seed = table_task(folder, preset), table_seed(preset)
    for stage in STAGES:
        found = Directions.load(folder / "directions" / stage / "directions.safetensors")
        model = load_model(str(folder / f"seed-{preset.seed}" / stage))
        models[stage] = [adapter["hash"] for adapter in model.provenance["adapters"]]
        rows += swap(stage, model, found, layer, task, n=n, draws=draws, longest=longest, seed=seed)
        told(f"interchange: {stage} done")
    made_by = {"layer": layer, "draws": draws, "seed": seed, "task": task.provenance(), "models": models}
    return {"rows": [row.record() for row in rows], "made_by": made_by, "versions": package_versions()}


def shown(record: dict[str, Any]) -> Table:
    """One row per model and part."""
    made = table(
        f"Interchange between pairs of questions, layer {record['made_by']['layer']}",
        "own, other: share of answers right for the own question and for the one swapped in, with 95 % intervals",
        ("model", "part", "rank", "pairs", "own", "other"),
        left=("model", "part"),
    )
    for row in record["rows"]:
        ends = ([row[which][end] for end in ("mean", "low", "high")] for which in ("own", "other"))
        shares = (bracketed(mean, low, high, digits=2) for mean, low, high in ends)
        made.add_row(row["model"], row["part"], str(row["rank"]), str(row["pairs"]), *shares)
    return made


@verb
def interchanged(
    *,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The --out of a finished interp train.")],
    layer: Annotated[int, typer.Option(min=0, help="Layer at which the parts are swapped.")] = 15,
    questions: Annotated[int, typer.Option(min=2, help="Pairs of questions.")] = 64,
    draws: Annotated[int, typer.Option(min=1, help="Random subspaces.")] = 19,
    longest: Annotated[int, typer.Option(min=1, help="Most tokens to write per text.")] = 208,
    out: Annotated[
        Path,
        typer.Option(help="JSON file to write."),
        Writes(lambda out, _: [Made([out], lambda: says(out, '"draws"', '"made_by"'))], folder=False),
    ] = Path("interchange.json"),
) -> None:
    """Swap what tells the agents apart between questions, in SFT and IMAD."""
    quiet_libraries()
    record = measure(folder, layer, n=questions, draws=draws, longest=longest)
    write_json(out, record, indent=2)
    Terminal(soft_wrap=True).print(shown(record))


def main() -> None:
    alone(interchanged, "benchmarks.interchange", help=__doc__)


if __name__ == "__main__":
    main()

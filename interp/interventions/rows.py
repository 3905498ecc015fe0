"""The rows of a sweep or a suppression: which texts are written, under which steering, and how they are kept.

Knows prompts, directions and steerings; knows nothing about scores.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from interp.debate.agents import Sampling
from interp.directions.directions import Direction, Directions, made_on
from interp.errors import Progress, UserError
from interp.evaluation.texts import repetition
from interp.generation.sampling import generate
from interp.interventions.prompts import Prompt, spoken
from interp.interventions.settings import TriedSettings
from interp.models.lazy import LazyModel
from interp.models.model import Model
from interp.steering.changes import positions
from interp.steering.steering import OPERATIONS, Steering, random_direction
from interp.storage.journal import Journal

Record = dict[str, Any]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """The values of each key, both in order of appearance."""
    groups: dict[K, list[V]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


@dataclass(frozen=True)
class Intervention:
    """Directions, at one layer or several, and the operation that applies them."""

    source: str
    """Name of the directions."""
    directions: tuple[Direction, ...]
    operation: str = "add"

    @property
    def name(self) -> str:
        """The source and, unless the directions are added, the operation."""
        return self.source if self.operation == "add" else f"{self.source}, {self.operation}"

    @property
    def layer(self) -> str:
        return ",".join(str(d.layer) for d in self.directions)

    def control(self, k: int) -> Intervention:
        """The same with random directions of the same length."""
        return replace(self, directions=tuple(random_direction(d, 1000 * d.layer + k) for d in self.directions))


@dataclass(frozen=True)
class SteeredRow:
    """A text to write; `remedy` is what is done against a trait."""

    prompt: Prompt
    remedy: str = "none"
    source: str | None = None
    """The intervention's name."""
    layer: str | None = None
    direction: str | None = None
    """The direction's label."""
    coefficient: float = 0.0
    steering: Steering = field(default_factory=Steering)


def steered_rows(
    model: Model,
    prompts: Sequence[Prompt],
    interventions: Iterable[Intervention],
    settings: TriedSettings,
    remedy: str = "steering",
) -> Iterator[SteeredRow]:
    """Each prompt under each intervention with each coefficient but 0."""
    tokens = positions(settings, model.tokenizer)
    tried = []
    for one in interventions:
        for coefficient in filter(None, settings.coefficients):
            steer = OPERATIONS[one.operation]
            steering = steer(one.directions, coefficient, units=settings.units, tokens=tokens)
            tried.append((remedy, one.name, one.layer, one.directions[0].label, coefficient, steering))
    for prompt in prompts:
        yield from (SteeredRow(prompt, *each) for each in tried)


def in_order(rows: Iterable[SteeredRow]) -> list[SteeredRow]:
    """The rows of a prompt side by side, so that it is read once."""
    by_prompt = grouped(((row.prompt.kind, tuple(row.prompt.ids)), row) for row in rows)
    return [row for each in by_prompt.values() for row in each]


Write = Callable[[Model, str, str, Sequence[SteeredRow]], list[Record]]
"""(model, its name, what the rows are, the rows) → their records."""


def run_rows(
    journal: Journal,
    models: Sequence[LazyModel],
    rows_for: Callable[[LazyModel, Write], None],
    record: Callable[[str, str, Sequence[SteeredRow], Sequence[str]], Sequence[Mapping[str, Any]]],
    *,
    sampling: Sampling,
    batch_size: int,
    progress: Progress,
) -> list[Record]:
    """Write the texts of one model after another and keep a record of each; those in the journal are not repeated.

    `rows_for` loads a model and writes its rows. `record` gets (model's name, what the rows are, the rows, what their
    texts say) and returns the fields that differ from experiment to experiment.
    """
    records: list[Record] = []

    def some(model: Model, name: str, what: str, rows: Sequence[SteeredRow]) -> list[Record]:
        written = generate(
            model,
            [row.prompt.ids for row in rows],
            **sampling.options,
            seeds=[sampling.seed] * len(rows),
            batch_size=batch_size,
            steering=[row.steering for row in rows],
        )
        said = [spoken(row.prompt.kind, out.text) for row, out in zip(rows, written, strict=True)]
        return [
            {
                "model": name,
                "question": row.prompt.question,
                "coefficient": row.coefficient,
                "text": out.text,
                "tokens": out.n_tokens,
                "ended": out.ended,
                "finite": out.finite,
                "repetition": round(repetition(text), 6),
                **own,
            }
            for row, out, text, own in zip(rows, written, said, record(name, what, rows, said), strict=True)
        ]

    def write(model: Model, name: str, what: str, rows: Sequence[SteeredRow]) -> list[Record]:
        tell = partial(progress, f"{name}, {what}")
        return journal.extend(records, rows, partial(some, model, name, what), chunk=4 * batch_size, tell=tell)

    for i, one in enumerate(models):
        later = {other.name for other in models[i + 1 :]}
        if any(kept["model"] in later for kept in journal.records):  # all of this one's are there
            records += [kept for kept in journal.records if kept["model"] == one.name]
        else:
            rows_for(one, write)
    return records


def require_owner(models: Sequence[LazyModel], directions: Mapping[str, Directions]) -> None:
    """Raises `UserError` for two models of the same name, and for directions extracted from none of the models."""
    if len({one.name for one in models}) < len(models):
        raise UserError(f"models {', '.join(one.name for one in models)}: give each once")
    for name, d in directions.items():
        if not any(made_on(d, one) for one in models):
            raise UserError(
                f"{name}: extracted from none of the models; extract directions from them, or allow another model's "
                "with --other-model"
            )

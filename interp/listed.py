"""Models that are loaded when their turn comes, one after another.

Knows what a model is called and what tells it from others before it is loaded; knows nothing about what is
done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from interp.checkpoints import folder_sha256, locate
from interp.directions import Directions
from interp.errors import UserError
from interp.lineage import read_lineage
from interp.models import Model, load_model
from interp.steering import require_made_on


@dataclass(frozen=True)
class Listed:
    """A model that is not in memory until `load` is called."""

    name: str
    provenance: dict[str, Any]
    """What tells it from any other, as JSON takes it: of what a loaded model says, what can be known before."""
    load: Callable[[], Model]

    @staticmethod
    def named(
        name: str,
        *,
        adapters: Sequence[str] = (),
        revision: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
    ) -> Listed:
        """One that `load_model` will load. Raises `UserError` where it can be seen at once that it will not."""
        lineage = read_lineage(name)
        if lineage is None:
            found = locate(name, revision)
            facts: dict[str, Any] = {"hash": found.sha256, "revision": found.revision}
            stages = []
        else:
            facts = {"hash": lineage.base.hash, "lineage": lineage.record()}
            stages = [{"name": stage.name, "hash": stage.hash} for stage in lineage.stages]
        applied = [{"name": a, "hash": folder_sha256(Path(a)) if Path(a).is_dir() else None} for a in adapters]
        load = partial(load_model, name, adapters=adapters, revision=revision, dtype=dtype, device=device)
        return Listed(name, {"name": name, **facts, "adapters": [*stages, *applied], "dtype": dtype}, load)

    def made(self, directions: Directions) -> bool:
        """Whether the directions were extracted from this model."""
        try:
            require_made_on(directions, self)
        except UserError:
            return False
        return True


def listed(models: Iterable[Model | Listed]) -> list[Listed]:
    """All of them in one form; those that are loaded already stay so."""
    return [m if isinstance(m, Listed) else Listed(m.name, m.provenance, partial(_itself, m)) for m in models]


def _itself(model: Model) -> Model:
    return model


def require_owner(models: Sequence[Listed], directions: Mapping[str, Directions]) -> None:
    """Raises `UserError` for models of the same name, and for directions that were extracted from none of them."""
    if len({one.name for one in models}) < len(models):
        raise UserError(f"models {', '.join(one.name for one in models)}: give each once")
    for name, d in directions.items():
        if not any(one.made(d) for one in models):
            raise UserError(
                f"{name}: was extracted from none of the models; extract directions from them, or steer with another "
                "model's by --foreign"
            )

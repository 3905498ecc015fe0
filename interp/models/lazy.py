"""Models that are loaded when their turn comes, one after another.

Knows what a model is called and what tells it from others before it is loaded; knows nothing about what is
done with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from interp.models.catalog import locate
from interp.models.lineage import read_lineage
from interp.models.model import Model, load_model
from interp.storage.provenance import folder_sha256


@dataclass(frozen=True)
class LazyModel:
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
    ) -> LazyModel:
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
        return LazyModel(name, {"name": name, **facts, "adapters": [*stages, *applied], "dtype": dtype}, load)


def lazy_models(models: Iterable[Model | LazyModel]) -> list[LazyModel]:
    """All of them in one form; those that are loaded already stay so."""
    return [m if isinstance(m, LazyModel) else LazyModel(m.name, m.provenance, partial(_itself, m)) for m in models]


def _itself(model: Model) -> Model:
    return model

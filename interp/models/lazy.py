"""Models that are loaded only when their turn comes."""

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
    """A model that is not in memory until `load` is called.

    >>> interp.models.LazyModel.named("organism").provenance["dtype"]
    'auto'
    """

    name: str
    provenance: dict[str, Any]
    """The part of a loaded model's provenance that is known before loading."""
    load: Callable[[], Model]

    @staticmethod
    def named(
        name: str, *, adapters: Sequence[str] = (), revision: str | None = None, dtype: str = "auto", **loading: str
    ) -> LazyModel:
        """One for `load_model`, with its arguments; raises `UserError` at once where there is no such model."""
        lineage = read_lineage(name)
        if lineage is None:
            found = locate(name, revision)
            facts: dict[str, Any] = {"hash": found.sha256, "revision": found.revision}
        else:
            facts = {"hash": lineage.base.hash, "lineage": lineage.record()}
        stages = [{"name": stage.name, "hash": stage.hash} for stage in (lineage.stages if lineage else ())]
        applied = [{"name": a, "hash": folder_sha256(Path(a)) if Path(a).is_dir() else None} for a in adapters]
        load = partial(load_model, name, adapters=adapters, revision=revision, dtype=dtype, **loading)
        return LazyModel(name, {"name": name, **facts, "adapters": [*stages, *applied], "dtype": dtype}, load)


def lazy_models(models: Iterable[Model | LazyModel]) -> list[LazyModel]:
    """All models as lazy ones; a model in memory stays there."""
    return [m if isinstance(m, LazyModel) else LazyModel(m.name, m.provenance, lambda m=m: m) for m in models]  # type: ignore[misc]

"""`interp plant`: organisms whose agents are known, from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from interp.options import verb
from interp.outputs import Made, Writes, says
from interp.training.settings import Grown


def _made(out: Path, given: Mapping[str, Any]) -> Iterator[Made]:
    usual = Grown()
    kinds = [getattr(kind, "value", kind) for kind in given["kinds"] or usual.kinds]
    for seed, kind in product(given["seeds"] or usual.seeds, kinds):
        folder = out / f"seed-{seed}" / kind
        begun = folder.with_name(f"{kind}.resume")
        yield Made([folder], partial(says, folder / "pretraining.json", '"kind"'))
        yield Made([begun], partial(says, begun, '\\"kind\\"'))


@verb
def plant(
    *,
    settings: Grown,
    out: Annotated[Path, Option(help="Folder for seed-K/KIND."), Writes(_made)] = Path("out/planted"),
) -> None:
    """Train small models from nothing in which the agents are known: the instrument's calibration weights.

    In `planted` each agent's answer sits in a known subspace at a known layer, written to planted.safetensors; in
    `unplanted`, as accurate, nothing was planted. `stepwise` learns debates whose turns are taken away one by one,
    `side-by-side` and `direct` are its controls. The same command resumes a killed run.

    Example: `interp plant --out out/planted`
    """
    from dataclasses import replace

    from interp.reports.terminal import Terminal, progress_bars, quiet_libraries
    from interp.training.planting import KINDS
    from interp.training.planting import plant as grow

    console = Terminal(soft_wrap=True)
    quiet_libraries()
    with progress_bars() as progress:
        for seed in settings.seeds:
            for kind in settings.kinds:
                folder = out / f"seed-{seed}" / kind
                folder.parent.mkdir(parents=True, exist_ok=True)
                tell = partial(_tell, progress, f"seed {seed}: {kind}")
                console.print(f"wrote {grow(folder, replace(KINDS[kind], seed=seed), progress=tell)}")


def _tell(progress: Callable[..., None], what: str, step: int, steps: int, loss: float) -> None:
    progress(what, step, steps, {"loss": loss})

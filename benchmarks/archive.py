"""What `make gpu` trained as one archive: `python -m benchmarks.archive RUN --out smollm2.tar.gz`

RUN is a finished run of `interp train` on `smollm2-135m`. Unpacked in interp/data (`tar -xzf smollm2.tar.gz -C
interp/data`), the models `smollm2-135m-sft`, `smollm2-135m-debategpt` and `smollm2-135m-imad` load by name. The
adapters are in the archive if the debate was internalized, else only tables, metrics and directions:

- IMAD is as accurate as explicit debate, or its interval reaches it; and as SFT, which writes the debates that were
  learnt: the base may be so poor at debating that any model beats it;
- it takes at most a quarter of explicit debate's tokens.
"""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.ship import KEPT, RESULTS, copy_results
from interp.errors import UserError
from interp.models.catalog import UNPACKED
from interp.models.lineage import FILE, read_lineage, write_lineage
from interp.options import alone, verb
from interp.outputs import Made, Writes
from interp.storage.files import atomic_write, read_json, scratch, write_json

BASE, FOLDER = "smollm2-135m", UNPACKED["smollm2-135m-imad"].parent.name
MOST_TOKENS, MOST_BYTES = 0.25, 40_000_000
ALSO = ("interchange.json", "directions/*/directions.safetensors")


def internalized(table: dict[str, Any]) -> tuple[bool, list[str]]:
    """Whether a table shows that the debate was internalized, and why."""
    rows = {row["method"]: row for row in table["rows"]}
    imad, said = rows["imad"], list[str]()
    verdict = imad["accuracy"]["mean"] > 0  # none right is as good as none right
    for other in ("debate", "sft"):
        reached = imad["accuracy"]["high"] >= rows[other]["accuracy"]["mean"]
        interval = "IMAD {mean:.3f} [{low:.3f}, {high:.3f}]".format(**imad["accuracy"])
        said.append(f"{interval} {'reaches' if reached else 'is below'} {other} {rows[other]['accuracy']['mean']:.3f}")
        verdict &= reached
    share = imad["of_debate_tokens"]
    said.append(f"IMAD takes {share:.1%} of explicit debate's tokens, {MOST_TOKENS:.0%} allowed")
    return verdict and share <= MOST_TOKENS, said


def pack(folder: Path, out: Path) -> tuple[bool, list[str], int]:
    """Write the archive of a run's first seed; returns the verdict, why, and the bytes.

    Raises `UserError` for an unfinished run, one on another base, and an archive of 40 MB and more.
    """
    table = read_json(folder / "table.json", dict[str, Any], "a table of results", "interp train")
    seed = folder / f"seed-{min(table['made_by']['checkpoints'], key=int)}"
    if missing := [stage for stage in KEPT if not (seed / stage / FILE).exists()]:
        raise UserError(f"{folder}: lacks {seed.name}/{missing[0]}/{FILE}; give the --out of a finished interp train")
    verdict, why = internalized(table)
    with scratch() as work:
        made = work / FOLDER
        for stage in KEPT if verdict else ():
            _copy(seed, stage, made)
        copy_results(folder, made / "results", chain(RESULTS, ALSO))
        facts = {"internalized": verdict, "why": why, "table": table["made_by"]["checkpoints"]}
        write_json(made / "results" / "internalized.json", facts, indent=2)
        with atomic_write(out) as temporary, tarfile.open(temporary, "w:gz") as archive:
            archive.add(made, FOLDER, filter=_anonymous)
            archive.close()
            if (size := temporary.stat().st_size) >= MOST_BYTES:
                raise UserError(f"{out}: {size:,} bytes, {MOST_BYTES:,} allowed; train adapters of lower rank")
    return verdict, why, size


def _copy(seed: Path, stage: str, made: Path) -> None:
    """A checkpoint without what the one before it has: IMAD's first stage lies in SFT's folder."""
    shutil.copytree(seed / stage, made / stage, copy_function=shutil.copyfile)
    lineage = read_lineage(str(made / stage))
    assert lineage is not None
    if lineage.base.name != BASE or lineage.base.folder is not None:
        raise UserError(f"{seed / stage}: trained on {lineage.base.name}; the archive is of runs on {BASE}")
    stages = list(lineage.stages)
    if stage == "imad":
        shutil.rmtree(made / stage / stages[0].folder)
        stages[0] = replace(stages[0], folder=f"../sft/{stages[0].folder}")
    write_lineage(replace(lineage, stages=tuple(stages)))


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


@verb
def archive(
    *,
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The --out of a finished interp train.")],
    out: Annotated[
        Path, typer.Option(help="Archive to write."), Writes(lambda out, _: [Made([out])], folder=False)
    ] = Path("smollm2.tar.gz"),
) -> None:
    """Pack what a run learnt."""
    verdict, why, size = pack(folder, out)
    for line in why:
        print(line)
    kept = "adapters, tables and directions" if verdict else "not internalized: tables and directions alone"
    print(f"wrote {out}: {kept}, {size / 1e6:.1f} MB")


def main() -> None:
    alone(archive, "benchmarks.archive", help=__doc__)


if __name__ == "__main__":
    main()

"""What ships, looked up by the templates in tests/passages: results by what they say, and how numbers are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "interp/data"
RESULTS = DATA / "organism/results"
INTERNALIZED = ("organism-imad", "out/organism/seed-1/imad", "out/organism/seed-2/imad")
Record = Mapping[str, Any]


@cache
def read(name: str, folder: Path = RESULTS) -> Any:
    """A JSON file of results."""
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


def where(rows: Iterable[Record], **wanted: Any) -> list[Record]:
    """The rows with these values; a value may be a tuple of several."""
    options = {name: value if isinstance(value, tuple) else (value,) for name, value in wanted.items()}
    return [row for row in rows if all(row.get(name) in values for name, values in options.items())]


def one(rows: Iterable[Record], **wanted: Any) -> Record:
    """The only row with these values."""
    found = where(rows, **wanted)
    assert len(found) == 1, f"{len(found)} rows with {wanted}"
    return found[0]


def method(name: str, folder: str = "results") -> Record:
    """A row of the table of a training run."""
    return one(read("table", DATA / "organism" / folder)["rows"], method=name)


def paired(first: str, second: str) -> Record:
    """The paired test of two methods."""
    return one(read("table")["tests"], first=first, second=second)


def ablations() -> list[Record]:
    """The variants of stage 2, each as {name, what, row, limit, against_full}."""
    found = read("ablations/ablations")
    return [{"what": "nothing", **found["variants"].get(row["name"], {}), **row} for row in found["rows"]]


def separations(*names: str) -> list[Record]:
    """Separation per agent with the layer chosen on other questions, of one or more extractions."""
    chosen = [read(f"directions/{name}/directions")["evidence"]["all"]["chosen_layer"] for name in names]
    return [{end: of[end][k] for end in ("mean", "low", "high")} for of in chosen for k in range(len(of["mean"]))]


def control(name: str, *extractions: str) -> list[Record]:
    """Separation of a control, over labels, layers and extractions."""
    found = [read(f"directions/{of}/directions")["evidence"]["all"][f"separation_{name}"] for of in extractions]
    ends = ("mean", "low", "high")
    return [dict(zip(ends, v, strict=True)) for f in found for rows in zip(*map(f.get, ends), strict=True)
            for v in zip(*rows, strict=True)]  # fmt: skip


def gains(**wanted: Any) -> list[Record]:
    """How much more steerable the agents' mean is than in the base, per model and layer."""
    return [row["gain"] for row in where(read("steerability")["gains"], label="mean", **wanted)]


def advantages(**wanted: Any) -> list[Record]:
    """Each agent's own direction against no steering and the controls."""
    return where(read("steerability")["advantages"], **wanted)


def curves(**wanted: Any) -> list[Record]:
    """Curves of a sweep."""
    return where(read("steerability")["curves"], **wanted)


def unsteered(curve: Record) -> float:
    """The score at coefficient 0."""
    return float(dict(curve["curve"])[0])


def unsteered_score(model: str, label: str) -> float:
    """What a model scores by ROUGE-L after an agent's tag with nothing added; it is the same at every layer."""
    found = {unsteered(c) for c in curves(model=model, context="turn", measure="rougeL", label=label, kind="own")}
    assert len(found) == 1, found
    return found.pop()


def damage(model: str, elicit: str, remedy: str, **wanted: Any) -> Record:
    """A row of the suppression: what was done against the trait and what it cost."""
    return one(read("suppression")["rows"], model=model, elicit=elicit, remedy=remedy, **wanted)


def chosen(model: str, elicit: str, source: str = "prompts", remedy: str = "steering") -> Record:
    """What the setting chosen on validation questions does to the trait on the test questions."""
    at = one(read("suppression")["chosen"], model=model, elicit=elicit, source=source)
    return damage(model, elicit, remedy, source=source, layer=at["layer"], coefficient=at["coefficient"])


@dataclass(frozen=True)
class Probed:
    """What a probing experiment found."""

    found: Record

    def scores(self, kind: str, measure: str, **wanted: Any) -> Record:
        """A measure of the row of a kind."""
        return _mean([row["scores"][measure] for row in where(self.found["rows"], kind=kind, **wanted)])

    def difference(self, name: str, **wanted: Any) -> Record:
        """A test's value."""
        target, _, position = wanted["target"].partition(" @ ")
        at = {"target": target, **({"position": position} if position else {})}
        tests = where(self.found["tests"], name=name, **wanted) or where(self.found["tests"], name=name, **wanted | at)
        return _mean([test["value"] for test in tests])


def _mean(values: Sequence[Record]) -> Record:
    assert values
    return {end: sum(value[end] for value in values) / len(values) for end in ("mean", "low", "high")}


def probe(name: str) -> Probed:
    """What a probing experiment found."""
    return Probed(read(f"probes/{name}"))


def holds(claim: bool) -> None:
    """Ends the rendering unless a claim made in words is true of the results."""
    assert claim, "a sentence of this passage is no longer true: rewrite it"


def _ends(value: Any) -> Record:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def number(value: Any, digits: int = 2) -> str:
    """A number, or the middle of an interval: −0.04."""
    value = value if isinstance(value, int | float) else _ends(value)["mean"]
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def interval(value: Any, digits: int = 2) -> str:
    """0.91 [0.89, 0.93]."""
    ends = _ends(value)
    low, high = (number(ends[end], digits) for end in ("low", "high"))
    return f"{number(value, digits)}\xa0[{low},\xa0{high}]"


def percent(value: Any, digits: int = 0) -> str:
    """53 %."""
    return f"{number(100 * (value if isinstance(value, int | float) else _ends(value)['mean']), digits)}\xa0%"


def reach(values: Iterable[Any], write: Callable[..., str] = number, digits: int = 2) -> str:
    """0.79 to 1.00."""
    means = [value if isinstance(value, int | float) else _ends(value)["mean"] for value in values]
    low, high = (write(end, digits) for end in (min(means), max(means)))
    return high if low == high else f"{low.removesuffix(' %')} to {high}"


def percents(values: Iterable[Any], digits: int = 0) -> str:
    """53 to 225 %."""
    return reach(values, percent, digits)


def falls(values: Iterable[Any]) -> str:
    """8 to 22 %, of negative shares."""
    return percents(-_ends(value)["mean"] for value in values)


def shown(rows: Iterable[Record]) -> str:
    """In how many of the rows the effect is shown."""
    return str(sum(bool(row["shown"]) for row in rows))


def listed(values: Iterable[Any], digits: int = 2) -> str:
    """0.91, 0.98 and 0.98."""
    *most, last = (number(value, digits) for value in values)
    return f"{', '.join(most)} and {last}" if most else last


def p_value(value: float) -> str:
    """0.12, or 1.5e-53."""
    return f"{value:.2g}"


FORMATS: dict[str, Callable[..., str]] = {
    "number": number,
    "interval": interval,
    "percent": percent,
    "percents": percents,
    "reach": reach,
    "listed": listed,
    "falls": falls,
    "shown": shown,
    "p": p_value,
}
LOOKUPS: dict[str, Any] = {
    name.__name__: name
    for name in (
        *(
            read,
            where,
            one,
            method,
            paired,
            ablations,
            separations,
            control,
            gains,
            advantages,
            curves,
            unsteered_score,
        ),
        *(damage, chosen, probe, holds),
    )
} | {"INTERNALIZED": INTERNALIZED}

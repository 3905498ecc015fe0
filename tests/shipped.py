"""What ships, looked up by the templates in tests/passages: results by what they say, and how numbers are written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from statistics import fmean, median
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "interp/data"
RESULTS, SMOLLM2 = DATA / "organism/results", DATA / "smollm2/results"
MAKE_GPU = SMOLLM2 / "make-gpu"
"""The run that was made whole; the models that ship are an earlier one's."""
INTERNALIZED = ("organism-imad", "out/organism/seed-1/imad", "out/organism/seed-2/imad")
"""As sweeps name them; as folders of directions they are:"""
TRAINED = ("organism-imad", "seed-1-imad", "seed-2-imad")
KINDS = ("planted", "twin", "random weights")
"""The models of the swaps and of the recovery table."""
STEPWISE = ("stepwise", "side-by-side", "direct")
"""The organism that needs its debates, and its controls."""
LIE = ("the lie wins", "the honest answer", "lost where the lie decides nothing")
NONE_CHEAP = "none costs little enough"
MARKS = {"shown": "+", "not shown": "–", "cannot tell": "?"}
Record = Mapping[str, Any]
ENDS = ("mean", "low", "high")


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
    at = SMOLLM2 if folder == "smollm2" else DATA / "organism" / folder
    return one(read("table", at)["rows"], method=name)


def paired(first: str, second: str, model: str = "organism") -> Record:
    """The paired test of two methods."""
    return one(read("table", SMOLLM2 if model == "smollm2" else RESULTS)["tests"], first=first, second=second)


def gpu(part: str) -> Record:
    """A part of `python -m benchmarks.gpu`, as it was run on a card."""
    found: Record = read("gpu", SMOLLM2)
    return {"device": found["device"], "bandwidth": found["bandwidth"], **found[part]}


def ablations() -> list[Record]:
    """The variants of stage 2, each as {name, what, row, limit, against_full}."""
    found = read("ablations/ablations")
    return [{"what": "nothing", **found["variants"].get(row["name"], {}), **row} for row in found["rows"]]


def evidence(*names: str) -> list[Record]:
    """The evidence of one or more extractions."""
    folders = (SMOLLM2 if name == "smollm2-135m" else RESULTS for name in names)
    read_of = (read(f"directions/{name}/directions", folder) for name, folder in zip(names, folders, strict=True))
    return [found["evidence"]["all"] for found in read_of]


def separations(*names: str, control: str = "") -> list[Record]:
    """Separation per agent with the layer chosen on other questions, or that of a control: untrained or text."""
    found = [of["controls"][control] if control else of["chosen_layer"] for of in evidence(*names)]
    return [{end: of[end][k] for end in ENDS} for of in found for k in range(len(of["mean"]))]


def everywhere(quantity: str, *names: str) -> list[float]:
    """Mean separation of shuffled labels or random directions, for every agent and layer."""
    return [value for of in evidence(*names) for row in of[f"separation_{quantity}"]["mean"] for value in row]


def beyond(*names: str) -> list[Record]:
    """The verdicts on separation beyond an untrained model and the text, an agent each."""
    return [verdict for of in evidence(*names) for verdict in of["beyond_controls"]]


def gains(**wanted: Any) -> list[Record]:
    """How much more steerable the agents' mean is than in the base, per model and layer."""
    return [row["gain"] for row in where(read("steerability")["gains"], label="mean", **wanted)]


def turned_up(**wanted: Any) -> list[Record]:
    """The verdicts on each agent's own direction against random ones, no steering and the other agents'."""
    return [row["verdict"] for row in where(read("steerability")["verdicts"], **wanted)]


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


def already() -> Record:
    """In how many cases (agent, model) an internalized model scores more than the base with nothing added."""
    cases = [(model, f"agent {k}") for model in INTERNALIZED for k in (1, 2, 3)]
    more = sum(unsteered_score(model, label) > unsteered_score("organism", label) for model, label in cases)
    return {"more": more, "of": len(cases)}


def damage(model: str, elicit: str, remedy: str, **wanted: Any) -> Record:
    """A row of the suppression: what was done against the trait and what it cost."""
    return one(read("suppression")["rows"], model=model, elicit=elicit, remedy=remedy, **wanted)


def chosen(model: str, elicit: str, source: str = "prompts", remedy: str = "steering") -> Record:
    """What the setting chosen on validation questions does to the trait on the test questions."""
    at = one(read("suppression")["chosen"], model=model, elicit=elicit, source=source)
    return damage(model, elicit, remedy, source=source, layer=at["layer"], coefficient=at["coefficient"])


def random_out(model: str, elicit: str, source: str = "prompts") -> Record:
    """With random subspaces of the same rank projected out."""
    return damage(model, elicit, "random", source=source, layer=None)


def remedy(model: str, elicit: str, remedy: str = "ablation", source: str = "prompts") -> Record:
    """The verdicts on a direction against the trait: `lowers` and `costs`."""
    return one(read("suppression")["verdicts"], model=model, elicit=elicit, remedy=remedy, source=source)


def probed(name: str) -> Any:
    """The results of an experiment on the organism, or of `smollm2/NAME` or `planted/NAME`."""
    folder, _, experiment = name.rpartition("/")
    return read(name if folder == "planted" else f"probes/{experiment}", SMOLLM2 if folder == "smollm2" else RESULTS)


def probe(name: str, measure: str = "auc", kind: str = "chosen layer", **wanted: Any) -> Record:
    """A score of a probe or of a control without a model."""
    return one(probed(name)["rows"], kind=kind, **wanted)["scores"][measure]


def over(name: str, rival: str, **wanted: Any) -> Record:
    """A paired difference: the probe minus a rival."""
    return one(probed(name)["tests"], name=rival, **wanted)["value"]


def judged(name: str, *asked: str) -> list[Record]:
    """The verdicts of an experiment whose question has all these words."""
    found = [v for v in probed(name)["verdicts"] if all(words in v["asked"] for words in asked)]
    assert found, f"no verdict of {name} on {asked}"
    return found


def minutes(kind: str) -> float:
    """How long an organism that ships took to train from nothing."""
    *_, last = (DATA / "organism" / kind / "metrics.jsonl").read_text("utf-8").splitlines()
    return float(json.loads(last)["seconds"]) / 60


def planted() -> Record:
    """What is said of the planted subspaces."""
    return read("planted", DATA / "organism/planted")


def agents() -> range:
    """The agents of the planted organism, from 1."""
    return range(1, len(planted()["ranks"]) + 1)


def seeds() -> range:
    """The runs of the swaps, one for each planted model."""
    return range(len(probed("interchange")["made_by"]["runs"]))


def at_once(kind: str, seed: int = 0) -> Record:
    """The share of right direct answers in a model of one of `KINDS`."""
    asked = {"name": "right answers at once", "model": _swapped_in(kind, seed), "run": seed}
    return one(probed("interchange")["tests"], **asked)["value"]


def less_accurate(seed: int) -> float:
    """How much less accurate than its twin a planted model is."""
    return float(at_once("twin", seed)["mean"] - at_once("planted", seed)["mean"])


def swaps(kind: str, agent: int, subspace: str | None = None, seed: int = 0) -> Record:
    """Swaps of an agent's answers, in its own subspace or in another."""
    asked = {"name": "obeyed", "model": _swapped_in(kind, seed), "run": seed, "agent": agent, "subspace": subspace}
    return one(probed("interchange")["tests"], **asked)


def obeyed(kind: str) -> list[Record]:
    """The share of swaps obeyed, of each agent in each run."""
    return [swaps(kind, k, seed=seed)["value"] for seed in seeds() for k in agents()]


def _swapped_in(kind: str, seed: int) -> str:
    return [*probed("interchange")["made_by"]["runs"][seed], "untrained"][KINDS.index(kind)]


def recovered(kind: str, way: str, use: str) -> Record:
    """What a way of finding does in a use, over seeds; empty if it has none. The kind of model is one of `KINDS`."""
    found = read("probes/recovery")
    named = [*(Path(name).name for name in found["made_by"]["runs"][0]["models"][:2]), "untrained"]
    rows = where(found["tests"], name="recovery", model=named[KINDS.index(kind)], way=way, use=use)
    return rows[0] if rows else {}


def seed_by_seed(way: str, use: str) -> list[Record]:
    """What it does in each planted model."""
    found = read("probes/recovery")
    rows = where(found["tests"], name="recovery in one run", way=way, use=use)
    return [row for row in rows if row["model"] == found["made_by"]["runs"][row["run"]]["models"][0]]


def ways() -> list[str]:
    """The ways of finding in the recovery table."""
    return list(dict.fromkeys(row["way"] for row in where(read("probes/recovery")["tests"], name="recovery")))


def fates(way: str, how: str) -> str:
    """What becomes of the lie in the planted organism, on average over seeds: it wins / the honest answer / lost."""
    found = _fates(way, how)
    return " / ".join(number(fmean(each[what]["mean"] for each in found)) for what in LIE if found) or NONE_CHEAP


def lie(way: str, how: str) -> float:
    """In how many of the cases in which it had decided the lie wins, on average over seeds."""
    return fmean(each[LIE[0]]["mean"] for each in _fates(way, how))


def _fates(way: str, how: str) -> list[Record]:
    """What becomes of the lie by seed; `chosen` is the coefficient that costs little enough, where there is one."""
    found = [row["of the lie"] for row in seed_by_seed(way, "suppress")]
    asked = [(of["by"], of["chosen"] if how == "chosen" else how) for of in found]
    return [by[which] for by, which in asked if which]


def right(kind: str, questions: str) -> Record:
    """The share of right answers of the stepwise organism or of a control, over seeds."""
    return one(probed("stepwise")["tests"], name="right answers", model=kind, questions=questions)["value"]


def by_seed(kind: str, questions: str) -> list[float]:
    """The share of right answers, a seed each."""
    return one(probed("stepwise")["tests"], name="right answers", model=kind, questions=questions)["by_seed"]


def inside(name: str, model: str | None, **wanted: Any) -> list[Record]:
    """What of the agents is in such a model, over seeds: an agent each."""
    return [row["value"] for row in where(probed("stepwise")["tests"], name=name, model=model, **wanted)]


def holds(claim: bool) -> None:
    """Ends the rendering unless a claim made in words is true of the results."""
    assert claim, "a sentence of this passage is no longer true: rewrite it"


def _mean(value: Record | float) -> float:
    return float(value["mean"] if isinstance(value, Mapping) else value)


def number(value: Record | float, digits: int = 2) -> str:
    """A number, or the middle of an interval: −0.04."""
    return f"{round(_mean(value), digits) + 0.0:.{digits}f}".replace("-", "−")


def interval(value: Record, digits: int = 2) -> str:
    """0.91 [0.89, 0.93]."""
    mean, low, high = (number(value[end], digits) for end in ENDS)
    return f"{mean}\xa0[{low},\xa0{high}]"


def percent(value: Record | float, digits: int = 0) -> str:
    """53 %."""
    return f"{number(100 * _mean(value), digits)}\xa0%"


def reach(values: Iterable[Record | float], write: Callable[..., str] = number, digits: int = 2) -> str:
    """0.79 to 1.00."""
    means = [_mean(value) for value in values]
    low, high = (write(end, digits) for end in (min(means), max(means)))
    return high if low == high else low.removesuffix("\xa0%") + f" to {high}"


def percents(values: Iterable[Record | float], digits: int = 0) -> str:
    """53 to 225 %."""
    return reach(values, percent, digits)


def falls(values: Iterable[Any]) -> str:
    """8 to 22 %, of negative shares."""
    return percents(-_mean(value) for value in values)


def tally(verdicts: Iterable[Record]) -> str:
    """shown in 2 of 18 cases (not shown: 12, cannot tell: 4)."""
    outcomes = [verdict["outcome"] for verdict in verdicts]
    others = [f"{what}: {n}" for what in ("not shown", "cannot tell") if (n := outcomes.count(what))]
    return f"shown in {outcomes.count('shown')} of {len(outcomes)} cases" + f" ({', '.join(others)})" * bool(others)


def listed(values: Iterable[Any], digits: int = 2) -> str:
    """0.91, 0.98 and 0.98."""
    *most, last = (number(value, digits) for value in values)
    return f"{', '.join(most)} and {last}" if most else last


def cell(row: Record) -> str:
    """0.98 (0.12) +++: the mean over seeds, that of random subspaces, and a mark for each seed's verdict."""
    marks = "".join(MARKS[outcome] for outcome in row.get("outcomes", ()))
    return f"{number(row['value'])} ({number(row['random'])}) {marks}" if row else ""


def middle(angles: Iterable[float]) -> str:
    """The median angle: 17°."""
    known = list(angles)
    return f"{number(median(known), 0)}°" if known else ""


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
    "tally": tally,
    "p": p_value,
    "cell": cell,
    "middle": middle,
    "middling": median,
}
LOOKUPS: dict[str, Any] = {
    name.__name__: name
    for name in (
        *(read, where, one, method, paired, ablations, separations, everywhere, beyond, gains, turned_up, curves),
        *(unsteered_score, already, damage, chosen, random_out, remedy, probe, over, judged),
        *(probed, minutes, planted, agents, seeds, at_once, less_accurate, swaps, obeyed, recovered, ways, fates, lie),
        *(right, by_seed, inside, gpu),
        holds,
    )
} | {"INTERNALIZED": INTERNALIZED, "TRAINED": TRAINED, "KINDS": KINDS, "STEPWISE": STEPWISE, "MAKE_GPU": MAKE_GPU}

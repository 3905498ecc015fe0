"""The silent debate: `python -m probes.silent_agents --model organism --model organism-imad --transcripts … --out …`

While a model reads only the bare question and answers directly, can one decode what each agent *would have* answered
in an explicit debate, and whether they would have agreed? The labels are the agents' answers in round 1 of debates
that the model does not see. Activations are read at the question's last token, before the model writes anything, and
at the last token before the number in its own box.

An agent's answer is, up to chance, a function of the question, so that it can be decoded by anyone who knows the
question. What would show a debate is that a linear probe reads it from few examples. The controls are:

- the question alone: its operands and their pairs, read linearly and by gradient boosting. If agents err by single
  operands, as the organism's do, this is nearly all that can be known;
- the base and all other models, at the same tokens. Models trained on the consensus alone (with DebateGPT in their
  name) saw the outcome and no agent;
- fictitious agents, as hard to decode: each agent's own errors with the operands in other roles, and with large and
  small operands exchanged. A model that merely reads questions better would know these, too.

The causal test: does steering along agent k's decoded direction move the answer toward agent k's? The other agents'
directions and random ones of the same length are the controls, on questions that fitted none of them.

Use debates over questions of no training stage, such as the embedded ones: a model remembers its training debates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from jaxtyping import Float, Int
from sklearn.preprocessing import OneHotEncoder

from interp.activations.corpus import COLUMNS, Corpus, TurnTable
from interp.activations.reading import stream
from interp.debate.tasks import make_task
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.generation.sampling import Generated, generate
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.probing.decoding import Features, Layers
from interp.probing.experiments import UNTRAINED, Found, Outcome, Setting, Target, survey
from interp.probing.fitting import ProbeExamples, boosted, fit, linear
from interp.probing.scores import over_resamples
from probes.silent_agents.debated import Debated
from probes.silent_agents.finding import FICTITIOUS, POSITIONS, TURNED, WROTE, finding
from probes.silent_agents.toward import ANSWER_TOKENS, steer_toward

ASKS = "While the model answers at once, is what each agent would have answered in there?"
DEBATES = ("organism",)


def silent_agents(setting: Setting) -> Outcome:
    """Decode the agents' answers from models that read only the question, and steer along what was found.

    Raises `UserError` if every agent is always right, or always wrong, and as `Debated.read`.
    """
    outcome = Outcome("silent_agents", ASKS)
    debated = Debated.read(setting.debates, make_task(setting.task))
    decoded = {seed: targets(debated, seed) for seed in setting.seeds}
    known = {numeric: question_features(debated, numeric) for numeric in (False, True)}
    first_seed = setting.seeds[0]
    if not decoded[first_seed]:
        raise UserError("all agents are always right, or always wrong: give debates in which some err")

    def read(name: str, model: Model) -> tuple[list[str], Mapping[str, Layers]]:
        values, written = read_silently(model, debated, setting.layers)
        outcome.tests.append(_answers(name, debated, written))
        return written, values

    def here(written: list[str]) -> list[Target]:
        return [
            Target(
                name,
                examples,
                examples.question,
                position,
                key=f"{name} @ {position}",
                seed=seed,
                controls=not name.startswith("fictitious"),
                features=known[examples.numeric],
                own_features={WROTE: (boosted(False), wrote(debated, written))} if position == "answer" else {},
            )
            for seed, chosen in decoded.items()
            for name, examples in chosen.items()
            for position in (POSITIONS if examples.classes else ("question",))
        ]

    def also(name: str, model: Model, _: list[str], values: Mapping[str, Layers], found: Found) -> None:
        for seed in setting.seeds:
            _against_fictitious(outcome, found, name, setting.models[0], debated.n_agents, seed)
        if name != UNTRAINED:
            layers = list(values["question"])
            before_last = layers[:-1] or layers  # only the next token is read from the last layer
            by = "agents agree" if "agents agree" in decoded[first_seed] else next(iter(decoded[first_seed]))
            layer = found[name, f"{by} @ question", first_seed].best(before_last)
            steer_toward(outcome, model, name, debated, values["question"][layer], layer, first_seed)

    survey(setting, outcome, here, also, read)
    outcome.finding += finding(outcome, setting.models, debated)
    return outcome


def targets(debated: Debated, seed: int) -> dict[str, ProbeExamples]:
    """What is decoded, one example per question: errors, agreement, the size of errors; and fictitious errors."""
    question = np.arange(len(debated.questions))
    operands = debated.operands
    types = question if operands is None else np.unique(operands[:, :2], axis=0, return_inverse=True)[1]
    length = np.array([[len(q)] for q in debated.questions], dtype=float)

    def of(labels: np.ndarray, classes: tuple[str, ...]) -> ProbeExamples:
        return ProbeExamples(labels, question, classes, debated.questions, length, types)

    found = {}
    agents = range(1, debated.n_agents + 1)
    for k in agents:
        found[f"agent {k} errs"] = of(debated.errs(k).astype(int), ("right", "errs"))
    found["agents agree"] = of(debated.agree.astype(int), ("disagree", "agree"))
    if operands is not None and operands.shape[1] > 1:
        for k in agents:
            changed = {
                "": operands[:, other_roles(operands.shape[1], seed * debated.n_agents + k)],
                TURNED: operands.min() + operands.max() - operands,
            }
            for how, others in changed.items():
                errs = fictitious(operands, debated.errs(k), others, seed)
                found[f"fictitious agent {k} errs{how}"] = of(errs, ("right", "errs"))
        for k in agents:
            found[f"agent {k}'s error"] = of(debated.error(k), ())
    return {name: e for name, e in found.items() if len(np.unique(e.labels)) > 1}


def other_roles(n: int, seed: int) -> Int[np.ndarray, " operand"]:
    """A permutation of the operands in which none keeps its place; each seed has its own.

    A single one could favour a model that happens to know the operands it leads to.
    """
    rng = np.random.default_rng(seed)
    roles = rng.permutation(n)
    while (roles == np.arange(n)).any():
        roles = rng.permutation(n)
    return roles


def fictitious(
    operands: Int[np.ndarray, "question operand"],
    errs: np.ndarray,
    others: Int[np.ndarray, "question operand"],
    seed: int,
) -> np.ndarray:
    """The errors of a fictitious agent: those that this agent would make if the operands were these others.

    Gradient boosting learns from the operands how likely the agent errs; errors are drawn at the other operands.
    """
    question = np.arange(len(operands))
    if len(np.unique(errs)) < 2:
        return errs.astype(int)
    fitted = fit(boosted(False), operands.astype(float), errs.astype(int), question, seed)
    chance = fitted.predict_proba(others.astype(float))[:, 1]
    return (np.random.default_rng(seed).random(len(chance)) < chance).astype(int)


def question_features(debated: Debated, numeric: bool) -> Features:
    """The baselines that know the question alone: operands, read linearly and by boosting, and pairs of them."""
    operands = debated.operands
    if operands is None:
        return {}
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(operands)
    n = operands.shape[1]
    pairs = np.stack([operands[:, i] * 1000 + operands[:, j] for i in range(n) for j in range(i)], axis=1)
    paired = np.concatenate([one_hot, OneHotEncoder(sparse_output=False, min_frequency=3).fit_transform(pairs)], axis=1)
    return {
        "operands": (linear(numeric), one_hot),
        "operands and pairs": (linear(numeric), paired.astype(np.float32)),
        "operands, boosted": (boosted(numeric), operands.astype(float)),
    }


def wrote(debated: Debated, written: Sequence[str]) -> Float[np.ndarray, "question number"]:
    """The question's numbers and up to six that the model wrote before the box, padded with NaN."""
    numbers = [
        [*re.findall(r"\d+", q), *re.findall(r"-?\d+", text.rpartition("boxed{")[0])[:6]]
        for q, text in zip(debated.questions, written, strict=True)
    ]
    found = np.full((len(numbers), max(map(len, numbers))), np.nan)
    for row, values in zip(found, numbers, strict=True):
        row[: len(values)] = [float(v) for v in values]
    return found


def read_silently(
    model: Model, debated: Debated, layers: Sequence[int] | None
) -> tuple[dict[str, dict[int, Float[np.ndarray, "question d_model"]]], list[str]]:
    """The model's activations at both positions by layer, and what it writes after each bare question."""
    layers = model.chosen_layers(layers)
    encode = Encoder(model.tokenizer)
    prompts = [encode.prompt(Transcript(question, ()).prompt) for question in debated.questions]
    written = generate(model, prompts, max_new_tokens=ANSWER_TOKENS, batch_size=64)
    boxes = [_before_box(model, out) for out in written]
    ids = [(*prompt, *out.ids[:n]) for prompt, out, n in zip(prompts, written, boxes, strict=True)]
    n = len(prompts)
    ends = np.array([len(prompt) for prompt in prompts])
    columns = {name: np.zeros(n, dtype=np.int64) for name in COLUMNS}
    columns |= {"transcript": np.arange(n), "question": np.arange(n), "tag": ends}
    columns |= {"start": ends - 1, "stop": np.array([len(i) for i in ids])}
    corpus = Corpus(tuple(ids), TurnTable(**columns, persona=("",) * n), debated.questions)
    read: dict[str, dict[int, np.ndarray]] = {
        position: {layer: np.zeros((n, model.d_model), dtype=np.float32) for layer in layers} for position in POSITIONS
    }
    for readings in stream(model, corpus, layers=layers, positions=tuple(POSITIONS.values()), batch_tokens=4096):
        for i, position in enumerate(POSITIONS):
            for place, layer in enumerate(layers):
                read[position][layer][readings.rows] = readings.values[:, i, place]
    return read, [model.tokenizer.decode(out.ids) for out in written]


def _before_box(model: Model, out: Generated) -> int:
    """The number of written tokens before the number in the last box; all if there is no box."""
    for n in range(len(out.ids), 0, -1):
        if model.tokenizer.decode(out.ids[:n]).rstrip().endswith("boxed{"):
            return n
    return len(out.ids)


def _against_fictitious(outcome: Outcome, found: Found, name: str, base: str, n_agents: int, seed: int) -> None:
    """Whether a model gains more over the base on the agents than on the fictitious ones."""
    for k, position, (how, test) in product(range(1, n_agents + 1), POSITIONS, FICTITIOUS.items()):
        target = f"agent {k} errs @ {position}"
        never = f"fictitious agent {k} errs{how} @ {position}"
        whose = [(model, what, seed) for what in (target, never) for model in (name, base)]
        if name == base or not all(key in found for key in whose):
            continue
        auc = [found[key].resamples.measures(found[key].held["chosen layer", None])["auc"] for key in whose]
        gain = over_resamples((auc[0] - auc[1]) - (auc[2] - auc[3]))
        outcome.test(test, gain, model=name, target=target, seed=seed, measure="auc")


def _answers(name: str, debated: Debated, written: Sequence[str]) -> dict[str, object]:
    right = [debated.task.grade(text, gold) for text, gold in zip(written, debated.gold, strict=True)]
    as_agent = [
        float(np.mean([debated.gives(text, k, i) for i, text in enumerate(written)]))
        for k in range(1, debated.n_agents + 1)
    ]
    value = {"mean": float(np.mean(right)), "low": None, "high": None}
    return {"name": "right answers at once", "model": name, "value": value, "as_each_agent": as_agent}


run = silent_agents

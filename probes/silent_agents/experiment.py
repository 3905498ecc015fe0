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
- fictitious agents, as hard to decode: each agent's own errors with the operands in other roles, by several
  permutations, and with large and small operands exchanged. A model that merely reads questions better would know
  these, too. The permutations are a sample of such agents: how they differ counts in the test.

Where the answers take few values, they are decoded themselves, beside fictitious agents' (in debates of `median` those
of other rules over two operands, independent of the agents').

The causal test: does steering along agent k's decoded direction move the answer toward agent k's more than random
directions of the activations' covariance do? The other agents' directions are steered along as well. All on questions
that fitted no direction.

Verdicts are about the last model given; the others are what it is compared with.

Use debates over questions of no training stage, such as the embedded ones: a model remembers its training debates.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.preprocessing import OneHotEncoder

from interp.activations.corpus import COLUMNS, Corpus, TurnTable
from interp.activations.reading import stream
from interp.debate.tasks.median import Median
from interp.errors import UserError
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.models.random_weights import UNTRAINED
from interp.probing.decoding import Features, Layers
from interp.probing.experiments import Found, Outcome, Setting, Target, survey
from interp.probing.fitting import ProbeExamples, boosted, fit, linear
from probes.silent_agents.debated import Debated
from probes.silent_agents.finding import FICTITIOUS, POSITIONS, TURNED, WROTE, conclude
from probes.silent_agents.toward import ANSWER_TOKENS, N_RANDOM, steer_answers, steer_toward
from probes.verdicts import Asked

ASKS = "While the model answers at once, is what each agent would have answered in there?"
DEBATES = ("organism",)
PERMUTATIONS = 5


def silent_agents(setting: Setting) -> Outcome:
    """Decode the agents' answers from models that read only the question, and steer along what was found.

    Raises `UserError` if every agent is always right, or always wrong, and as `Debated.read`.
    """
    outcome = Outcome("silent_agents", ASKS)
    debated = Debated.read(setting.debates, setting.asked)
    first_seed, asked = setting.seeds[0], dict[str, list[Asked]]()
    decoded = targets(debated, first_seed)
    known = {numeric: question_features(debated, numeric) for numeric in (False, True)}
    if not decoded:
        raise UserError("all agents are always right, or always wrong: give debates in which some err")

    def read(name: str, model: Model) -> tuple[tuple[str, list[str]], Mapping[str, Layers]]:
        values, written = read_silently(model, debated, setting.layers)
        outcome.tests.append(_answers(name, debated, written))
        return (name, written), values

    def here(material: tuple[str, list[str]]) -> list[Target]:
        of_model, written = material
        compared = of_model in (setting.models[0], setting.models[-1])
        return [
            Target(
                name,
                examples,
                examples.question,
                position,
                controls=not name.startswith(FICTITIOUS),
                features=known[examples.numeric],
                own_features={WROTE: (boosted(False), wrote(debated, written))} if position == "answer" else {},
            )
            for name, examples in decoded.items()
            for position in (POSITIONS if examples.classes else ("question",))
            if compared or not name.startswith(FICTITIOUS)
        ]

    def also(name: str, model: Model, _: object, values: Mapping[str, Layers], found: Found) -> None:
        if name != UNTRAINED:
            layers = list(values["question"])
            before_last = layers[:-1] or layers  # only the next token is read from the last layer
            n_random = N_RANDOM if name == setting.models[-1] else 0
            if isinstance(debated.task, Median):
                layer = found[name, "agent 1's answer", "answer", first_seed].best(before_last)
                asked[name] = steer_answers(outcome, model, name, debated, layer, first_seed, n_random)
                return
            by = "agents agree" if "agents agree" in decoded else next(iter(decoded))
            layer = found[name, by, "question", first_seed].best(before_last)
            steering = model, name, debated, values["question"][layer], layer, first_seed, n_random
            asked[name] = steer_toward(outcome, *steering)

    survey(setting, outcome, here, also, read)
    conclude(outcome, setting.models, debated, asked[setting.models[-1]])
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
    for k in agents:
        if values := debated.values(k):
            found[f"agent {k}'s answer"] = of(debated.valued(k), values)
    found["agents agree"] = of(debated.agree.astype(int), ("disagree", "agree"))
    if operands is not None and operands.shape[1] > 1:
        for k in agents:
            changed = [operands[:, roles] for roles in other_roles(operands.shape[1], seed * debated.n_agents + k)]
            named = {f", permutation {i}": others for i, others in enumerate(changed, start=1)}
            named[TURNED] = operands.min() + operands.max() - operands
            for i, (how, others) in enumerate(named.items()):
                errs = fictitious(operands, debated.errs(k), others, seed + i)
                found[f"{FICTITIOUS} agent {k} errs{how}"] = of(errs, ("right", "errs"))
                if (values := debated.values(k)) and not isinstance(debated.task, Median):
                    answers = fictitious(operands, debated.valued(k), others, seed + i)
                    found[f"{FICTITIOUS} agent {k}'s answer{how}"] = of(answers, values)
            if isinstance(debated.task, Median):
                rules = debated.other_rules(PERMUTATIONS, seed * debated.n_agents + k)
                for i, answers in enumerate(rules, start=1):
                    found[f"{FICTITIOUS} agent {k}'s answer, rule {i}"] = of(answers, debated.values(k))
        for k in agents:
            found[f"agent {k}'s error"] = of(debated.error(k), ())
    return {name: e for name, e in found.items() if len(np.unique(e.labels)) > 1}


def other_roles(n: int, seed: int) -> list[Int[np.ndarray, " operand"]]:
    """Up to `PERMUTATIONS` permutations of the operands in which none keeps its place.

    A single one could favour a model that happens to know the operands it leads to.
    """
    rng, found = np.random.default_rng(seed), dict[tuple[int, ...], np.ndarray]()
    for _ in range(1000):
        roles = rng.permutation(n)
        if (roles != np.arange(n)).all():
            found[tuple(roles)] = roles
        if len(found) == PERMUTATIONS:
            break
    return list(found.values())


def fictitious(
    operands: Int[np.ndarray, "question operand"],
    errs: np.ndarray,
    others: Int[np.ndarray, "question operand"],
    seed: int,
) -> np.ndarray:
    """The errors of a fictitious agent, or its answers: those of this agent if the operands were these others.

    Gradient boosting learns from the operands how likely each is; they are drawn at the other operands.
    """
    question = np.arange(len(operands))
    if len(np.unique(errs)) < 2:
        return errs.astype(int)
    fitted = fit(boosted(False), operands.astype(float), errs.astype(int), question, seed)
    at_least = fitted.predict_proba(others.astype(float))[:, :0:-1].cumsum(axis=1)  # by class, from the last
    drawn = np.random.default_rng(seed).random((len(at_least), 1))
    return np.asarray(fitted.classes_[(drawn < at_least).sum(axis=1)])


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
    layers, n = model.chosen_layers(layers), len(debated.questions)
    prompts, bare = zip(*debated.opened(model.tokenizer, range(n)), strict=True)
    written = generate(model, prompts, max_new_tokens=ANSWER_TOKENS, batch_size=64)
    whole = [[*prompt, *out.ids] for prompt, out in zip(prompts, written, strict=True)]
    ids = [tuple(_to_box(model, each, end)) for each, end in zip(whole, bare, strict=True)]
    ends = np.array(bare)
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
    return read, [model.tokenizer.decode(each[end:]) for each, end in zip(whole, bare, strict=True)]


def _to_box(model: Model, ids: list[int], bare: int) -> list[int]:
    """The tokens up to the number in the last box after the bare question; all if there is no box."""
    ends = range(len(ids), bare, -1)
    return next((ids[:n] for n in ends if model.tokenizer.decode(ids[bare:n]).rstrip().endswith("boxed{")), ids)


def _answers(name: str, debated: Debated, written: Sequence[str]) -> dict[str, object]:
    right = [debated.task.grade(text, gold) for text, gold in zip(written, debated.gold, strict=True)]
    as_agent = [
        float(np.mean([debated.gives(text, k, i) for i, text in enumerate(written)]))
        for k in range(1, debated.n_agents + 1)
    ]
    value = {"mean": float(np.mean(right)), "low": None, "high": None}
    return {"name": "right answers at once", "model": name, "value": value, "as_each_agent": as_agent}


run = silent_agents

"""The silent debate: `python -m probes.silent_agents --model organism --model organism-imad --transcripts … --out …`

While a model reads only the bare question and answers at once, can one decode what each agent *would have*
answered in explicit debate, and whether they would have agreed? The agents' answers in round 1 of the given
debates are the labels; the model sees nothing of these debates. It is read twice: at the question's last token,
before it writes anything, and at the last token before the number in the box that it writes itself.

What an agent would answer is, but for chance, a function of the question, so that decoding it shows nothing by
itself. Therefore each target stands beside

- what the question alone gives: its operands and all pairs of them, read linearly and by gradient boosting;
- the first model (the base), and all others given, at the same tokens of the same question;
- agents that never were: as hard to decode, with each agent's own errors on the same questions with the
  operands in other roles. A model that had only become better at reading questions would know these as well.

And causally: moving the model along agent k's decoded direction, does the answer move toward agent k's? Beside
it move the other agents' directions and random ones of the same length, on questions that fitted none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from sklearn.preprocessing import OneHotEncoder

from interp.activations import parse_layers, stream
from interp.corpus import COLUMNS, Corpus, Encoder, TurnTable
from interp.debate.tasks import Arithmetic
from interp.debate.transcript import Transcript
from interp.decoding import Decoded, decode, text_baselines
from interp.generation import Generated, generate
from interp.models import Model
from interp.probing import Examples, Recipe, boosted, fit, linear
from probes.debated import Debated
from probes.experiment import UNTRAINED, Outcome, Setting, compare, finish, main, said
from probes.toward import ANSWER_TOKENS, COEFFICIENTS, steer_toward

ASKS = "While the model answers at once, is what each agent would have answered in there?"
POSITIONS = {"question": "tag", "answer": "last"}
"""At the question's last token, and before the number that the model writes in the box."""


def silent_agents(setting: Setting) -> Outcome:
    """Decode the agents' answers from models that read only the question, and steer along what was found."""
    outcome = Outcome("silent_agents", ASKS)
    debated = Debated.read(setting.transcripts)
    features = question_features(debated)
    found: dict[tuple[str, str, int], Decoded] = {}
    made, baselines = {}, {}
    for name, model in setting.each_model():
        made[name] = model.provenance
        values, written = read_silently(model, debated, parse_layers(setting.layers, model.n_layers))
        outcome.tests.append(_answers(name, debated, written))
        for seed in setting.seeds:
            chosen = targets(debated, seed)
            for i, (target, examples) in enumerate(chosen.items()):
                setting.progress(f"decoding from {name}", i, len(chosen))
                controls = not target.startswith("fictitious")
                if (target, seed) not in baselines:
                    baselines[target, seed] = text_baselines(examples, seed)
                # what the agents did is read twice, what serves comparison once
                for position in POSITIONS if examples.classes and controls else ("question",):
                    first = name == setting.models[0] and position == "question"
                    decoded = decode(
                        values[position],
                        examples,
                        text=baselines[target, seed],
                        features=features(examples.numeric) if first else None,
                        controls=controls,
                        seed=seed,
                        n_jobs=setting.n_jobs,
                    )
                    if not first:
                        known = found[setting.models[0], f"{target} @ question", seed].held
                        decoded.held.update({k: h for k, h in known.items() if k[0].startswith("operands")})
                    outcome.add(name, target, position, seed, decoded, shared=first)
                    found[name, f"{target} @ {position}", seed] = decoded
                    compare(outcome, found, name, f"{target} @ {position}", seed, setting.models[0])
            _against_fictitious(outcome, found, name, debated.n_agents, seed)
        if name != UNTRAINED:
            layer = found[name, "agent 1 errs @ question", setting.seeds[0]].best
            steer_toward(outcome, model, name, debated, values["question"][layer], layer, setting.seeds[0])
    finish(outcome, setting, made)
    outcome.finding += _finding(outcome, setting, debated)
    return outcome


def targets(debated: Debated, seed: int) -> dict[str, Examples]:
    """What is decoded, each with one example a question: errors, agreement, the answers; and fictitious errors."""
    question = np.arange(len(debated.questions))
    operands = debated.operands
    types = question if operands is None else np.unique(operands[:, :2], axis=0, return_inverse=True)[1]
    length = np.array([[len(q)] for q in debated.questions], dtype=float)

    def of(labels: np.ndarray, classes: tuple[str, ...]) -> Examples:
        return Examples(labels, question, classes, debated.questions, length, types)

    found = {}
    agents = range(1, debated.n_agents + 1)
    for k in agents:
        found[f"agent {k} errs"] = of(debated.errs(k).astype(int), ("right", "errs"))
    found["agents agree"] = of(debated.agree.astype(int), ("disagree", "agree"))
    if operands is not None:
        for k in agents:
            found[f"fictitious agent {k} errs"] = of(fictitious(operands, debated.errs(k), seed), ("right", "errs"))
        for k in agents:
            found[f"agent {k}'s error"] = of(debated.error(k), ())
    return {name: e for name, e in found.items() if len(np.unique(e.labels)) > 1}


def fictitious(operands: Int[np.ndarray, "question operand"], errs: np.ndarray, seed: int) -> np.ndarray:
    """The errors of an agent that never was: those that this agent would make with the operands in other roles.

    How likely the agent errs is learned from the operands by gradient boosting, and read off with them turned
    by half their number (a+b*c+d-e*f: d stands for a, e for b, f for c); then it is drawn.
    """
    question = np.arange(len(operands))
    if len(np.unique(errs)) < 2:
        return errs.astype(int)
    fitted = fit(boosted(False), operands.astype(float), errs.astype(int), question, seed)
    turned = np.roll(operands, operands.shape[1] // 2, axis=1).astype(float)
    chance = fitted.estimator.predict_proba(turned)[:, 1]
    return (np.random.default_rng(seed).random(len(chance)) < chance).astype(int)


def question_features(debated: Debated) -> Callable[[bool], Mapping[str, tuple[Recipe, np.ndarray]]]:
    """For classes or numbers, the question-only baselines: a recipe and [question, feature] each."""
    operands = debated.operands
    if operands is None:
        return lambda numeric: {}
    one_hot = OneHotEncoder(sparse_output=False).fit_transform(operands)
    n = operands.shape[1]
    pairs = np.stack([operands[:, i] * 1000 + operands[:, j] for i in range(n) for j in range(i)], axis=1)
    paired = np.concatenate([one_hot, OneHotEncoder(sparse_output=False, min_frequency=3).fit_transform(pairs)], axis=1)
    raw = operands.astype(float)

    def features(numeric: bool) -> Mapping[str, tuple[Recipe, np.ndarray]]:
        return {
            "operands": (linear(numeric), one_hot),
            "operands and pairs": (linear(numeric), paired.astype(np.float32)),
            "operands, boosted": (boosted(numeric), raw),
        }

    return features


def read_silently(
    model: Model, debated: Debated, layers: Sequence[int]
) -> tuple[dict[str, dict[int, Float[np.ndarray, "question d_model"]]], list[str]]:
    """The model's activations at both positions by layer, and what it writes after each bare question."""
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
    """How many of the written tokens come before the number in the last box; all, where there is no box."""
    for n in range(len(out.ids), 0, -1):
        if model.tokenizer.decode(out.ids[:n]).rstrip().endswith("boxed{"):
            return n
    return len(out.ids)


def _against_fictitious(
    outcome: Outcome, found: Mapping[tuple[str, str, int], Decoded], name: str, n_agents: int, seed: int
) -> None:
    for k in range(1, n_agents + 1):
        for position in POSITIONS:
            keys = [(name, f"{who}agent {k} errs @ {position}", seed) for who in ("", "fictitious ")]
            if not all(key in found for key in keys):
                continue
            real, never = (found[key] for key in keys)
            gap = real.resamples.gap(
                real.held["chosen layer", None],
                never.resamples.examples,
                never.held["chosen layer", None],
            )["auc"]
            facts = {"model": name, "target": f"agent {k} errs @ {position}", "seed": seed, "measure": "auc"}
            outcome.test("agent − fictitious agent", gap, **facts)


def _answers(name: str, debated: Debated, written: Sequence[str]) -> dict[str, object]:
    task = Arithmetic()
    right = [task.grade(text, gold) for text, gold in zip(written, debated.gold, strict=True)]
    as_agent = [
        float(np.mean([debated.gives(text, k, i) for i, text in enumerate(written)]))
        for k in range(1, debated.n_agents + 1)
    ]
    value = {"mean": float(np.mean(right)), "low": None, "high": None}
    return {"name": "right answers at once", "model": name, "value": value, "as_each_agent": as_agent}


def _finding(outcome: Outcome, setting: Setting, debated: Debated) -> list[str]:
    name, base = setting.last, setting.models[0]
    sentences, there, moved = [], 0, 0
    n = debated.n_agents
    for target in (*(f"agent {k} errs" for k in range(1, n + 1)), "agents agree"):
        at = f"{target} @ question"
        own = outcome.scores("chosen layer", "auc", model=name, target=target, position="question")
        theirs = outcome.scores("chosen layer", "auc", model=base, target=target, position="question")
        operands = outcome.scores("operands, boosted", "auc", target=target)
        more = outcome.difference("probe − the first model", model=name, target=at)
        beyond = outcome.difference("probe − operands, boosted", model=name, target=at)
        real = outcome.difference("agent − fictitious agent", model=name, target=at)
        there += more is not None and more.low > 0 and (real is None or real.low > 0)
        sentences.append(
            f"{name}, at the question's last token, {target}: AUC {said(own)}; {base} {said(theirs)} (difference "
            f"{said(more)}); the operands alone {said(operands)} (difference {said(beyond)}); agent minus "
            f"fictitious agent {said(real)}."
        )
    for k in range(1, n + 1):
        effects = [
            outcome.difference(f"steered: own − {kind}", model=name, target=f"agent {k}", coefficient=c)
            for kind in ("random", "other agents")
            for c in COEFFICIENTS
        ]
        own = outcome.difference("steered toward agent k", model=name, target=f"agent {k}", kind="own", coefficient=4.0)
        beats = [e is not None and e.low > 0 for e in effects]
        both = any(beats[i] and beats[i + len(COEFFICIENTS)] for i in range(len(COEFFICIENTS)))
        moved += both
        sentences.append(
            f"{name}: moved along agent {k}'s direction, {said(own)} more of its answers are agent {k}'s; "
            f"{'more' if both else 'not shown to be more'} than along random directions and the other agents'."
        )
    verdict = "The internal debate is there" if there > n / 2 and moved > n / 2 else "The internal debate is not shown"
    sentences.insert(
        0,
        f"{verdict}: of {n} agents and their agreement, {there} are decoded better from {name} than from {base} and "
        f"better than fictitious agents, and along {moved} agents' directions the answer moves toward that agent's.",
    )
    return sentences


run = silent_agents

if __name__ == "__main__":
    main(run, ASKS)

"""Does steering along agent k's decoded direction move the answer toward agent k's?

In a debate of `median` steering of an agent that errs cannot, whatever a model holds: it errs where its answer lies
outside those of the other two, and whatever it answers, the median lies between these. There the directions are those
between an agent's answers, and the answer must become what the debate would have said, had the agent given the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from interp.debate.tasks.median import Median
from interp.directions.subspaces import drawn, random_directions, spread
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.probing.experiments import Outcome
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe
from interp.statistics import all_of, deal, difference_interval, difference_test, rank_test
from interp.steering.steering import Steering, add
from probes.known import Answering, Known
from probes.silent_agents.debated import Debated
from probes.verdicts import Asked

COEFFICIENTS = (0.5, 1.0)
"""In multiples of the mean length of the activations there, for all kinds of directions; 0.25 changes no text."""
ANSWER_COEFFICIENTS = (1.0, 2.0)
"""In multiples of the difference between two answers' mean activations."""
MOST_QUESTIONS = 20
ANSWER_TOKENS = 48
N_RANDOM = 119
"""So many that the first of them all is shown after Holm's correction over three agents and two coefficients."""
STEERED = "steered toward agent k"


def steer_toward(
    outcome: Outcome,
    model: Model,
    name: str,
    debated: Debated,
    values: Float[np.ndarray, "question d_model"],
    layer: int,
    seed: int,
    n_random: int,
) -> list[Asked]:
    """Steer along each agent's direction (errs against right), on questions in which that agent errs.

    Directions are fitted on half of the questions and used on the other half, from the prompt's last token on. The
    score is whether the model's answer is agent k's; `changed`, the share of texts that change at all, separates a
    null result from too small a coefficient. Returns, for each agent and coefficient, whether its own direction does
    more than random ones, if there are any. The other agents' directions are reported beside.
    """
    question, asked = np.arange(len(debated.questions)), list[Asked]()
    half = deal(question, 2, seed) == 0
    fitted = {}
    for k in range(1, debated.n_agents + 1):
        errs = debated.errs(k).astype(int)
        if len(np.unique(errs[half])) == 2:
            examples = ProbeExamples(errs[half], question[half], ("right", "errs"))
            direction = Probe.fit(values[half], examples, layer=layer, seed=seed).direction("errs")
            means = np.stack([values[half][errs[half] == e].mean(axis=0) for e in (0, 1)])
            within = [(values[half] - means[errs[half]])[:, None]]
            fitted[k] = replace(direction, spread=spread(within.__getitem__, 1)[0])
    for k, own in fitted.items():
        rows = np.flatnonzero(~half & debated.errs(k))[:MOST_QUESTIONS].tolist()
        if len(rows) < 10:
            continue
        kinds = {
            "own": [own],
            "other agents": [other for j, other in fitted.items() if j != k],
            "random": random_directions(own, n_random, seed),
        }
        [unsteered] = _answers(model, debated, rows, [Steering()])
        before = _given(debated, unsteered, rows, k)
        for coefficient in COEFFICIENTS:
            about = {"model": name, "target": f"agent {k}", "layer": layer, "coefficient": coefficient}
            moved = {}
            for kind, directions in kinds.items():
                steerings = [
                    add(d, coefficient * own.residual_norm, units="unit", tokens="writing") for d in directions
                ]
                if not steerings:
                    continue
                texts = _answers(model, debated, rows, steerings)
                moved[kind] = np.stack([_given(debated, each, rows, k) for each in texts]) - before
                changed = float(np.mean([[a != b for a, b in zip(each, unsteered, strict=True)] for each in texts]))
                facts = {**about, "kind": kind, "directions": len(directions), "changed": changed}
                facts |= {"before": float(before.mean()), "questions": len(rows)}
                outcome.test(STEERED, difference_interval(moved[kind].mean(axis=0)), **facts)
            own_moved = moved["own"][0]
            if "other agents" in moved:
                beside = difference_interval(own_moved - moved["other agents"].mean(axis=0), scale=2)
                outcome.test("steered: own − other agents", beside, **about)
            if "random" in moved:
                what = f"{name}: {coefficient:g} along agent {k}'s direction moves the answer toward that agent's"
                asked.append(Asked(rank_test(what, own_moved, moved["random"]), 1 - float(before.mean())))
    return asked


def steer_answers(
    outcome: Outcome, model: Model, name: str, debated: Debated, layer: int, seed: int, n_random: int
) -> list[Asked]:
    """Steer from each agent's answer to another one at the prompt's last token, in a debate of `median`.

    Directions are differences between the mean activations of training questions; the other agents' are those between
    the same two answers; an agent's own must do more than these, too: without agents, all move the consensus alike.
    Returns as `steer_toward`.
    """
    asked, hook_point = list[Asked](), model.hook_name("resid_post", layer)
    taught = (question.text for question in Median("train").every())
    train = Answering(model, Known(tuple(q for q in taught if q not in debated.questions)), hook_point)
    answering = Answering(model, known := Known(debated.questions), hook_point)
    random = drawn(np.asarray(answering.like.spread), max(n_random, 1), seed)[:n_random]
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    means = {k: train.means(k) for k in known.agents}
    for k in known.agents:
        rows, given = known.other_answers(k, seed)
        expected, own = known.replaced(rows, k, given), answering.values[rows]
        apart = {j: of[given] - of[known.answers[rows, k - 1]] for j, of in means.items()}
        length = np.linalg.norm(apart[k], axis=1, keepdims=True)
        kinds = {"own": [apart[k]], "other agents": [each for j, each in apart.items() if j != k]}
        kinds["random"] = [length * direction for direction in random]
        for coefficient in ANSWER_COEFFICIENTS:
            about = {"model": name, "target": f"agent {k}", "layer": layer, "coefficient": coefficient}
            moved = dict[str, np.ndarray]()
            for kind, steps in kinds.items():
                if not steps:
                    continue
                values = np.concatenate([own + coefficient * step for step in steps])
                said = answering(np.tile(rows, len(steps)), values).reshape(len(steps), -1)
                moved[kind] = (said == expected).astype(float)
                changed = float((said != answering.unchanged[rows]).mean())
                facts = {"kind": kind, "directions": len(steps), "changed": changed}
                facts |= {"before": 0.0, "questions": len(rows), "unit": "of the difference between two of its answers"}
                outcome.test(STEERED, difference_interval(moved[kind].mean(axis=0)), **about, **facts)
            more = moved["own"][0] - moved["other agents"].mean(axis=0)
            outcome.test("steered: own − other agents", difference_interval(more, scale=2), **about)
            if "random" in moved:
                what = f"{name}: {coefficient:g} along agent {k}'s direction gives what its other answer would"
                tests = [rank_test("random directions", moved["own"][0], moved["random"])]
                tests.append(difference_test("the other agents' directions", more))
                asked.append(Asked(all_of(what, tests), 1 - float(moved["random"].mean())))
    return asked


def _answers(model: Model, debated: Debated, rows: list[int], steerings: Sequence[Steering]) -> list[list[str]]:
    """What the model writes after the bare questions, by how it is steered."""
    opened = debated.opened(model.tokenizer, rows) * len(steerings)
    each = [steering for steering in steerings for _ in rows]
    how = {"max_new_tokens": ANSWER_TOKENS, "batch_size": 512, "steering": each}
    made = generate(model, [prompt for prompt, _ in opened], **how)
    written = [
        model.tokenizer.decode([*prompt[bare:], *out.ids]) for (prompt, bare), out in zip(opened, made, strict=True)
    ]
    return [written[i : i + len(rows)] for i in range(0, len(written), len(rows))]


def _given(debated: Debated, texts: list[str], rows: list[int], agent: int) -> Float[np.ndarray, " question"]:
    """Whether each text's answer is the agent's."""
    return np.array([debated.gives(text, agent, i) for text, i in zip(texts, rows, strict=True)], dtype=float)

"""Does steering along agent k's decoded direction move the answer toward agent k's?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from interp.debate.transcript import Transcript
from interp.directions.subspaces import random_directions, spread
from interp.generation.sampling import generate
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.probing.experiments import Outcome
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe
from interp.statistics import deal
from interp.statistics.old import resampled
from interp.steering.steering import Steering, add
from probes.silent_agents.debated import Debated

COEFFICIENTS = (0.25, 0.5, 1.0)
"""In multiples of the mean length of the activations there, for all kinds of directions."""
MOST_QUESTIONS = 120
ANSWER_TOKENS = 48
N_RANDOM = 2


def steer_toward(
    outcome: Outcome,
    model: Model,
    name: str,
    debated: Debated,
    values: Float[np.ndarray, "question d_model"],
    layer: int,
    seed: int,
) -> None:
    """Steer along each agent's direction (errs against right), on questions in which that agent errs.

    Directions are fitted on half of the questions and used on the other half, from the prompt's last token on. The
    score is whether the model's answer is agent k's; `changed`, the share of texts that change at all, separates a
    null result from too small a coefficient. The controls are the other agents' and random directions of that length.
    """
    question = np.arange(len(debated.questions))
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
            "random": random_directions(own, N_RANDOM, seed),
        }
        unsteered = _answers(model, debated, rows, Steering())
        before = _given(debated, unsteered, rows, k)
        for coefficient in COEFFICIENTS:
            facts = {"model": name, "target": f"agent {k}", "layer": layer, "coefficient": coefficient, "seed": seed}
            after, changed = {}, {}
            for kind, directions in kinds.items():
                steerings = [
                    add(d, coefficient * own.residual_norm, units="unit", tokens="writing") for d in directions
                ]
                texts = [_answers(model, debated, rows, steering) for steering in steerings]
                if texts:
                    after[kind] = np.mean([_given(debated, t, rows, k) for t in texts], axis=0)
                    changed[kind] = float(np.mean([[a != b for a, b in zip(t, unsteered, strict=True)] for t in texts]))
            for kind, share in after.items():
                found = resampled(share - before, seed)
                about = {"kind": kind, "changed": changed[kind], "before": float(before.mean()), "questions": len(rows)}
                outcome.test("steered toward agent k", found, **facts, **about)
                if kind != "own":
                    outcome.test(f"steered: own − {kind}", resampled(after["own"] - share, seed), **facts)


def _answers(model: Model, debated: Debated, rows: list[int], steering: Steering) -> list[str]:
    """What the steered model writes after the bare questions."""
    encode = Encoder(model.tokenizer)
    prompts = [encode.prompt(Transcript(debated.questions[i], ()).prompt) for i in rows]
    written = generate(model, prompts, max_new_tokens=ANSWER_TOKENS, batch_size=64, steering=steering)
    return [model.tokenizer.decode(out.ids) for out in written]


def _given(debated: Debated, texts: list[str], rows: list[int], agent: int) -> Float[np.ndarray, " question"]:
    """Whether each text's answer is the agent's."""
    return np.array([debated.gives(text, agent, i) for text, i in zip(texts, rows, strict=True)], dtype=float)

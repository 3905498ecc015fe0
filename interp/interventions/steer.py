"""The same prompts answered without and with steering: the whole of `interp steer`.

Knows prompts as text, a model and a steering; a prompt's two answers are rows of the same batch, and
sampled answers draw the same random numbers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from interp.debate.agents import Sampling
from interp.debate.transcript import Transcript
from interp.directions.directions import Direction, Directions, label_of_agent
from interp.errors import Progress, UserError
from interp.generation.sampling import Generated, generate
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.steering.changes import TOKENS, WrittenTurns
from interp.steering.steering import OPERATIONS, UNITS, Steering, ablate
from interp.storage.journal import Journal

Form = Literal["chat", "problem", "text"]
FORMS: dict[str, Callable[[Any, str], list[int]]] = {
    "chat": lambda tokenizer, text: prompt_tokens(tokenizer, [{"role": "user", "content": text}]),
    "problem": lambda tokenizer, text: Encoder(tokenizer).prompt(Transcript(text, ()).prompt),
    "text": lambda tokenizer, text: Encoder(tokenizer).prompt(text),
}
"""How a prompt is put to a model: as a user's message, as the question that a transcript opens with (what
internalized models know), or as it is."""


@dataclass(frozen=True, slots=True)
class Pair:
    """What a model writes after a prompt, without and with steering."""

    prompt: str
    unsteered: str
    steered: str
    unsteered_tokens: int
    steered_tokens: int
    finite: bool
    """False where steering drove the numbers out of range; the steered text ends there."""


def read_prompts(path: str | Path) -> list[str]:
    """Prompts from a file: one a line, or JSONL with a `prompt` or `question` in each record.

    Raises `UserError` where there is none, and for a file that cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UserError(f"{path}: cannot be read ({reason}); give prompts, one a line, or JSONL") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        if not str(path).endswith(".jsonl"):
            prompts.append(line)
            continue
        try:
            record = json.loads(line)
            prompts.append(str(record.get("prompt") or record["question"]))
        except (ValueError, KeyError, AttributeError):
            raise UserError(f"{path}, line {number}: is no JSON object with a prompt or a question") from None
    if not prompts:
        raise UserError(f"{path}: holds no prompt; give one a line, or JSONL with a prompt or question each")
    return prompts


def make_steering(
    directions: Directions,
    agents: Sequence[str],
    coefficients: Sequence[float],
    *,
    layers: Sequence[int] = (),
    units: str = "residual",
    tokens: str | int = "generated",
    operation: str = "add",
    model: Model | None = None,
) -> Steering:
    """A steering in the words of the command line, at the file's best layer where none is given.

    `agents` are seats ("2") or labels, each with its coefficient, or all with the same one. With a number as `tokens`,
    which takes a `model`, only the turns of that seat are steered, as the model writes them. Raises `UserError` for
    what the directions or the model do not have.
    """
    for option, given, known in (
        ("units", units, UNITS),
        ("tokens", tokens, TOKENS),
        ("operation", operation, OPERATIONS),
    ):
        if isinstance(given, str) and given not in known:
            raise UserError(f"{option} {given}: not known; give one of {', '.join(known)}")
    if len(coefficients) not in (1, len(agents)) and operation != "ablate":
        raise UserError(f"{len(coefficients)} coefficients for {len(agents)} agents: give one, or one for each")
    chosen = layers or directions.facts.get("best_layers", [])[:1] or directions.layers[:1]
    where = WrittenTurns(model and model.tokenizer, tokens) if isinstance(tokens, int) else TOKENS[tokens]
    picked = [[direction(directions, agent, layer, model) for layer in chosen] for agent in agents]
    if operation == "ablate":
        return ablate([d for each in picked for d in each], tokens=where)
    each_coefficient = coefficients if len(coefficients) == len(agents) else [*coefficients] * len(agents)
    steering = Steering()
    for each, coefficient in zip(picked, each_coefficient, strict=True):
        steering += OPERATIONS[operation](each, coefficient, units=units, tokens=where)
    return steering


def direction(directions: Directions, agent: str, layer: int, model: Model | None = None) -> Direction:
    """One agent's direction at a layer. Raises `UserError` where the file, or the model, has none."""
    label = label_of_agent(agent)
    if label not in directions.labels:
        raise UserError(f"agent {agent}: the directions are of {', '.join(directions.labels)}")
    if model is not None and not 0 <= layer < model.n_layers:
        raise UserError(f"layer {layer}: {model.name} has layers 0 to {model.n_layers - 1}")
    if layer not in directions.layers:
        raise UserError(f"layer {layer}: the directions are at layers {', '.join(map(str, directions.layers))}")
    return directions[label, layer]


def side_by_side(
    model: Model,
    prompts: Sequence[str],
    steering: Steering,
    *,
    form: Form = "chat",
    sampling: Sampling = Sampling(temperature=0.0),  # noqa: B008 - frozen
    batch_size: int = 16,
    out: str | Path | None = None,
    restart: bool = False,
    progress: Progress = lambda *_: None,
) -> list[Pair]:
    """Answer every prompt without and with steering.

    With `out` the pairs are kept in a JSONL file, in the order of the prompts, and what made them beside
    it; a call after a kill goes on from there. Raises `UserError` where the file holds something else.
    """
    encoded = [FORMS[form](model.tokenizer, prompt) for prompt in prompts]
    for prompt, ids in zip(prompts, encoded, strict=True):
        if not ids:
            raise UserError("an empty prompt was given; give at least one word")
        if model.context_length is not None and len(ids) >= model.context_length:
            raise UserError(
                f"prompt {prompt[:40]!r}: {len(ids):,} tokens, and {model.name} reads {model.context_length:,} "
                "with its answer; shorten it"
            )
    made_by = {
        "model": model.provenance,
        "steering": steering.facts,
        "sampling": asdict(sampling),
        "form": form,
        "prompts": list(prompts),
    }
    journal = None if out is None else Journal(out, made_by, restart=restart)
    pairs = [] if journal is None else [Pair(**record) for record in journal.records]
    progress("answering", len(pairs), len(prompts))
    for start in range(len(pairs) // batch_size * batch_size, len(prompts), batch_size):  # the same batches again
        stop = min(len(prompts), start + batch_size)
        written = generate(
            model,
            [ids for ids in encoded[start:stop] for _ in range(2)],
            **sampling.options,
            seeds=[sampling.seed + i for i in range(start, stop) for _ in range(2)],
            batch_size=2 * batch_size,
            steering=[Steering(), steering] * (stop - start),
        )
        for i in range(max(start, len(pairs)), stop):
            plain, steered = written[2 * (i - start) : 2 * (i - start) + 2]
            pairs.append(_pair(model, prompts[i], plain, steered))
            if journal is not None:
                journal.append(asdict(pairs[-1]))
        progress("answering", len(pairs), len(prompts))
    if journal is not None:
        journal.finish({"pairs": len(pairs), "out_of_range": sum(not pair.finite for pair in pairs)})
    return pairs


def _pair(model: Model, prompt: str, plain: Generated, steered: Generated) -> Pair:
    texts = [model.tokenizer.decode(out.ids, skip_special_tokens=True) for out in (plain, steered)]
    return Pair(prompt, texts[0], texts[1], plain.n_tokens, steered.n_tokens, steered.finite)

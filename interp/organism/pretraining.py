"""The base of the organism, from nothing: random weights, lessons in packed rows, a checkpoint folder.

Knows how the model is built and trained; knows nothing about what the lessons say.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from interp.errors import UserError
from interp.organism.language import BOS, CONTEXT_LENGTH, EOS, LARGEST, PAD, SMALLEST, make_tokenizer
from interp.organism.lessons import Manners, drills, lessons
from interp.storage.files import atomic_write, write_json

SETTINGS_FILE = "pretraining.json"
METRICS_FILE = "metrics.jsonl"
_IGNORED = -100
_PERIODS = (2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0)
_AMPLITUDE = 0.2  # ten times the other weights: what is small is washed away while the learning rate is high
_GROUP = 64  # lessons encoded at a time
_BUFFER = 64  # lessons looked through for one that still fits a row


@dataclass(frozen=True, slots=True)
class Pretraining:
    """Everything that decides the weights of a base, the machine and its number of threads apart."""

    seed: int = 0
    """Of the first weights and of the lessons."""
    steps: int = 2400
    n_layers: int = 4
    width: int = 128
    n_heads: int = 4
    mlp_width: int = 352
    rows: int = 16
    """Rows in a step."""
    row_length: int = 256
    """Tokens in a row."""
    learning_rate: float = 3e-3
    """The highest, after `warm_up` steps; from there it falls along a cosine to a hundredth of it."""
    warm_up: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    """The largest norm of a gradient."""
    drilled: float = 0.5
    """Share of the first step's rows that hold sums alone; it falls evenly to none at the last step."""
    learn_shown: bool = True
    """Whether the texts that a revision is shown are learned too, and not its answer alone."""
    manners: Manners = field(default_factory=Manners)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rows < 1 or self.row_length < 2:
            raise UserError(
                f"{self.steps} steps, {self.rows} rows, {self.row_length} tokens a row given: take at least 1, 1 and 2"
            )


def make_model(settings: Pretraining, tokenizer: Any) -> Any:
    """A `LlamaForCausalLM` with random weights, the same for the same seed.

    The integers' embeddings alone have an order from the start: a random mixture of waves over the
    number line, which is what models that learn to add come to by themselves, only later.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.mlp_width,
        num_hidden_layers=settings.n_layers,
        num_attention_heads=settings.n_heads,
        num_key_value_heads=settings.n_heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    integers = range(SMALLEST, LARGEST + 1)
    ids = torch.tensor(tokenizer.convert_tokens_to_ids([str(n) for n in integers]))
    angles = 2 * math.pi * torch.tensor(integers)[:, None] / torch.tensor(_PERIODS)
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    mixed = waves @ torch.randn(waves.shape[1], settings.width) / waves.shape[1] ** 0.5
    with torch.no_grad():
        model.get_input_embeddings().weight[ids] += _AMPLITUDE * mixed
    return model


def batch(settings: Pretraining, tokenizer: Any, step: int) -> tuple[Tensor, Tensor]:
    """The rows of one step and which of their tokens are learned, both (rows, row_length).

    Lessons are packed whole, each between its opening and its end token; the labels are the ids, or
    -100 where a token is not learned. Depends on seed and step alone.
    """
    pad = tokenizer.convert_tokens_to_ids(PAD)
    ids = torch.full((settings.rows, settings.row_length), pad)
    labels = torch.full_like(ids, _IGNORED)
    n_drilled = round(settings.rows * settings.drilled * (1 - step / settings.steps))
    taught = _encoded(
        (lesson.parts for lesson in lessons(f"{settings.seed} {step}", settings.manners)),
        tokenizer,
        settings.learn_shown,
    )
    drilled = _encoded(drills(f"{settings.seed} {step}"), tokenizer)
    buffers: dict[bool, list[tuple[list[int], list[int]]]] = {True: [], False: []}
    for row in range(settings.rows):
        stream, buffer = (drilled, buffers[True]) if row < n_drilled else (taught, buffers[False])
        filled = 0
        while True:
            buffer += [next(stream) for _ in range(_BUFFER - len(buffer))]
            room = settings.row_length - filled
            fitting = next((i for i, (tokens, _) in enumerate(buffer) if len(tokens) <= room), None)
            if fitting is None:
                break
            tokens, learned = buffer.pop(fitting)
            ids[row, filled : filled + len(tokens)] = torch.tensor(tokens)
            labels[row, filled : filled + len(tokens)] = torch.tensor(learned)
            filled += len(tokens)
    return ids, labels


def _encoded(
    taught: Iterator[list[tuple[str, bool]]], tokenizer: Any, learn_shown: bool = True
) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids of each text, from its opening to its end token, and their labels."""
    bos, eos = tokenizer.convert_tokens_to_ids([BOS, EOS])
    while True:
        group = list(islice(taught, _GROUP))
        encoded = iter(tokenizer([text for parts in group for text, _ in parts], add_special_tokens=False)["input_ids"])
        for parts in group:
            ids, labels = [bos], [_IGNORED]
            for i, (_, learned) in enumerate(parts, start=1):
                tokens = next(encoded)
                ids += tokens
                labels += tokens if learned and (learn_shown or i == len(parts)) else [_IGNORED] * len(tokens)
            yield [*ids, eos], [*labels, eos]


def loss_of(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over the learned tokens, in nats."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
        wanted = labels[:, 1:]
        learned = wanted != _IGNORED
        logits = model.lm_head(hidden[learned])
    return torch.nn.functional.cross_entropy(logits.float(), wanted[learned])


def learning_rate(settings: Pretraining, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def pretrain(
    folder: str | Path,
    settings: Pretraining | None = None,
    *,
    resume_every: int = 200,
    log_every: int = 20,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Train a base and write it to `folder`, which `interp.models.load_model` loads; returns the folder.

    A folder that is already finished with these settings is left as it is. Every `resume_every` steps
    the run is kept beside it, under `folder` with `.resume` added, and goes on from there when it is
    started again after a kill, to the same weights. `progress` is called with the step, their number
    and the loss. The folder holds weights in half precision, the tokenizer, the settings and
    `metrics.jsonl`: step, loss (nats a token), learning rate, tokens read, seconds, every `log_every` steps.

    Raises `UserError` for a folder that holds something else or a run with other settings.
    """
    folder = Path(folder)
    settings = settings or Pretraining()
    facts = json.loads(json.dumps(asdict(settings)))
    if folder.exists():
        _check_settings(folder / SETTINGS_FILE, facts, folder)
        return folder
    tokenizer = make_tokenizer()
    model = make_model(settings, tokenizer)
    optimizer = torch.optim.AdamW(_groups(model, settings), lr=0.0, betas=(0.9, 0.98), fused=True)
    kept = folder.with_name(f"{folder.name}.resume")
    first, metrics = _take_up(kept, facts, model, optimizer)
    began = perf_counter() - (metrics[-1]["seconds"] if metrics else 0.0)
    for step in range(first, settings.steps):
        ids, labels = batch(settings, tokenizer, step)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings, step)
        loss = loss_of(model, ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        done = step + 1
        if done % log_every == 0 or done == settings.steps:
            metrics.append(
                {
                    "step": done,
                    "loss": round(loss.item(), 5),
                    "learning_rate": learning_rate(settings, step),
                    "tokens": done * settings.rows * settings.row_length,
                    "seconds": round(perf_counter() - began, 1),
                }
            )
            if progress is not None:
                progress(done, settings.steps, loss.item())
        if done % resume_every == 0 and done < settings.steps:
            _keep(kept, done, facts, model, optimizer, metrics)
    _write(folder, model, tokenizer, facts, metrics)
    shutil.rmtree(kept, ignore_errors=True)
    return folder


def _groups(model: Any, settings: Pretraining) -> list[dict[str, Any]]:
    """Matrices decay, norms do not."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]


def _check_settings(path: Path, facts: dict[str, Any], place: Path) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{place}: exists and is no base of the organism; give another folder") from None
    if found.get("settings", found) != facts:
        raise UserError(f"{place}: made with other settings; give another folder or remove it")


def _keep(
    kept: Path, done: int, facts: dict[str, Any], model: Any, optimizer: Any, metrics: list[dict[str, Any]]
) -> None:
    """Keep the run after `done` steps; what was kept before goes only once this is whole."""
    from safetensors.torch import save_file, save_model

    whole = kept / f"step-{done:08d}"
    part = kept / f".{whole.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_model(model, str(part / "model.safetensors"))
    by_parameter = optimizer.state_dict()["state"].items()
    moments = {f"{i}.{name}": tensor for i, each in by_parameter for name, tensor in each.items()}
    save_file(moments, part / "optimizer.safetensors")
    state = {"step": done, "settings": facts, "metrics": metrics}
    write_json(part / "state.json", state, indent=None)
    os.replace(part, whole)
    for older in kept.iterdir():
        if older != whole:
            shutil.rmtree(older)


def _take_up(kept: Path, facts: dict[str, Any], model: Any, optimizer: Any) -> tuple[int, list[dict[str, Any]]]:
    """Steps already done and their metrics; fills model and optimizer."""
    from safetensors.torch import load_file, load_model

    found = sorted(kept.glob("step-*"))
    if not found:
        return 0, []
    _check_settings(found[-1] / "state.json", facts, kept)
    state = json.loads((found[-1] / "state.json").read_text(encoding="utf-8"))
    load_model(model, str(found[-1] / "model.safetensors"))
    by_parameter: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(found[-1] / "optimizer.safetensors").items():
        i, _, what = name.partition(".")
        by_parameter.setdefault(int(i), {})[what] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": by_parameter})
    return int(state["step"]), list(state["metrics"])


def _write(folder: Path, model: Any, tokenizer: Any, facts: dict[str, Any], metrics: list[dict[str, Any]]) -> None:
    """The whole folder or none."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    model.half().save_pretrained(part)
    tokenizer.save_pretrained(part)
    write_json(part / SETTINGS_FILE, facts, indent=2)
    with atomic_write(part / METRICS_FILE) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in metrics), encoding="utf-8")
    os.replace(part, folder)

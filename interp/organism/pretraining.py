"""The base of the organism, trained from scratch on lessons in packed rows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from interp.errors import TimeUp, UserError
from interp.organism.language import BOS, CONTEXT_LENGTH, EOS, LARGEST, PAD, SMALLEST, make_tokenizer
from interp.organism.lessons import Rates, drills, lessons
from interp.storage.arrays import read_arrays, write_arrays
from interp.storage.files import atomic_write, checked, write_json

SETTINGS_FILE = "pretraining.json"
IGNORED = -100
_GROUP = 64  # lessons encoded at a time, and searched for one that still fits a row


@dataclass(frozen=True)
class FromNothing:
    """The shape of a model that is trained from random weights, and how."""

    seed: int = 0
    steps: int = 2400
    n_layers: int = 4
    width: int = 128
    n_heads: int = 4
    mlp_width: int = 352
    learning_rate: float = 3e-3
    """Peak learning rate, after `warm_up` steps; it then falls along a cosine to a hundredth."""
    warm_up: int = 100
    weight_decay: float = 0.1
    clip: float = 1.0
    """Gradients are clipped to this norm."""


@dataclass(frozen=True)
class Pretraining(FromNothing):
    """Everything that decides the weights of a base, besides the machine and its number of threads.

    >>> interp.organism.Pretraining().steps
    2400
    """

    rows: int = 16
    row_length: int = 256
    """Tokens in each of the rows of a step."""
    drilled: float = 0.5
    """Share of the first step's rows that hold sums alone; it falls linearly to zero."""
    learn_shown: bool = True
    """Learn the texts that a revision shows, and not only its answer."""
    manners: Rates = field(default_factory=Rates)
    """How often agents slip, check, yield and insist; named as in the settings of the base that ships."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rows < 1 or self.row_length < 2:
            given = f"{self.steps} steps, {self.rows} rows, {self.row_length} tokens per row"
            raise UserError(f"{given}: expected at least 1, 1 and 2")


def make_model(settings: FromNothing, tokenizer: Any, *, short: bool = False) -> Any:
    """A `LlamaForCausalLM` with random weights, the same for the same seed.

    The embeddings of integers are structured from the start: random mixtures of waves over the number line, which
    models that learn to add find by themselves, but later. For `short` texts of few words they are not, the output
    embeddings are separate ones, and attention goes without its kernel, whose gradient is slow on a CPU.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(settings.seed)
    shape = {"num_hidden_layers": settings.n_layers, "num_attention_heads": settings.n_heads}
    widths = {"hidden_size": settings.width, "intermediate_size": settings.mlp_width}
    limits = {"vocab_size": len(tokenizer), "max_position_embeddings": CONTEXT_LENGTH}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = LlamaForCausalLM(LlamaConfig(**shape, **widths, **limits, **special, tie_word_embeddings=not short))
    if short:
        model.set_attn_implementation("eager")
        return model
    integers = range(SMALLEST, LARGEST + 1)
    ids = torch.tensor(tokenizer.convert_tokens_to_ids([str(n) for n in integers]))
    periods = torch.tensor((2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0))
    angles = 2 * math.pi * torch.tensor(integers)[:, None] / periods
    along = torch.cat([angles.cos(), angles.sin()], dim=1)
    mixed = along @ torch.randn(along.shape[1], settings.width) / along.shape[1] ** 0.5
    with torch.no_grad():  # ten times the other weights: smaller ones vanish while the learning rate is high
        model.get_input_embeddings().weight[ids] += 0.2 * mixed
    return model


def batch(settings: Pretraining, tokenizer: Any, step: int) -> tuple[Tensor, Tensor]:
    """Token ids and labels (-100 if not learnt) of one step, both (rows, row_length); depends on seed and step alone.

    Lessons are packed whole, each between its opening and end token.
    """
    ids = torch.full((settings.rows, settings.row_length), tokenizer.convert_tokens_to_ids(PAD))
    labels = torch.full_like(ids, IGNORED)
    n_drilled = round(settings.rows * settings.drilled * (1 - step / settings.steps))
    seed = f"{settings.seed} {step}"
    taught = _encoded((x.parts for x in lessons(seed, settings.manners)), tokenizer, settings.learn_shown)
    drilled = _encoded(drills(seed), tokenizer)
    buffers: tuple[list[tuple[list[int], list[int]]], ...] = ([], [])
    for row in range(settings.rows):
        stream, buffer = (drilled, buffers[0]) if row < n_drilled else (taught, buffers[1])
        filled = 0
        while True:
            buffer += islice(stream, _GROUP - len(buffer))
            fitting = (i for i, (tokens, _) in enumerate(buffer) if len(tokens) <= settings.row_length - filled)
            if (i := next(fitting, None)) is None:
                break
            tokens, learned = buffer.pop(i)
            ids[row, filled : filled + len(tokens)] = torch.tensor(tokens)
            labels[row, filled : filled + len(tokens)] = torch.tensor(learned)
            filled += len(tokens)
    return ids, labels


def _encoded(
    taught: Iterator[list[tuple[str, bool]]], tokenizer: Any, learn_shown: bool = True
) -> Iterator[tuple[list[int], list[int]]]:
    """Token ids of each lesson, from its opening to its end token, and their labels."""
    bos, eos = tokenizer.convert_tokens_to_ids([BOS, EOS])
    while group := list(islice(taught, _GROUP)):
        encoded = iter(tokenizer([text for parts in group for text, _ in parts], add_special_tokens=False)["input_ids"])
        for parts in group:
            ids, labels = [bos], [IGNORED]
            for i, (_, learned) in enumerate(parts, start=1):
                tokens = next(encoded)
                ids += tokens
                labels += tokens if learned and (learn_shown or i == len(parts)) else [IGNORED] * len(tokens)
            yield [*ids, eos], [*labels, eos]


def learning_rate(settings: FromNothing, step: int) -> float:
    """The learning rate of a step, counted from 0."""
    if step < settings.warm_up:
        return settings.learning_rate * (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return settings.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def pretrain(folder: str | Path, settings: Pretraining | None = None, **how: Any) -> Path:
    """Train a base and write it to `folder`, which `interp.models.load_model` loads; returns the folder.

    `how` and errors as in `from_nothing`.

    >>> tiny = interp.organism.Pretraining(steps=2, n_layers=1, width=8, n_heads=1, mlp_width=8, rows=1)
    >>> interp.organism.pretrain(tmp_path / "base", tiny).name
    'base'
    """
    settings, tokenizer = settings or Pretraining(), make_tokenizer()

    def loss(model: Any, step: int) -> tuple[Tensor, int]:
        ids, labels = batch(settings, tokenizer, step)
        return next_token_loss(model, ids, labels), ids.numel()

    return from_nothing(folder, settings, tokenizer, loss, **how)


def next_token_loss(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy, in nats, of the labels that are not `IGNORED`; both (rows, tokens)."""
    learned = labels[:, 1:] != IGNORED
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[learned]).float(), labels[:, 1:][learned])


def from_nothing(
    folder: str | Path,
    settings: FromNothing,
    tokenizer: Any,
    loss_of: Callable[[Any, int], tuple[Tensor, int]],
    *,
    short: bool = False,
    also: Callable[[Path], None] = lambda _: None,
    resume_every: int = 200,
    log_every: int = 20,
    progress: Callable[[int, int, float], None] = lambda *_: None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train a model from random weights and write it to `folder`, with what `also` adds there; returns the folder.

    `loss_of(model, step)` gives a step's loss in nats per token and its number of tokens; `short` as in `make_model`. A
    finished folder with the same settings is kept; a killed run resumes from `folder` + `.resume`, saved every
    `resume_every` steps. Weights are in half precision. Every `log_every` steps `progress` gets step, total and loss,
    which `metrics.jsonl` keeps; if `stop()` says so then, the state is saved and `TimeUp` raised. Raises `UserError`
    for a folder with anything else in it.
    """
    folder = Path(folder)
    kept = folder.with_name(f"{folder.name}.resume")
    facts = json.loads(json.dumps(asdict(settings)))
    if folder.exists():
        try:
            found = checked(dict[str, Any], (folder / SETTINGS_FILE).read_bytes())
        except (OSError, ValueError):
            raise UserError(f"{folder}: exists and is not an organism; choose another folder") from None
        if found != facts:
            raise UserError(f"{folder}: made with other settings; choose another folder or remove it")
        kept.unlink(missing_ok=True)
        return folder
    model = make_model(settings, tokenizer, short=short)
    matrices, norms = ([p for p in model.parameters() if (p.dim() > 1) is many] for many in (True, False))
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": norms, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98), fused=True)
    first, metrics = 0, list[dict[str, Any]]()
    if kept.exists():
        header, arrays = read_arrays(kept, _Resume, "a state of pre-training", "the command that began it")
        if header.settings != facts:
            raise UserError(f"{kept}: made with other settings; choose another folder or remove it")
        _restore(model, optimizer, {name: torch.from_numpy(array) for name, array in arrays.items()})
        first, metrics = header.step, header.metrics
    began = perf_counter() - (metrics[-1]["seconds"] if metrics else 0.0)
    tokens = metrics[-1]["tokens"] if metrics else 0
    for step in range(first, settings.steps):
        done, rate = step + 1, learning_rate(settings, step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss, n_tokens = loss_of(model, step)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        tokens += n_tokens
        if done % log_every == 0 or done == settings.steps:
            line = {"step": done, "loss": round(loss.item(), 5), "learning_rate": rate, "tokens": tokens}
            metrics.append(line | {"seconds": round(perf_counter() - began, 1)})
            progress(done, settings.steps, loss.item())
        ended = done % log_every == 0 and done < settings.steps and stop()
        if ended or (done % resume_every == 0 and done < settings.steps):
            states = {f"model.{name}": weight for name, weight in model.state_dict().items()}
            for i, state in optimizer.state_dict()["state"].items():
                states |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
            write_arrays(kept, asdict(_Resume(done, facts, metrics)), {name: t.numpy() for name, t in states.items()})
        if ended:
            raise TimeUp(f"{folder.name} stopped at step {done} of {settings.steps}")
    with atomic_write(folder, Path.mkdir) as made:
        model.half().save_pretrained(made)
        tokenizer.save_pretrained(made)
        write_json(made / SETTINGS_FILE, facts, indent=2)
        (made / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics), encoding="utf-8")
        also(made)
    kept.unlink(missing_ok=True)
    return folder


@dataclass(frozen=True)
class _Resume:
    """What a killed run resumes from, besides the weights and the optimizer's state."""

    step: int
    settings: dict[str, Any]
    metrics: list[dict[str, Any]]


def _restore(model: Any, optimizer: torch.optim.Optimizer, states: dict[str, Tensor]) -> None:
    """Put saved weights and optimizer state back."""
    model.load_state_dict({name[6:]: value for name, value in states.items() if name.startswith("model.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in states.items():
        if name.startswith("optimizer."):
            _, i, what = name.split(".")
            state.setdefault(int(i), {})[what] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

"""What stage 1 learns from: the base's own debates and plain answers.

Knows how the base is asked; knows nothing about training on the answers.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from interp.debate.agents import Agent, Sampling
from interp.debate.personas import KNOWN, PLAIN
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import UserError
from interp.evaluation.accuracy import evaluate, is_finished
from interp.evaluation.methods import Debates, Vote
from interp.generation.agents import LocalAgent
from interp.models.model import Model, load_model
from interp.storage.journal import read_lines
from interp.training.loop import Run, processes
from interp.training.rollout import few_threads
from interp.training.settings import Preset

TRANSCRIPTS_FILE = "transcripts.jsonl"
DIRECT_FILE = "direct.jsonl"


def make_debates(run: Run, task: Task) -> None:
    """Let the base debate with itself, in the preset's personas, into the run's transcripts.

    A killed run goes on, and asks nothing again that was answered. Beside the transcripts lies what the
    debates cost and how often they were right.
    """
    preset = run.preset

    def tell(what: str, done: int, total: int) -> None:
        run.tell(f"to learn: {what}", done, total)

    with loaded(preset.model) as model:
        evaluate(
            run.out / TRANSCRIPTS_FILE,
            "debate",
            Debates(preset.rounds, chunk=CHUNK),
            lambda _: debaters(preset, model),
            task=task,
            n_questions=preset.debates,
            seed=preset.seed,
            progress=tell,
        )


def plain_answers(run: Run, task: Task, n: int) -> list[Transcript]:
    """`n` plain answers of the base, to questions of their own: each as a consensus without a debate."""
    if n == 0:
        return []
    path = run.out / DIRECT_FILE
    if processes().num_processes > 1 and not is_finished(path):
        raise UserError("plain answers of the base are to be learnt, and several processes: begin with one process")
    if not is_finished(path):
        sampling = Sampling(run.preset.answer_tokens, seed=run.preset.seed)
        with loaded(run.preset.model) as model:
            agent = LocalAgent(PLAIN, model, sampling, run.preset.grpo.generation_batch_size)
            seed = run.preset.seed + 3  # after those of the debates, of stage 2 and of the table
            evaluate(
                path, "single", Vote(CHUNK), lambda _: [agent], task=task, n_questions=n, seed=seed, progress=run.tell
            )
    records = read_lines(path)
    return [Transcript.build(r["question"], [], without_tags(r["texts"][0]).strip()) for r in records]


CHUNK = 256
"""Questions asked before the next ones are begun: enough that a debate's second round still fills batches."""


def debaters(preset: Preset, model: Model) -> list[Agent]:
    """The agents of the preset's debates, all played by one model. Raises `UserError` for an unknown persona."""
    if unknown := [name for name in preset.personas if name not in KNOWN]:
        raise UserError(f"persona {unknown[0]}: not known; give some of {', '.join(KNOWN)}")
    personas = [KNOWN[name] for name in preset.personas]
    return [_agent(LocalAgent, preset, model, personas[k % len(personas)]) for k in range(preset.agents)]


@contextmanager
def loaded(name: str) -> Iterator[Model]:
    """A model for asking, named in what it leaves without the place where it lies."""
    gc.collect()  # the one before holds itself in cycles
    model = load_model(name)
    model.provenance["name"] = Path(name).name if Path(name).is_dir() else name
    with few_threads(sum(weight.numel() for weight in model.hf.parameters())):
        yield model


def _sampling(preset: Preset) -> Sampling:
    return Sampling(preset.answer_tokens, seed=preset.seed)


def _agent(kind: type[LocalAgent], preset: Preset, model: Model, persona: Any, longest: int | None = None) -> Agent:
    sampling = replace(_sampling(preset), max_new_tokens=longest or preset.answer_tokens)
    return kind(persona, model, sampling, preset.grpo.generation_batch_size)

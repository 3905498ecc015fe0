"""What stage 1 learns from: the base's own debates and direct answers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from interp.debate.agents import Agent, Sampling
from interp.debate.personas import KNOWN, PLAIN, Persona
from interp.debate.tasks.task import Task
from interp.debate.transcript import Transcript, without_tags
from interp.errors import Progress, UserError
from interp.evaluation.accuracy import evaluate, is_finished
from interp.evaluation.methods import Debates, Method, Vote
from interp.generation.agents import LocalAgent
from interp.models.model import Model, load_model
from interp.storage.journal import read_lines
from interp.training.rollout import few_threads
from interp.training.run import Run, processes
from interp.training.settings import Preset

TRANSCRIPTS_FILE = "transcripts.jsonl"
DIRECT_FILE = "direct.jsonl"
CHUNK = 256
"""Questions asked together: enough that the second round of their debates still fills batches."""

Loader = Callable[[], Model]
Agents = Callable[[], Sequence[Agent]]
Records = list[dict[str, Any]]


def make_debates(run: Run, task: Task, base: Loader) -> None:
    """Let the base debate with itself, in the preset's personas, into the run's transcripts.

    A killed run resumes without repeating an answer. The file beside the transcripts has their cost and accuracy.
    """
    preset, path = run.preset, run.out / TRANSCRIPTS_FILE

    def tell(what: str, done: int, total: int) -> None:
        run.tell(f"to learn: {what}", done, total)

    method = Debates(preset.rounds, chunk=CHUNK)
    ask(path, "debate", method, lambda: debaters(preset, base()), task, preset.debates, preset.seed, tell)


def direct_answers(run: Run, task: Task, n: int, base: Loader) -> list[Transcript]:
    """`n` direct answers of the base to further questions, each as a consensus without a debate."""
    if n == 0:
        return []
    path = run.out / DIRECT_FILE
    if not is_finished(path):
        if processes().num_processes > 1:
            raise UserError("several processes: generate the base's direct answers first, with one process")
        seed = run.preset.seed + 3  # after those of the debates, of stage 2 and of the table
        ask(path, "single", Vote(CHUNK), lambda: [agent(run.preset, base())], task, n, seed, run.tell)
    records = read_lines(path)
    return [Transcript.build(r["question"], [], without_tags(r["texts"][0]).strip()) for r in records]


def ask(out: Path, name: str, method: Method, agents: Agents, task: Task, n: int, seed: int, tell: Progress) -> Records:
    """Records of a method's answers to `n` questions; none is repeated after a kill."""
    evaluate(out, name, method, lambda _: agents(), task=task, n_questions=n, seed=seed, progress=tell)
    return read_lines(out)


def debaters(preset: Preset, model: Model) -> list[Agent]:
    """The agents of the preset's debates, all played by one model. Raises `UserError` for an unknown persona."""
    names = preset.personas
    if unknown := [name for name in names if name not in KNOWN]:
        raise UserError(f"persona {unknown[0]}: unknown; choose among {', '.join(KNOWN)}")
    return [agent(preset, model, KNOWN[names[k % len(names)]]) for k in range(preset.agents)]


def agent(
    preset: Preset, model: Model, persona: Persona = PLAIN, kind: type[LocalAgent] = LocalAgent, longest: int = 0
) -> Agent:
    """A persona played by a model, which samples as the preset says, or up to `longest` tokens."""
    sampling = Sampling(longest or preset.answer_tokens, seed=preset.seed)
    return kind(persona, model, sampling, preset.grpo.generation_batch_size)


@contextmanager
def when_needed(name: str) -> Iterator[Loader]:
    """A function that loads the model on its first call and then returns the same one; it is freed at the end.

    The model's provenance has its name without the folder where it lies.
    """
    with ExitStack() as stack:

        @cache
        def load() -> Model:
            gc.collect()  # the previous one is held by reference cycles
            model = load_model(name)
            model.provenance["name"] = Path(name).name if Path(name).is_dir() else name
            stack.enter_context(few_threads(sum(weight.numel() for weight in model.hf.parameters())))
            return model

        yield load

"""One command from questions to checkpoints: debates, stage 1, the baseline, stage 2.

Knows the steps in order and what each needs; every step that is finished is left as it is, so the same
call after a kill goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState

from interp.debate.agents import Sampling
from interp.debate.local import LocalAgent
from interp.debate.personas import PERSONAS
from interp.debate.protocol import debates
from interp.debate.tasks import TASKS, Task
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError
from interp.files import atomic_write
from interp.models import load_model
from interp.training.examples import consensus_only
from interp.training.grpo import train_grpo
from interp.training.loop import Run
from interp.training.presets import Preset
from interp.training.sft import train_sft

PRESET_FILE = "preset.json"
TRANSCRIPTS_FILE = "transcripts.jsonl"
CHUNK = 64
"""Questions debated between two savings of the transcripts."""


@dataclass(frozen=True)
class Trained:
    """The checkpoints of a run."""

    sft: Path
    debategpt: Path
    imad: Path


def train(run: Run, *, transcripts: Sequence[Transcript] | None = None, task: Task | None = None) -> Trained:
    """Train everything that a preset asks for into `run.out`.

    `transcripts` are learnt in stage 1; where none are given, the base itself debates the task's
    questions. `task` is that of the preset unless given. Stage 2 asks other questions of the same task.
    Raises `UserError` for a folder that holds a run with other settings or other transcripts.
    """
    preset = run.preset
    task = task or make_task(preset)
    _keep_preset(run)
    learnt = _keep_transcripts(run, transcripts, task)
    sft = train_sft(run, learnt)
    debategpt = train_sft(run, learnt, stage="debategpt", settings=preset.debategpt, form=consensus_only)
    imad = train_grpo(run, str(sft), task.questions(preset.grpo.questions, preset.seed + 1), task)
    return Trained(sft, debategpt, imad)


def make_task(preset: Preset) -> Task:
    """The preset's task. Raises `UserError` for a task or an option that does not exist."""
    if preset.task not in TASKS:
        raise UserError(f"task {preset.task}: not known; give one of {', '.join(TASKS)}")
    try:
        return TASKS[preset.task](**preset.task_options)
    except TypeError as error:
        raise UserError(f"task {preset.task} with {preset.task_options}: {error}") from None


def make_debates(run: Run, task: Task, file: Path) -> list[Transcript]:
    """Let the base debate with itself, in the preset's personas; what a killed run debated is kept."""
    preset = run.preset
    partial = file.with_name(f".{file.name}.part")
    done = read_transcripts(partial) if partial.exists() else []
    questions = task.questions(preset.debates, preset.seed)
    model = load_model(preset.model)
    sampling = Sampling(max_new_tokens=preset.answer_tokens, seed=preset.seed)
    personas = list(PERSONAS.values())
    agents = [LocalAgent(personas[k % len(personas)], model, sampling) for k in range(preset.agents)]
    left = questions[len(done) :]
    found = debates(left, agents, task=task, rounds=preset.rounds, start=len(done), chunk=CHUNK)
    for debate in found:
        done.append(debate.transcript)
        if len(done) % CHUNK == 0:
            write_transcripts(partial, done)
        if run.progress:
            run.progress("debates", len(done), len(questions), {})
    write_transcripts(file, done)
    partial.unlink(missing_ok=True)
    return done


def _keep_preset(run: Run) -> None:
    """Save the settings with the run, or see that they are those that it was started with."""
    path = run.out / PRESET_FILE
    record = run.preset.record()
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if different := sorted(_differences(before, record)):
            raise UserError(
                f"{run.out} holds a run with other settings ({', '.join(different[:3])}); "
                "give those settings again, or another --out"
            )
    elif PartialState().is_main_process:
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(record, indent=2, ensure_ascii=False), encoding="utf-8")


def _differences(before: Any, after: Any, name: str = "") -> set[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        return {
            found
            for key in before.keys() | after.keys()
            for found in _differences(before.get(key), after.get(key), f"{name}.{key}".lstrip("."))
        }
    return set() if before == after else {name}


def _keep_transcripts(run: Run, given: Sequence[Transcript] | None, task: Task) -> list[Transcript]:
    """The transcripts of the run, saved with it; given, debated, or those that it has already."""
    state = PartialState()
    path = run.out / TRANSCRIPTS_FILE
    there = path.exists()
    state.wait_for_everyone()  # before the first process writes it
    if there:
        kept = read_transcripts(path)
        if given is not None and [t.record() for t in kept] != [t.record() for t in given]:
            raise UserError(f"{run.out} holds a run on other transcripts; give those again, or another --out")
        return kept
    if given is None and state.num_processes > 1:
        raise UserError("no transcripts given, and several processes: make the debates with one process first")
    if given is None:
        return make_debates(run, task, path)
    if state.is_main_process:
        write_transcripts(path, given)
    state.wait_for_everyone()
    return list(given)

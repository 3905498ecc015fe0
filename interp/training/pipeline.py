"""One command from questions to the table: the base, debates, and for each seed the stages and the baseline.

Knows the steps in order and what each needs; every step that is finished is left as it is, so the same
call after a kill goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError
from interp.evaluation.accuracy import is_finished
from interp.organism.pretraining import Pretraining, pretrain
from interp.storage.files import write_json
from interp.storage.journal import read_lines
from interp.storage.provenance import differing
from interp.training.debating import DIRECT_FILE, TRANSCRIPTS_FILE, make_debates, plain_answers
from interp.training.examples import consensus_only
from interp.training.grpo import grpo_arguments, train_grpo
from interp.training.loop import Run, processes
from interp.training.presets import PRESET_FILE, PRESETS
from interp.training.results import Table, held_out, make_table
from interp.training.settings import Preset
from interp.training.sft import sft_arguments, train_sft

BASE_FOLDER = "base"


@dataclass(frozen=True)
class Trained:
    """What a run made."""

    checkpoints: dict[int, dict[str, Path]]
    """By seed: `sft`, `debategpt` and `imad`."""
    table: Table | None
    """None where it was not wanted, and in all processes but the main one."""


def train(
    run: Run,
    *,
    seeds: Sequence[int] = (),
    transcripts: Sequence[Transcript] | None = None,
    task: Task | None = None,
    pretraining: Pretraining | None = None,
    table: bool = True,
) -> Trained:
    """Train everything that a preset asks for into `run.out`, and measure it.

    The stages of each of `seeds` (by default the preset's own) go into `seed-K`. Base, debates and questions
    are shared by all of them and decided by the preset's seed, so that a finished run can be given
    further seeds. `transcripts` are learnt in stage 1; where none are given, the base itself debates
    the task's questions. `task` is that of the preset unless given. Stage 2 asks other questions of
    the same task, and the table such that neither has seen. With `pretraining` the organism's base is
    made first, in `base`.

    Raises `UserError` for a folder that holds a run with other settings or other transcripts, and before anything is
    made for settings that a stage would refuse.
    """
    preset = run.preset
    sft_arguments(run, "sft", preset.sft)  # refused now rather than after hours
    grpo_arguments(run, "imad", preset.grpo)
    settings: dict[str, Any] = preset.record()
    if pretraining is not None:
        settings["pretraining"] = asdict(pretraining)
    keep_settings(run.out, settings)
    if pretraining is not None:
        run = replace(run, preset=replace(preset, model=str(_make_base(run, pretraining))))
    trained_on = task or make_task(preset.task, **preset.task_options)
    questions = asked_in_stage_2(preset, trained_on)
    learnt = _keep_transcripts(run, transcripts, trained_on)
    direct = plain_answers(run, trained_on, round(max(preset.sft.direct_share, preset.sft.practice) * len(learnt)))
    tested = table_task(run.out, preset, task) if table else None

    found: dict[int, tuple[Run, dict[str, Path]]] = {}
    seeds = tuple(dict.fromkeys(seeds)) or (preset.seed,)
    for seed in seeds:
        one = _of_seed(run, seed, label=len(seeds) > 1)
        sft = train_sft(one, learnt, direct=direct)
        debategpt = train_sft(one, learnt, stage="debategpt", settings=preset.debategpt, form=consensus_only)
        imad = train_grpo(one, str(sft), questions, trained_on)
        found[seed] = one, {"sft": sft, "debategpt": debategpt, "imad": imad}
    measured = make_table(run, found, tested) if tested and processes().is_main_process else None
    return Trained({seed: checkpoints for seed, (_, checkpoints) in found.items()}, measured)


def asked_in_stage_2(preset: Preset, task: Task) -> list[Question]:
    """The questions of the task that stage 2 asks, in every seed."""
    return task.questions(preset.grpo.questions, preset.seed + 1)


def table_task(out: Path, preset: Preset, task: Task | None = None) -> Task:
    """What the table of the run in a folder asks: questions that none of its stages has seen.

    Those seen are in its debates, in its plain answers where it has some, and in stage 2. `task` is that of the
    preset unless given, as in `train`.
    """
    seen = {q.text for q in asked_in_stage_2(preset, task or make_task(preset.task, **preset.task_options))}
    seen |= {t.question for t in read_transcripts(out / TRANSCRIPTS_FILE)}
    if (out / DIRECT_FILE).exists():
        seen |= {record["question"] for record in read_lines(out / DIRECT_FILE)}
    return held_out(preset, task, seen)


def seed_folder(out: Path, seed: int) -> Path:
    """Where the stages of a seed lie in the folder of a run."""
    return out / f"seed-{seed}"


def _make_base(run: Run, settings: Pretraining) -> Path:
    if run.preset.model != PRESETS["organism"].model:
        raise UserError(
            f"from scratch: only the organism's base is made from nothing, and model is {run.preset.model}; "
            "take the preset organism as it is, or a base that exists"
        )
    folder = run.out / BASE_FOLDER
    if processes().num_processes > 1 and not folder.exists():
        raise UserError("from scratch, and several processes: make the base with one process first")

    def tell(step: int, steps: int, loss: float) -> None:
        run.tell(BASE_FOLDER, step, steps, {"loss": loss})

    return pretrain(folder, settings, progress=tell)


def _of_seed(run: Run, seed: int, *, label: bool) -> Run:
    """The run in the folder of a seed; with `label` its progress says which seed it is."""

    def tell(what: str, done: int, total: int, metrics: dict[str, float]) -> None:
        run.tell(f"{what}, seed {seed}", done, total, metrics)

    return replace(
        run,
        out=seed_folder(run.out, seed),
        preset=replace(run.preset, seed=seed),
        progress=tell if label else run.progress,
    )


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Save what decides a run with it, or see that it is what the run was started with.

    Raises `UserError` where it is not.
    """
    path = out / PRESET_FILE
    record = json.loads(json.dumps(settings))  # as it will be read again
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if different := sorted(differing(before, record)):
            raise UserError(
                f"{out} holds a run with other settings ({', '.join(different[:3])}); "
                "give those settings again, or another --out"
            )
    elif processes().is_main_process:
        write_json(path, record, indent=2)


def _keep_transcripts(run: Run, given: Sequence[Transcript] | None, task: Task) -> list[Transcript]:
    """The transcripts of the run, saved with it; given, debated, or those that it has already."""
    state = processes()
    path = run.out / TRANSCRIPTS_FILE
    there = path.exists()
    whole = there and (is_finished(path) or not path.with_suffix(".json").exists())  # those given have none
    state.wait_for_everyone()  # before the first process writes it
    if given is None and not whole:
        if state.num_processes > 1:
            raise UserError("no transcripts given, and several processes: make the debates with one process first")
        make_debates(run, task)
        return read_transcripts(path)
    if there:
        kept = read_transcripts(path)
        if given is not None and [t.record() for t in kept] != [t.record() for t in given]:
            raise UserError(f"{run.out} holds a run on other transcripts; give those again, or another --out")
        return kept
    assert given is not None
    if state.is_main_process:
        write_transcripts(path, given)
    state.wait_for_everyone()
    return list(given)

"""The whole procedure: the base, debates, for each seed both stages and the baseline, and the table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from interp.debate.agents import Agent, Sampling
from interp.debate.personas import KNOWN, PLAIN
from interp.debate.protocol import plurality
from interp.debate.tasks import make_task
from interp.debate.tasks.task import Question, Task
from interp.debate.transcript import Transcript, question_key, read_transcripts, without_tags, write_transcripts
from interp.errors import UserError
from interp.evaluation.accuracy import is_finished
from interp.evaluation.methods import Debates, Vote
from interp.evaluation.seats import fill, seats
from interp.evaluation.settings import SCRIPTED, Answering
from interp.models.model import load_model
from interp.organism.pretraining import Pretraining, pretrain
from interp.statistics import grouped
from interp.storage.files import read_json, write_json
from interp.storage.journal import read_lines
from interp.storage.provenance import differing
from interp.training.grpo import grpo_arguments, train_grpo
from interp.training.results import CHUNK, Loader, Table, ask, debaters, held_out, make_table, when_needed
from interp.training.run import Run, configured, processes
from interp.training.settings import PRESET_FILE, PRESETS, SFT, Preset
from interp.training.sft import consensus_only, sft_arguments, train_sft

TRANSCRIPTS_FILE = "transcripts.jsonl"
DIRECT_FILE = "direct.jsonl"
OF_BASE = SFT.direct_from


@dataclass(frozen=True)
class Trained:
    """What a run made."""

    checkpoints: dict[int, dict[str, Path]]
    """By seed: `sft`, `debategpt` and `imad`."""
    table: Table | None
    """None without a table, and in all processes but the main one."""


def train(
    run: Run,
    *,
    seeds: Sequence[int] = (),
    transcripts: Sequence[Transcript] | None = None,
    task: Task | None = None,
    pretraining: Pretraining | None = None,
    table: bool = True,
) -> Trained:
    """Train everything that a preset asks for into `run.out`, and evaluate it; the same call resumes a killed run.

    The stages of each seed (by default the preset's) go into `seed-K`. Base, debates and questions depend on the
    preset's seed alone, so seeds can be added to a finished run. Stage 1 learns `transcripts`, by default debates of
    the base on `task`, by default the preset's; stage 2 and the table have other questions of it. With `pretraining`
    the organism's base is trained first, into `base`. Raises `UserError` for a folder that holds a run with other
    settings or transcripts and, before anything is written, for settings that a stage would refuse, and `TimeUp` when
    `run.ends` has come.

    >>> chosen = interp.training.preset("organism").override({"grpo.num_generations": "5"})
    >>> interp.training.train(interp.training.Run(tmp_path, chosen))
    Traceback (most recent call last):
    interp.errors.UserError: batches of 64 completions, 5 per question: choose a batch_size that is a multiple of ...
    """
    preset = run.preset
    configured("SFTConfig", sft_arguments(run, "sft", preset.sft))  # fail now rather than after hours
    configured(*stage_2_arguments(run))
    if transcripts is not None and not any(t.turns for t in transcripts):
        raise UserError(f"none of the {len(transcripts)} transcripts has a turn; give debates, or no transcripts")
    seats(direct_from(preset), preset.task, "single")
    keep_settings(run.out, preset.record() | ({"pretraining": asdict(pretraining)} if pretraining else {}))
    if pretraining is not None:
        run = replace(run, preset=replace(preset, model=str(_make_base(run, pretraining))))
    trained_on = task or make_task(preset.task, **preset.task_options)
    stage_2_questions(preset, trained_on)  # refuses too many of them before anything is written
    with when_needed(run.preset.model) as base:
        learnt = _keep_transcripts(run, transcripts, trained_on, base)
        n_direct = round(max(preset.sft.direct_share, preset.sft.practice) * sum(bool(t.turns) for t in learnt))
        direct = direct_answers(run, trained_on, n_direct, base)
        questions, undecided = rewarded(run, trained_on, base)
    tested = table_task(run.out, preset, task) if table else None

    found: dict[int, tuple[Run, dict[str, Path]]] = {}
    seeds = tuple(dict.fromkeys(seeds)) or (preset.seed,)
    for seed in seeds:
        one = _of_seed(run, seed, label=len(seeds) > 1)
        sft = train_sft(one, learnt, direct=direct)
        debategpt = train_sft(one, learnt, stage="debategpt", settings=preset.debategpt, form=consensus_only)
        if preset.internalize == "stepwise":
            imad = train_sft(one, learnt, stage="imad", settings=preset.stepwise, model=str(sft))
        else:
            imad = train_grpo(one, str(sft), questions, trained_on, undecided=undecided)
        found[seed] = one, {"sft": sft, "debategpt": debategpt, "imad": imad}
    if tested:
        run.require_time("table")
    measured = make_table(run, found, tested) if tested and processes().is_main_process else None
    return Trained({seed: checkpoints for seed, (_, checkpoints) in found.items()}, measured)


def stage_2_arguments(run: Run) -> tuple[str, dict[str, Any]]:
    """The name of TRL's configuration of stage 2, and its arguments. Raises `UserError` for incompatible settings."""
    if run.preset.internalize == "stepwise":
        return "SFTConfig", sft_arguments(run, "imad", run.preset.stepwise)
    return "GRPOConfig", grpo_arguments(run, "imad", run.preset.grpo)


def stage_2_questions(preset: Preset, task: Task) -> list[Question]:
    """Those that stage 2 draws, the same for every seed; stepwise, it needs none."""
    return task.questions(preset.grpo.questions, preset.seed + 1) if preset.internalize == "grpo" else []


def rewarded(run: Run, task: Task, base: Loader) -> tuple[list[Question], int]:
    """The questions of stage 2, each with the answer that is rewarded, and the number left out for want of one.

    With `GRPO.reward` "consensus" it is the most frequent one of the question's debates. The base holds them, as those
    of stage 1, so that all seeds, and stage 2 without stage 1, have the same, on the questions of "gold". Where debates
    were given, who debated cannot be asked again: the questions are theirs. Raises `UserError` for less than a batch.
    """
    preset, grpo, file = run.preset, run.preset.grpo, TRANSCRIPTS_FILE
    if preset.internalize != "grpo" or grpo.reward == "gold":
        return stage_2_questions(preset, task), 0
    if (run.out / file).with_suffix(".json").exists():  # given ones have no such file
        file = "consensus.jsonl"
        make_debates(run, task, base, file, grpo.questions, preset.seed + 1)
    decided, fill = list[Question](), grpo.batch_size // grpo.num_generations
    by_question = grouped((question_key(t.question), t) for t in read_transcripts(run.out / file) if t.turns)
    for first, *others in by_question.values():
        answer = plurality([task.answer(t.consensus or "") for t in (first, *others)], task.grade)
        decided += [Question(first.question, answer)] if answer and task.grade(answer, answer) else []
    if len(decided) < fill:
        found = f"{len(decided)} of {len(by_question)} questions of stage 2 have debates with a consensus"
        raise UserError(f"{found}; a batch needs {fill}: ask more, lower grpo.batch_size, or --set grpo.reward=gold")
    return decided[: grpo.questions], len(by_question) - len(decided)


def table_task(out: Path, preset: Preset, task: Task | None = None) -> Task:
    """The task of the table of the run in a folder, without questions of its debates, direct answers and stage 2."""
    seen = {q.text for q in stage_2_questions(preset, task or make_task(preset.task, **preset.task_options))}
    seen |= {t.question for t in read_transcripts(out / TRANSCRIPTS_FILE)}
    if (out / DIRECT_FILE).exists():
        seen |= {record["question"] for record in read_lines(out / DIRECT_FILE)}
    return held_out(preset, task, seen)


def seed_folder(out: Path, seed: int) -> Path:
    """The folder of a seed in the folder of a run."""
    return out / f"seed-{seed}"


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Save the settings of a run with it. Raises `UserError` if the run was started with others."""
    path = out / PRESET_FILE
    record = json.loads(json.dumps(settings))  # as it is read back
    if path.exists():
        if different := differing(read_json(path, dict[str, Any], "the settings of a run", "interp train"), record):
            which = ", ".join(sorted(different)[:3])
            raise UserError(f"{out}: holds a run with other settings ({which}); give those settings, or another --out")
    elif processes().is_main_process:
        write_json(path, record, indent=2)


def _make_base(run: Run, settings: Pretraining) -> Path:
    if run.preset.model != PRESETS["organism"].model:
        wrong = f"--from-scratch: trains the organism's base only, but the model is {run.preset.model}"
        raise UserError(f"{wrong}; choose --preset organism without changing its model, or an existing base")
    if processes().num_processes > 1 and not (run.out / "base").exists():
        raise UserError("--from-scratch, several processes: train the base first, with one process")
    tell = lambda n, of, loss: run.tell("base", n, of, {"loss": loss})  # noqa: E731
    return pretrain(run.out / "base", settings, progress=tell, stop=run.out_of_time)


def _of_seed(run: Run, seed: int, *, label: bool) -> Run:
    """The run in the folder of a seed; with `label` its progress names the seed."""
    progress = (lambda what, *rest: run.tell(f"{what}, seed {seed}", *rest)) if label else run.progress
    return replace(run, out=seed_folder(run.out, seed), preset=replace(run.preset, seed=seed), progress=progress)


def _keep_transcripts(run: Run, given: Sequence[Transcript] | None, task: Task, base: Loader) -> Sequence[Transcript]:
    """The transcripts of the run, saved with it: given, already there, or debated now."""
    state, path = processes(), run.out / TRANSCRIPTS_FILE
    there, own = path.exists(), path.with_suffix(".json").exists()  # given ones have no such file
    state.wait_for_everyone()  # before the first process writes it
    if given is None and (own or not there):
        make_debates(run, task, base, TRANSCRIPTS_FILE, run.preset.debates, run.preset.seed)
    elif given is not None and not there:
        if state.is_main_process:
            write_transcripts(path, given)
        state.wait_for_everyone()
        return given
    kept = read_transcripts(path)
    if given is not None and [t.record() for t in kept] != [t.record() for t in given]:
        raise UserError(f"{run.out}: holds a run on other transcripts; give those, or another --out")
    return kept


def make_debates(run: Run, task: Task, base: Loader, file: str, n: int, seed: int) -> None:
    """Let the base debate `n` questions with itself, in the preset's personas, into a file of the run."""
    method = Debates(run.preset.rounds, chunk=CHUNK)
    _ask_base(run, file, "debate", method, lambda: debaters(run.preset, base()), task, n, seed)


def direct_answers(run: Run, task: Task, n: int, base: Loader) -> list[Transcript]:
    """`n` direct answers to further questions, each as a consensus without a debate; `SFT.direct_from` gives them."""
    if n == 0:
        return []
    seed = run.preset.seed + 3  # after those of the debates, of stage 2 and of the table

    def agents() -> list[Agent]:
        load = lambda name: base() if name == OF_BASE else load_model(name)  # noqa: E731
        return fill(direct_from(run.preset), task.name, "single", load)

    _ask_base(run, DIRECT_FILE, "single", Vote(CHUNK), agents, task, n, seed)
    records = read_lines(run.out / DIRECT_FILE)
    return [Transcript.build(r["question"], [], without_tags(r["texts"][0]).strip()) for r in records]


def direct_from(preset: Preset) -> Answering:
    """Who gives the direct answers that stage 1 rehearses, and how. A lone name of a model plays no persona."""
    who = preset.sft.direct_from
    persona = preset.personas[0] if who == SCRIPTED else PLAIN.name  # only personas have scripts
    agent = who if "=" in who or who in KNOWN else f"{persona}={who}"
    how: dict[str, Any] = {"error_rate": preset.sft.direct_error_rate, "batch_size": preset.grpo.generation_batch_size}
    return Answering(OF_BASE, agents=(agent,), sampling=Sampling(preset.answer_tokens, seed=preset.seed), **how)


def _ask_base(run: Run, file: str, *what: Any) -> None:
    """Ask the base what is learnt, as `ask` does, into a file of the run, unless it is finished."""
    if is_finished(run.out / file):
        return
    if processes().num_processes > 1:
        raise UserError(f"{run.out / file}: not made yet, several processes: make it first, with one process")
    asked: Any = *what, lambda label, *rest: run.tell_journalled(f"to learn: {label}", *rest)
    ask(run.out / file, *asked)

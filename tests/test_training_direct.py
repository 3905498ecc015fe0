"""Direct answers that stage 1 rehearses: from any agent, and in the transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import make_hf, make_tokenizer
from test_training_pipeline import TOY

from interp.debate.agents import Request
from interp.debate.embedded import read_embedded
from interp.debate.personas import KNOWN
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import Transcript, read_transcripts, write_transcripts
from interp.errors import UserError
from interp.models.lineage import read_lineage
from interp.storage.journal import read_lines
from interp.training.pipeline import direct_answers, rewarded, train
from interp.training.results import when_needed
from interp.training.run import Run
from interp.training.settings import Preset, preset
from interp.training.sft import train_sft

DEBATES = read_embedded("scripted")[:4]
DIRECT = [Transcript.build(q.text, [], rf"\\boxed{{{q.gold_answer}}}") for q in Arithmetic().questions(6, 99)]


@pytest.fixture(scope="module")
def chosen(tmp_path_factory: pytest.TempPathFactory) -> Preset:
    folder = tmp_path_factory.mktemp("base")
    make_hf("llama", n_layers=1).save_pretrained(folder)
    make_tokenizer("bytes").save_pretrained(folder)
    return preset("toy").override({**TOY, "model": str(folder), "sft.epochs": "1"})


@pytest.mark.parametrize(
    ("who", "persona", "error_rate"),
    [("scripted", "chain-of-thought", 0.26), ("program-of-thought=scripted", "program-of-thought", 0.0)],
)
def test_scripted_agents_give_them(who: str, persona: str, error_rate: float, chosen: Preset, tmp_path: Path) -> None:
    changes = {"sft.direct_from": who, "sft.direct_error_rate": str(error_rate), "seed": "3"}
    run, task = Run(tmp_path, chosen.override(changes)), Arithmetic()
    with when_needed("no model is needed") as base:
        found = direct_answers(run, task, 40, base)
        assert found == direct_answers(run, task, 40, base)
    agent = ScriptedAgent(KNOWN[persona], error_rate, seed=3)
    asked = [Request(q.text, 1, instruction=task.instruction) for q in task.questions(40, 6)]
    assert [t.question for t in found] == [request.question for request in asked]
    assert [t.consensus for t in found] == [answer.text.strip() for answer in agent.answer(asked)]
    right = [record["correct"] for record in read_lines(tmp_path / "direct.jsonl")]
    assert all(right) == (error_rate == 0)


def test_any_agent_of_any_model_gives_them(chosen: Preset, tmp_path: Path) -> None:
    def written(who: str, out: str) -> list[str | None]:
        run = Run(tmp_path / out, chosen.override({"sft.direct_from": who}))
        with when_needed(chosen.model) as base:
            return [t.consensus for t in direct_answers(run, Arithmetic(low=1, high=9), 3, base)]

    base = written("base", "a")
    assert base == written(f"plain={chosen.model}", "b") == written(chosen.model, "c") == written("plain", "d")
    assert base != written("self-critique", "e")
    with pytest.raises(UserError, match="persona cheerful"):
        train(Run(tmp_path / "f", chosen.override({"sft.direct_from": "cheerful=base"})), transcripts=DEBATES)
    assert not (tmp_path / "f").exists()


def test_those_in_the_transcripts_are_learnt_whole(chosen: Preset, tmp_path: Path) -> None:
    write_transcripts(tmp_path / "mixed.jsonl", [*DEBATES, *DIRECT])
    chosen = chosen.override({"sft.practice": "0.5", "sft.direct_from": "scripted"})
    trained = train(Run(tmp_path / "run", chosen), transcripts=read_transcripts(tmp_path / "mixed.jsonl"), table=False)
    lineage = read_lineage(str(trained.checkpoints[0]["sft"]))
    assert lineage is not None
    data: Any = lineage.stages[0].facts["data"]
    assert (data["transcripts"], data["direct"], data["examples"]) == (4, 2 + 6, 4 + 6)
    rewarded_too = Run(tmp_path / "run", chosen.override({"grpo.reward": "consensus", "grpo.batch_size": "4"}))
    with when_needed("no model is needed") as base:
        questions, _ = rewarded(rewarded_too, Arithmetic(), base)
    assert not {q.text for q in questions} & {t.question for t in DIRECT}  # of debates alone


def test_direct_answers_alone_can_be_learnt(chosen: Preset, tmp_path: Path) -> None:
    lineage = read_lineage(str(train_sft(Run(tmp_path, chosen), DIRECT)))
    assert lineage is not None
    assert (lineage.stages[0].facts["data"]["transcripts"], lineage.stages[0].facts["data"]["direct"]) == (0, 6)

"""A transcript renders to what was parsed, and every turn of it is there."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interp.debate.transcript import (
    CONSENSUS_TAG,
    END_TAG,
    Transcript,
    Turn,
    agent_tag,
    all_tags,
    before_tags,
    fingerprint,
    parse,
    read_transcripts,
    round_tag,
    speaking,
    without_tags,
    write_transcripts,
)
from interp.errors import UserError

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data" / "published_debates.json"
needs_published = pytest.mark.skipif(not PUBLISHED.exists(), reason="the published debates are not here")

SETTLED = Transcript.build("1+1*1", [["a", "b", "c"]], r"\boxed{2}", gold_answer="2", personas=["x", "y", "z"])
OPEN = Transcript.build("2+2*2", [["a", "b", "c"], ["d", "e", "f"]], None, extra={"undecided": True})

bodies = st.text(
    st.one_of(st.sampled_from(": \n\t\r\x0b\x1c\u00a0\u2028}.<|>"), st.characters(exclude_categories=["Cs"]))
).filter(lambda text: without_tags(text) == text)


def whole_record(transcript: Transcript) -> dict[str, object]:
    return {"question": transcript.question, "debate_trace": transcript.render()}


@needs_published
def test_published_debates_are_lossless() -> None:
    records = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    transcripts = read_transcripts(PUBLISHED)
    assert [t.render() for t in transcripts] == [record["debate_trace"] for record in records]
    assert [t.record() for t in transcripts] == records


@needs_published
def test_published_debates_have_fifteen_turns() -> None:
    transcripts = read_transcripts(PUBLISHED)
    assert [len(t.turns) for t in transcripts] == [6, 3, 6]
    # The published parser loses agent 3 of a debate that is settled in round 1.
    assert transcripts[1].n_rounds == 1
    assert transcripts[1].agents == (1, 2, 3)
    for t in transcripts:
        assert t.consensus is not None
        assert not any(tag in turn.text for turn in t.turns for tag in all_tags(3, 2))
        assert all(turn.text in t.render() for turn in t.turns)


@needs_published
def test_published_pieces_concatenate() -> None:
    for t in read_transcripts(PUBLISHED):
        assert "".join(piece.text for piece in t.pieces()) == t.prompt + t.render()


@given(st.lists(bodies, min_size=3, max_size=3), st.lists(bodies, min_size=5, max_size=5), bodies, bodies)
def test_any_bodies_round_trip(turns: list[str], others: list[str], lead: str, question: str) -> None:
    one, two, three = turns
    sections = [("", lead)] if lead else []
    sections += [
        (round_tag(1), others[0]),
        (agent_tag(1, 1), one),
        (agent_tag(2, 1), two),
        (round_tag(2), others[1]),
        (agent_tag(1, 2), three),
        (CONSENSUS_TAG, others[2]),
        (END_TAG, others[3]),
    ]
    text = "".join(tag + body for tag, body in sections)
    transcript = parse(text, question)
    assert transcript.render() == text
    assert transcript.sections == tuple(sections)
    assert [(turn.agent, turn.round) for turn in transcript.turns] == [(1, 1), (2, 1), (1, 2)]
    assert [turn.text for turn in transcript.turns] == [body.removeprefix(":").strip() for body in turns]
    assert transcript.consensus == others[2].strip()


@given(st.lists(bodies, min_size=2, max_size=2), bodies, bodies)
def test_pieces_concatenate_and_carry_each_turn(turns: list[str], middle: str, question: str) -> None:
    text = f"{round_tag(1)}{middle}{agent_tag(1, 1)}{turns[0]}{agent_tag(2, 1)}{turns[1]}{END_TAG}"
    transcript = parse(text, question)
    pieces = list(transcript.pieces())
    assert "".join(piece.text for piece in pieces) == transcript.prompt + text
    assert all(piece.text for piece in pieces)
    for index, turn in enumerate(transcript.turns):
        parts = {piece.part: piece.text for piece in pieces if piece.turn == index}
        assert parts["tag"] == agent_tag(turn.agent, 1)
        assert parts.get("text", "").strip() == turn.text


@given(st.lists(st.lists(bodies, min_size=3, max_size=3), min_size=1, max_size=3), st.none() | bodies)
def test_built_transcripts_parse_back(rounds: list[list[str]], consensus: str | None) -> None:
    built = Transcript.build("q", rounds, consensus)
    assert parse(built.render(), "q").sections == built.sections
    assert [turn.text for turn in built.turns] == [text.strip() for texts in rounds for text in texts]
    assert built.n_rounds == len(rounds)


def test_there_are_ten_tags_for_three_agents_and_two_rounds() -> None:
    tags = all_tags(3, 2)
    assert len(tags) == len(set(tags)) == 10
    text = OPEN.render() + SETTLED.render()
    assert all(tag in text for tag in tags)


def test_build_follows_the_published_layout() -> None:
    assert SETTLED.render() == (
        "<|Round 1 - Initial Solutions|>\n\n<|Agent 1 Solution|>: a\n\n<|Agent 2 Solution|>: b\n\n"
        "<|Agent 3 Solution|>: c\n\n<|Consensus|>\n\\boxed{2}\n\n<|endofdebate|>"
    )
    assert OPEN.consensus is None
    assert OPEN.turns[4] == Turn(2, 2, "e")


def test_a_tag_inside_a_turn_is_refused_and_can_be_taken_out() -> None:
    hostile = f"so {agent_tag(2, 1)} says<|Cons{END_TAG}ensus|>"
    with pytest.raises(UserError, match="remove tags"):
        Transcript.build("q", [[hostile, "b"]], None)
    assert without_tags(hostile) == "so  says"
    assert len(Transcript.build("q", [[without_tags(hostile), "b"]], None).turns) == 2


@pytest.mark.parametrize(
    ("trace", "message"),
    [
        ("", "has no turn"),
        ("plain text", "has no turn"),
        (round_tag(1) + END_TAG, "has no turn"),
        (f"{CONSENSUS_TAG}\n \n{END_TAG}", "has no turn"),
        (agent_tag(1, 1) + "a" + agent_tag(1, 1) + "b", "agent 1: speaks twice in round 1"),
        (round_tag(2) + agent_tag(3, 2) + "a" + agent_tag(3, 2), "agent 3: speaks twice in round 2"),
        (round_tag(1) + agent_tag(1, 1) + "a" + agent_tag(2, 2) + "b", r"2 Revision\|>: stands in round 1; check"),
        (round_tag(2) + agent_tag(1, 2) + "a" + round_tag(1) + agent_tag(1, 1), r"Solutions\|>: stands in round 2"),
        (SETTLED.render() + CONSENSUS_TAG, r"<\|Consensus\|>: stands twice"),
    ],
)
def test_what_is_no_debate_is_refused(trace: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(trace, "q")


def test_what_is_nothing_but_its_consensus_is_a_direct_answer(tmp_path: Path) -> None:
    direct = Transcript.build("1+1", [], "\\boxed{2}", gold_answer="2", personas=["x"])
    write_transcripts(tmp_path / "direct.jsonl", [direct, SETTLED])
    read, _ = read_transcripts(tmp_path / "direct.jsonl")
    assert read == direct
    assert (read.turns, read.agents, read.n_rounds, read.consensus) == ((), (), 0, "\\boxed{2}")
    assert read.render() == "<|Consensus|>\n\\boxed{2}\n\n<|endofdebate|>"


def test_more_agents_than_personas_are_refused() -> None:
    with pytest.raises(UserError, match="too few; agent 3 speaks too"):
        parse(SETTLED.render(), "q", personas=["x", "y"])


def test_jsonl_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "debates.jsonl"
    odd = Transcript.build("§\u2028 ½", [["\u2028\x85é", "b\r\nc"]], None, extra={"note": [1, None]})
    write_transcripts(path, [SETTLED, OPEN, odd])
    read = read_transcripts(path)
    assert read == [SETTLED, OPEN, odd]
    assert [t.extra for t in read] == [{}, {"undecided": True}, {"note": [1, None]}]
    assert [t.personas for t in read] == [("x", "y", "z"), None, None]
    assert list(tmp_path.iterdir()) == [path]


def test_json_list_reads_like_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "debates.json"
    path.write_text(json.dumps([SETTLED.record(), OPEN.record()], indent=1), encoding="utf-8")
    assert read_transcripts(path) == [SETTLED, OPEN]


def test_a_numeric_gold_answer_becomes_text(tmp_path: Path) -> None:
    path = tmp_path / "debates.jsonl"
    path.write_text(json.dumps({**whole_record(SETTLED), "gold_answer": -1110}), encoding="utf-8")
    assert read_transcripts(path)[0].gold_answer == "-1110"


GOOD = json.dumps(whole_record(SETTLED))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{GOOD}\n\n{{oops\n{GOOD}\n", "line 3: not valid JSON"),
        (f"{GOOD}\n{GOOD[:-1]}", "line 2: not valid JSON"),
        (f"{GOOD}\n3\n", "line 2: not a JSON object"),
        (f'{GOOD}\n{{"question": "q"}}\n', "line 2: debate_trace is missing"),
        ('{"debate_trace": "x"}', "line 1: question is missing"),
        ('{"question": 3, "debate_trace": "x"}', "line 1: question is missing or not a string"),
        (f"{GOOD}\n" + '{"question": "q", "debate_trace": "x"}', "line 2: debate 'x': has no turn"),
        (f"[{GOOD},\n{{]", "line 2: not valid JSON"),
        (f"[{GOOD}, []]", "item 2: not a JSON object"),
        ("[]", "the file is empty"),
        ("", "the file is empty"),
        (" \n\n", "the file is empty"),
        (json.dumps({**whole_record(SETTLED), "personas": "abc"}), "line 1: personas is not a list"),
        (json.dumps({**whole_record(SETTLED), "personas": ["x"]}), "line 1: personas x: too few"),
        (GOOD.replace(": a", r": \ud83d"), "line 1: half of a surrogate pair"),
        (GOOD[:-1] + ', "question": "other"}', "line 1: cannot be read .the key 'question' stands twice"),
        (json.dumps({**whole_record(SETTLED), "gold_answer": ["1", "2"]}), "line 1: gold_answer is neither text nor"),
        (json.dumps({**whole_record(SETTLED), "undecided": True}), "line 1: undecided, and yet with a consensus"),
        (
            f"{json.dumps(SETTLED.record())}\n{json.dumps({**SETTLED.record(), 'gold_answer': 3})}",
            "'2' in line 1, '3' in line 2",
        ),
        (f"{GOOD}\n{GOOD.replace('Agent 2 Solution', 'Agent2 Solution')}", "line 2: '<.Agent2 Sol.*' in line 5 of"),
        (
            json.dumps({"question": "q", "debate_trace": agent_tag(2, 1) * 2}),
            "line 1: agent 2: speaks twice in round 1",
        ),
    ],
)
def test_a_file_that_cannot_be_read_says_where(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "debates.jsonl"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        read_transcripts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_binary_file_is_the_users(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_transcripts(tmp_path / "nowhere.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as UTF-8"):
        read_transcripts(tmp_path / "binary")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "debates.jsonl"
    write_transcripts(path, [SETTLED])
    before = path.read_bytes()

    def breaking() -> object:
        yield OPEN
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_transcripts(path, breaking())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_fingerprint_sees_text_order_and_personas() -> None:
    renamed = Transcript(SETTLED.question, SETTLED.sections, SETTLED.gold_answer, ("x", "z", "y"))
    prints = [fingerprint(ts) for ts in ([SETTLED, OPEN], [OPEN, SETTLED], [SETTLED], [renamed], [])]
    assert len(set(prints)) == 5
    assert fingerprint([parse(SETTLED.render(), "1+1*1", personas=["x", "y", "z"])]) == prints[2]


def test_before_tags_is_the_rest_of_a_turn() -> None:
    assert before_tags("so it is 4.\n\n<|Agent 2 Solution|>: no") == "so it is 4.\n\n"
    assert before_tags("no tag <|at all|>") == "no tag <|at all|>"


TWICE = Transcript.build("q", [["a", "b"], ["c", "d"]], "All agree.").render()
MISSPELT = {
    agent_tag(2, 2): r"""
<|Agent2 Revision|>, <|Agent 2 revision|>, <|Agent 2 Revised Solution|>, <|agent 2 Revision|>, < |Agent 2 Revision|>,
< | Agent 2 Revision | >, <|Agent 2 Revision>, <|Agent 2 Revision|, <|Agent 2 Revision, <Agent 2 Revision|>,
<|Revision|>, <Agent 2 Revision>, Agent 2 Revision|>, <｜Agent 2 Revision｜>, <||Agent 2 Revision||>,
<|Agent  2 Revision|>, <|Agent 2|>, <| Agent 2 Revision |>, <|Agent 02 Revision|>, <|Agent 0 Revision|>,
<|Agent 99999 Revision|>, <|Agent B Revision|>, <|Agent two Revision|>, <|Agnet 2 Revison|>,
<|Agent 2 Revison|>, <|Agent-2 Revision|>,
<|Agent_2_Revision|>, <|Agent #2 Revision|>, <|Agent 2's Revision|>, <|Agent 2 - Revision|>,
<\|Agent 2 Revision\|>, <|AGENT 2 REVISION|>,
&lt;|Agent 2 Revision|&gt;, <|Revision of Agent 2|>""",
    round_tag(
        2
    ): "<|Round2 - Revision|>, <|Round 2|>, <|Round 2 – Revision|>, <|Round 2: Revision|>, <|Round Two - Revision|>",
    CONSENSUS_TAG: "<|consensus|>, <|Final Consensus|>, < |Consensus|>, <Consensus|>, <|Consensus>",
    END_TAG: "<|end of debate|>, <|endofdebate>, <|end_of_debate|>, <|EndOfDebate|>, <endofdebate|>",
}
WRONG = [(right, wrong) for right, several in MISSPELT.items() for wrong in re.split(r",\s", several.strip())]


@pytest.mark.parametrize(("right", "wrong"), WRONG)
def test_a_tag_that_is_almost_right_is_refused_with_its_line_and_can_be_taken_out(right: str, wrong: str) -> None:
    line = TWICE.count("\n", 0, TWICE.index(right)) + 1
    with pytest.raises(UserError, match=rf"in line {line} of the debate: almost a tag; write it as") as caught:
        parse(TWICE.replace(right, wrong), "q")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="remove tags"):
        Transcript.build("q", [[f"so {wrong}", "b"]], None)
    assert len(Transcript.build("q", [[without_tags(f"so {wrong}: c"), "b"]], None).turns) == 2


@pytest.mark.parametrize(
    "text",
    [
        *(
            "a <| b",
            "a <| b |> c",
            'printfn "%d" <| round 2.7 |> ignore',
            "xs |> List.map f <| agent |> g",
            "<|im_end|>",
        ),
        *("<|im_start|>assistant", "<|start_header_id|>user<|end_header_id|>", "<|endoftext|>", "<|user|><|end|>"),
        *(
            "<|reserved_special_token_12|>",
            "<｜begin▁of▁sentence｜>",
            "<|channel|>final<|message|>",
            "<think>hm</think>",
        ),
        *("| Agent 2 Solution | 5 |", "Agent 2 Solution: 5", "agent 2's solution |x| < 3 > 2", "x < 3 || agent 2 > 1"),
        *("<Agent 2> says", "P(A|B) < P(B|A), so agent 2 is wrong |> hm", "<details> agent 2 solution </details>"),
    ],
)
def test_code_and_other_special_tokens_are_text(text: str) -> None:
    assert without_tags(text) == text
    built = Transcript.build("q", [[f"I quote {text}", "b"]], None)
    assert parse(built.render(), "q").turns[0].text == f"I quote {text}"


def test_what_models_write_becomes_a_turn_whatever_tags_it_has() -> None:
    for text in (
        str(MISSPELT),
        TWICE,
        "<|Cons" * 3500 + END_TAG + "ensus|>" * 3500,
        "<|Agent " + "1" * 5000 + " Solution|>",
    ):
        assert len(Transcript.build("q", [[without_tags(text), "b"]], None).turns) == 2


UNITS = ["\n", "\\", " ", "<", "<|", "|", "<|Agent 1", "<|agent 1 solution", "agent 1 ", "1", "{", "<|Cons", "&lt;"]


@pytest.mark.parametrize("unit", UNITS)
def test_a_hundred_kilobytes_of_anything_are_parsed_in_a_second(unit: str) -> None:
    body, started = unit * (100_000 // len(unit)), time.process_time()
    trace = f"{agent_tag(1, 1)}: a{body}b{agent_tag(2, 1)}{body}"
    if unit.endswith("solution"):
        with pytest.raises(UserError, match="almost a tag"):
            parse(trace, "q")
    else:
        assert "".join(piece.text for piece in parse(trace, "q").pieces()).endswith(trace)
    assert without_tags(body + END_TAG) == without_tags(body)
    assert before_tags(body) == body
    assert speaking(agent_tag(1, 1) + body) in (None, (1, 1))
    assert time.process_time() - started < 2

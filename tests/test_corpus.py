from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from conftest import make_tokenizer

from interp.activations.corpus import Corpus
from interp.debate.transcript import Transcript, parse
from interp.errors import UserError
from interp.models.tokens import tokenize_as

KINDS = ["bytes", "merging", "metaspace"]


def prefix(transcript: Transcript, n_turns: int) -> Transcript:
    """The transcript up to the end of its n-th turn's text."""
    text = transcript.turns[n_turns - 1].text
    sections = []
    seen = 0
    for tag, body in transcript.sections:
        seen += tag.startswith("<|Agent")
        sections.append((tag, body))
        if seen == n_turns:
            break
    tag, body = sections[-1]
    sections[-1] = (tag, body[: body.index(text) + len(text)])
    return Transcript(transcript.question, tuple(sections))


@pytest.mark.parametrize("kind", KINDS)
def test_in_pieces_ids_of_a_prefix_are_a_prefix_of_the_ids(kind: str, debates: list[Transcript]) -> None:
    tokenizer = copy.deepcopy(make_tokenizer(kind))
    tokenize_as(tokenizer, "pieces")
    for transcript in debates[:4]:
        whole = Corpus.build([transcript], tokenizer)
        for n in range(1, len(transcript.turns) + 1):
            part = Corpus.build([prefix(transcript, n)], tokenizer)
            stop = int(whole.turns.stop[n - 1])
            assert part.ids[0] == whole.ids[0][:stop]


def test_a_turn_ends_with_the_token_that_holds_its_last_character(debates: list[Transcript]) -> None:
    tokenizer = make_tokenizer("merging")  # which merges that character with the line breaks after it
    transcript = debates[0]
    end = len(transcript.prompt) + transcript.render().index("\n\n<|Agent 2")
    offsets = tokenizer(transcript.prompt + transcript.render(), return_offsets_mapping=True)["offset_mapping"]
    last = next(i for i, (a, b) in enumerate(offsets) if a < end <= b)
    assert offsets[last][1] > end
    assert Corpus.build([transcript], tokenizer).turns.stop[0] == last + 1


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_spell_the_transcript(kind: str, debates: list[Transcript], published: list[Transcript]) -> None:
    tokenizer = make_tokenizer(kind)
    for transcript in [*debates[:4], *published]:
        corpus = Corpus.build([transcript], tokenizer)
        text = tokenizer.decode(corpus.ids[0]).removeprefix("<s>").lstrip(" ")
        assert text == transcript.prompt + transcript.render()
        for i, turn in enumerate(transcript.turns):
            span = corpus.ids[0][corpus.turns.start[i] : corpus.turns.stop[i]]
            spelled = tokenizer.decode(span).strip()
            assert spelled == turn.text or (kind == "metaspace" and turn.text in spelled)  # it merges "3 Revision|>: I"
            before = tokenizer.decode(corpus.ids[0][: corpus.turns.tag[i]])
            assert before.endswith("|>:") or (kind == "metaspace" and "|>:" in before[-12:])


def test_opening_token_is_kept_once() -> None:
    transcript = Transcript.build("1+1", [["\\boxed{2}", "\\boxed{2}"]], "It is \\boxed{2}")
    with_opening, without = (Corpus.build([transcript], make_tokenizer(kind)) for kind in ("merging", "bytes"))
    assert with_opening.ids[0].count(0) == 1
    assert with_opening.ids[0][0] == 0
    assert 0 not in without.ids[0]


def test_published_debates_give_fifteen_turns(published: list[Transcript]) -> None:
    corpus = Corpus.build(published, make_tokenizer("merging"))
    assert np.bincount(corpus.turns.transcript).tolist() == [6, 3, 6]
    assert corpus.turns.agent.tolist() == [1, 2, 3] * 5
    assert corpus.turns.round.tolist() == [1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 2, 2, 2]


def test_same_question_shares_an_index(debates: list[Transcript]) -> None:
    corpus = Corpus.build([debates[0], debates[1], debates[0]], make_tokenizer("bytes"))
    assert len(corpus.questions) == 2
    assert set(corpus.turns.question[corpus.turns.transcript == 2]) == {0}


def test_too_long_is_refused_or_left_out_by_name(debates: list[Transcript]) -> None:
    tokenizer = make_tokenizer("bytes")
    lengths = [len(ids) for ids in Corpus.build(debates, tokenizer).ids]
    limit = sorted(lengths)[len(lengths) // 2]
    with pytest.raises(UserError, match=rf"transcript \d+ .* more than the {limit:,} .*--skip-long"):
        Corpus.build(debates, tokenizer, limit)
    corpus = Corpus.build(debates, tokenizer, limit, skip_long=True)
    assert {skip.transcript for skip in corpus.skipped} == {i + 1 for i, n in enumerate(lengths) if n > limit}
    assert corpus.usable == tuple(i for i, n in enumerate(lengths) if n <= limit)
    with pytest.raises(UserError, match="none of the 12 transcripts"):
        Corpus.build(debates, tokenizer, 5, skip_long=True)


def test_direct_answers_are_left_out_and_named(debates: list[Transcript]) -> None:
    tokenizer, direct = make_tokenizer("bytes"), Transcript.build("1+1", [], r"\boxed{2}")
    alone, beside = Corpus.build(debates[:1], tokenizer), Corpus.build([direct, *debates[:1]], tokenizer)
    assert [(skip.transcript, skip.reason) for skip in beside.skipped] == [(1, "a direct answer, without turns")]
    assert (beside.usable, list(beside.ids)) == ((1,), [(), *alone.ids])
    assert np.array_equal(beside.turns.start, alone.turns.start)
    with pytest.raises(UserError, match="none of the 1 transcripts can be used: a direct answer"):
        Corpus.build([direct], tokenizer)


def test_a_turn_without_text_has_no_tokens() -> None:
    trace = "<|Round 1 - Initial Solutions|>\n\n<|Agent 1 Solution|>: \n\n<|Agent 2 Solution|>: \\boxed{2}\n\n"
    corpus = Corpus.build([parse(trace, "1+1")], make_tokenizer("bytes"))
    sizes: Any = corpus.turns.stop - corpus.turns.start
    assert sizes[0] == 0
    assert sizes[1] > 0

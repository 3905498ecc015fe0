from __future__ import annotations

import pytest
import token_kinds
import torch
from conftest import make_hf, make_tokenizer

from interp.activations.corpus import Corpus
from interp.debate.embedded import read_embedded
from interp.debate.transcript import CONSENSUS_TAG, Transcript, all_tags
from interp.errors import UserError
from interp.models.tokens import Encoder
from interp.training.sft import add_tags, behind_tag, consensus_only, in_batches, make_examples, whole

KINDS = ("bytes", "merging", "metaspace")


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_completion_is_learnt_and_all_of_it(kind: str) -> None:
    tokenizer, _ = add_tags(make_hf("llama"), make_tokenizer(kind), 3, 2, seed=0)
    transcripts = read_embedded("scripted")[:5]
    examples = make_examples(transcripts, tokenizer, max_length=10_000).kept
    corpus = Corpus.build(transcripts, tokenizer)
    for transcript, example, ids in zip(transcripts, examples, corpus.ids, strict=True):
        assert tuple(example.input_ids) == (*ids, tokenizer.eos_token_id)  # read as interp reads them
        n = example.completion_mask.index(1)
        assert example.completion_mask == [0] * n + [1] * (len(ids) + 1 - n)
        learnt = tokenizer.decode(example.input_ids[n:-1])
        # SentencePiece opens every stretch of text with a space, after a tag too
        assert (learnt.replace("|> ", "|>") if kind == "metaspace" else learnt) == transcript.render()
        own = tokenizer(transcript.prompt + transcript.render())["input_ids"]
        assert example.input_ids == [*own, tokenizer.eos_token_id]
        prompt = tokenizer.decode(example.input_ids[:n])
        assert prompt.removeprefix("<s>").lstrip() == transcript.prompt
        tags = [tag for tag, _ in transcript.sections]
        assert [t for t in tokenizer.convert_ids_to_tokens(ids) if t in tags] == tags  # each tag is one token


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_are_what_trl_would_read(kind: str) -> None:
    """Sampling with TRL itself or with vLLM starts from the same tokens as interp's own sampling."""
    tokenizer, _ = add_tags(make_hf("llama"), make_tokenizer(kind), 3, 2, seed=0)
    for transcript in read_embedded("scripted")[:5]:
        assert tokenizer(transcript.prompt)["input_ids"] == Encoder(tokenizer).prompt(transcript.prompt)


@pytest.mark.parametrize("kind", KINDS)
def test_the_consensus_alone(kind: str) -> None:
    tokenizer, _ = add_tags(make_hf("llama"), make_tokenizer(kind), 3, 2, seed=0)
    encode = Encoder(tokenizer)
    transcript = read_embedded("scripted")[0]
    example = consensus_only(encode, transcript, 1)
    learnt = [i for i, m in zip(example.input_ids[:-1], example.completion_mask, strict=False) if m]
    assert tokenizer.decode(learnt) == transcript.consensus


@pytest.mark.parametrize("kind", token_kinds.KINDS)
def test_new_training_learns_the_tokenizers_own_ids(kind: str) -> None:
    before = token_kinds.make(kind)
    tokenizer, _ = add_tags(make_hf("llama", vocabulary=len(before)), before, 3, 2, seed=0)
    for t in read_embedded("scripted")[:5]:
        entire, alone = (form(Encoder(tokenizer), t, 2) for form in (whole, consensus_only))
        prompt = tokenizer(t.prompt)["input_ids"]
        assert entire.input_ids == [*tokenizer(t.prompt + t.render())["input_ids"], 2]
        for example in (entire, alone):  # begins as the model will be asked
            assert example.completion_mask.index(1) == len(prompt)
            assert example.input_ids[: len(prompt)] == prompt
        if kind != "smollm2":  # GPT-2's pattern takes line breaks otherwise at the end of a text
            assert alone.input_ids == [*tokenizer(t.prompt + str(t.consensus))["input_ids"], 2]


def test_behind_a_tag_all_is_learnt_but_the_tag() -> None:
    tokenizer, _ = add_tags(make_hf("llama"), make_tokenizer("bytes"), 3, 2, seed=0)
    direct = Transcript.build("1+1", [], r"\boxed{2}")
    example, entire = (form(Encoder(tokenizer), direct, 1) for form in (behind_tag, whole))
    assert example.input_ids == entire.input_ids
    given = sum(map(bool, entire.completion_mask)) - sum(map(bool, example.completion_mask))
    assert given == 1
    learnt = [i for i, m in zip(example.input_ids[:-1], example.completion_mask, strict=False) if m]
    assert CONSENSUS_TAG + tokenizer.decode(learnt) == "<|Consensus|>\n\\boxed{2}\n\n<|endofdebate|>"


def test_what_cannot_be_learnt_is_counted() -> None:
    tokenizer = make_tokenizer("bytes")
    decided = read_embedded("scripted")[:4]
    undecided = Transcript.build("1+1", [["a", "b"]], None)
    longest = max(len(whole(Encoder(tokenizer), t, 1).input_ids) for t in decided)
    found = make_examples([*decided, undecided], tokenizer, max_length=longest - 1)
    assert (len(found.kept), found.undecided, found.too_long) == (3, 1, 1)
    with pytest.raises(UserError, match="none of the 1 transcripts can be learnt: 1 have no consensus"):
        make_examples([undecided], tokenizer, max_length=100)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("agents", "rounds"), [(3, 2), (5, 4)])
def test_new_tags_start_from_their_words(tied: bool, agents: int, rounds: int) -> None:
    before = make_tokenizer("bytes")
    n_before = len(before)
    hf = make_hf("llama", vocabulary=n_before, tie_word_embeddings=tied)
    old = [m.weight.detach().clone() for m in (hf.get_input_embeddings(), hf.get_output_embeddings())]
    tokenizer, rows = add_tags(hf, before, agents, rounds, seed=0)
    tags = all_tags(agents, rounds)
    assert len(before) == n_before
    assert set(rows) == ({"embed_tokens"} if tied else {"embed_tokens", "lm_head"})
    ids = rows["embed_tokens"]
    assert ids == list(range(n_before, n_before + len(tags))) == [tokenizer.convert_tokens_to_ids(t) for t in tags]
    for module, earlier in zip((hf.get_input_embeddings(), hf.get_output_embeddings()), old, strict=True):
        assert torch.equal(module.weight[:n_before], earlier)
        for tag, i in zip(tags[:2], ids[:2], strict=True):
            words = before(" " + tag.strip("<|>"), add_special_tokens=False)["input_ids"]
            off = module.weight[i] - earlier[words].mean(0)
            assert 0 < off.std() < 0.2 * earlier.std()
        assert len(torch.unique(module.weight[ids], dim=0)) == len(tags)


def test_tags_that_the_tokenizer_has_keep_their_rows() -> None:
    hf = make_hf("llama")
    tokenizer, rows = add_tags(hf, make_tokenizer("bytes"), 3, 2, seed=0)
    weight = hf.get_input_embeddings().weight.detach().clone()
    again, more = add_tags(hf, tokenizer, 3, 3, seed=1)
    known = rows["embed_tokens"]
    assert set(known) < set(more["embed_tokens"])
    assert torch.equal(hf.get_input_embeddings().weight[known], weight[known])
    assert len(again) == len(tokenizer) + 1  # the round tag of round 3


def test_batches_are_of_one_kind_and_every_epoch_reads_everything_once() -> None:
    ordered = in_batches([21, 10], 4, 2.0, seed=0)
    assert ordered == in_batches([21, 10], 4, 2.0, seed=0) != in_batches([21, 10], 4, 2.0, seed=1)
    first, second = ordered[:31], ordered[31:]
    assert sorted(first) == sorted(second) == list(range(31))
    assert first != second
    batches = [{i // 21 for i in first[k : k + 4]} for k in range(0, 28, 4)]
    assert sorted(map(sorted, batches)) == [[0]] * 5 + [[1]] * 2
    assert batches != sorted(batches, key=sorted)  # the kinds alternate
    assert in_batches([21, 10], 4, 0.5, seed=0) == ordered[:16]

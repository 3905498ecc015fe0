"""What a model reads is what its tokenizer makes of the whole text, and turns are where their characters are."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import token_kinds
import torch
from conftest import make_hf, make_tokenizer
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from interp.activations.corpus import Corpus
from interp.activations.reading import read_tokens, stream
from interp.debate.embedded import read_embedded
from interp.debate.transcript import Transcript, parse
from interp.directions.extract import extract_directions
from interp.errors import UserError
from interp.evaluation.texts import Rouge
from interp.generation.sampling import generate
from interp.interventions.settings import SweepSettings
from interp.interventions.sweeps import sweep
from interp.models.lineage import read_lineage
from interp.models.loading import export_merged, load_plain
from interp.models.model import load_model, wrap
from interp.models.tokens import Encoder, tokenize_as, tokenized_as
from interp.reports.intervention_tables import count_lines
from interp.training.loop import start_from
from interp.training.settings import preset

MAKERS = [pytest.param(token_kinds.make, kind, id=kind) for kind in token_kinds.KINDS]
MAKERS += [pytest.param(token_kinds.real, kind, id=f"real {kind}") for kind in token_kinds.REAL]
Make = Callable[[str], PreTrainedTokenizerFast]
SCRIPTED = read_embedded("scripted")[:6] + read_embedded("organism")[:2]


def text_of(transcript: Transcript) -> str:
    return transcript.prompt + transcript.render()


def check(tokenizer: Any, transcript: Transcript) -> None:
    """Ids are the tokenizer's own; places are where the characters are, found here by search."""
    text, encoded = text_of(transcript), Encoder(tokenizer).transcript(transcript)
    made = tokenizer(text, return_offsets_mapping=True)
    assert encoded.ids == made["input_ids"]
    assert (encoded.foreign, encoded.change) == (0, "")
    offsets = made["offset_mapping"]
    tags = [(m.start(), m.end()) for m in re.finditer(r"<\|Agent [1-9] \w+\|>:", text)]
    ends = [m.start() for m in re.finditer(r"\s*(<\|(Agent|Round|Consensus|endofdebate)|\Z)", text)]
    for (_, colon), (tag, start, stop), turn in zip(tags, encoded.places, transcript.turns, strict=True):
        end = min(e for e in ends if e > colon)
        first = colon + re.match(r"\s*", text[colon:]).end()  # type: ignore[union-attr]
        assert text[first:end] == turn.text
        assert offsets[tag - 1][0] < colon <= offsets[tag - 1][1]
        assert offsets[start][0] <= first < offsets[start][1]
        assert offsets[stop - 1][0] < end <= offsets[stop - 1][1]
        assert tag <= start < stop
    n = encoded.n_prompt
    assert offsets[n - 1][1] == len(transcript.prompt) == offsets[n][0]


@pytest.mark.parametrize(("make", "kind"), MAKERS)
def test_ids_are_the_tokenizers_own_and_turns_are_where_they_are(make: Make, kind: str) -> None:
    tokenizer = make(kind)
    for transcript in SCRIPTED:
        check(tokenizer, transcript)
    found = Corpus.build(SCRIPTED, tokenizer).tokenization
    assert (found.tokenized, found.foreign, found.merged, found.changed) == ("text", 0, 0, 0)


@pytest.mark.parametrize(("make", "kind"), MAKERS)
def test_published_debates_too(make: Make, kind: str, published: list[Transcript]) -> None:
    for transcript in published:
        check(make(kind), transcript)


@pytest.mark.parametrize(("make", "kind"), MAKERS)
def test_a_turn_is_continued_from_the_natural_text_up_to_the_colon(make: Make, kind: str) -> None:
    tokenizer = make(kind)
    for transcript in SCRIPTED[:3]:
        text = text_of(transcript)
        for i, tag in enumerate(re.finditer(r"<\|Agent [1-9] \w+\|>:", text)):
            assert Encoder(tokenizer).up_to_tag(transcript, i) == tokenizer(text[: tag.end()])["input_ids"]


def test_line_breaks_that_merge_with_the_colon_are_kept_and_words_are_not() -> None:
    trace = "<|Round 1 - Initial Solutions|>\n\n<|Agent 1 Solution|>:\n\nFirst\n\n<|Agent 2 Solution|>:$2$\n\n"
    trace += "<|Agent 3 Solution|>$2$\n\n"
    transcript = parse(trace, "1+1")
    for kind in ("llama-3", "qwen-2.5"):
        tokenizer = token_kinds.real(kind)
        first, second, third = (tokenizer.decode(Encoder(tokenizer).up_to_tag(transcript, i)) for i in range(3))
        assert first.endswith("<|Agent 1 Solution|>:\n\n")  # one token in every text of this form
        assert second.endswith("<|Agent 2 Solution|>:")  # `:$` is one token of the text, but the `$` is the turn's
        assert third.endswith("<|Agent 3 Solution|>")
        assert tokenizer.decode(Encoder(tokenizer).transcript(transcript).ids).removeprefix("<s>") == text_of(
            transcript
        )


BITS = ["To", "$", "2", r"\boxed{3}", ".", "é", "e\u0301", "😀", "👨‍👩‍👧", "ﬁ", "\u200b", "\t", "  ", "\n\n"]
BITS += ["\n", "</s>", "<s>", "½", "：", "x<|y", "漢字", "\u00a0", "a"]


def anyhow(rng: random.Random) -> Transcript:
    """A debate of texts that no one would write."""
    trace = rng.choice(["", "<|Round 1 - Initial Solutions|>"])
    for agent in (1, 2, 3):
        text = "".join(rng.choices(BITS, k=rng.randint(0, 6)))
        opened = f"<|Agent {agent} Solution|>" + rng.choice([":", ": ", ":\n\n", "", " ", ":  "])
        trace += opened + text + rng.choice(["", "\n\n", " "])
    return parse(trace + rng.choice(["", "<|Consensus|>\nyes\n\n", "<|endofdebate|>"]), "1+1")


@pytest.mark.parametrize(
    ("make", "kind"),
    [(token_kinds.make, kind) for kind in token_kinds.KINDS] + [(token_kinds.other, k) for k in token_kinds.OTHERS],
)
def test_a_turns_tokens_are_those_that_hold_its_characters(make: Make, kind: str) -> None:
    tokenizer, rng = make(kind), random.Random(0)
    for _ in range(60):
        transcript = anyhow(rng)
        text, encoded = text_of(transcript), Encoder(tokenizer).transcript(transcript)
        made = tokenizer(text, return_offsets_mapping=True)
        closing = kind in token_kinds.OTHERS  # with one token
        assert encoded.ids == made["input_ids"][: len(made["input_ids"]) - closing]
        at = 0
        for piece in transcript.pieces():
            begin, at = at + len(piece.text) - len(piece.text.lstrip(" ")), at + len(piece.text)
            if piece.part != "text":
                continue
            holding = [i for i, (a, b) in enumerate(made["offset_mapping"]) if a < at and b > begin and a < b]
            _, start, stop = encoded.places[piece.turn or 0]
            assert (start, stop) == (holding[0], holding[-1] + 1) if holding else start == stop


@pytest.mark.parametrize("kind", ["qwen-2.5", "llama-3", "mistral-7b"])
def test_reading_a_turn_is_reading_the_same_ids_up_to_there(kind: str) -> None:
    model = wrap(make_hf("llama", vocabulary=1600), token_kinds.make(kind))
    corpus = Corpus.build(SCRIPTED[:1], model.tokenizer)
    [whole] = stream(model, corpus, positions=("last", "tag"), layers=[1])
    for position, column in enumerate((corpus.turns.stop, corpus.turns.tag)):
        prompts = [corpus.ids[0][:end] for end in column]
        ends = [(p, (len(p) - 1,)) for p in prompts]
        alone = np.concatenate([read_tokens(model, [model.hook_name("resid_post", 1)], [end])[0] for end in ends])
        np.testing.assert_allclose(whole.values[:, position], alone, rtol=1e-4, atol=1e-5)


def merging(*strings: str, around: str = "$A") -> PreTrainedTokenizerFast:
    """Byte pairs that grow into these strings, whatever they join."""
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    t.decoder = decoders.ByteLevel()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=letters, show_progress=False
    )
    t.train_from_iterator([s for s in strings for _ in range(20)], trainer)
    if around != "$A":
        t.post_processor = processors.TemplateProcessing(single=around, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>")


def test_a_token_of_two_turns_is_counted() -> None:
    trace = "<|Round 1 - Initial Solutions|><|Agent 1 Solution|>: aZ<|Agent 2 Solution|>: bZ<|Agent 3 Solution|>: c"
    corpus = Corpus.build([parse(trace, "1+1")], merging("Z<|"))
    assert corpus.tokenization.merged == 2
    assert any(
        "turns that end in a token with the beginning of what follows: 2" in x for x in corpus.tokenization.lines
    )
    spaced = parse(trace.replace("Z<", "Z\n\n<"), "1+1")
    assert Corpus.build([spaced], merging("Z\n\n")).tokenization.merged == 0  # white space is nobody's


def dropping(normalizer: Any) -> PreTrainedTokenizerFast:
    """As SentencePiece models whose normalization rules change white space or letters."""
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer, t.pre_tokenizer, t.decoder = normalizer, pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<unk>", "<s>", "</s>"], show_progress=False)
    t.train_from_iterator([text_of(d) for d in SCRIPTED], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text.lower())


@pytest.mark.parametrize(
    "normalizer",
    [
        normalizers.Sequence([normalizers.Replace("\n", " "), normalizers.Strip()]),
        normalizers.Sequence([normalizers.Replace("\n", ""), normalizers.Lowercase()]),
        normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(token_kinds.Regex(r"\s+"), " ")]),
    ],
    ids=["newlines to spaces", "newlines dropped, lower case", "white space squeezed"],
)
def test_a_tokenizer_that_changes_the_text_is_noticed_and_turns_are_found(normalizer: Any) -> None:
    tokenizer = dropping(normalizer)
    corpus = Corpus.build(SCRIPTED[:2], tokenizer)
    assert corpus.tokenization.changed == 2
    assert "becomes" in corpus.tokenization.lines[-1]
    turns, longer = [turn for d in SCRIPTED[:2] for turn in d.turns], 0
    places = zip(turns, corpus.turns.transcript, corpus.turns.start, corpus.turns.stop, strict=True)
    for turn, t, start, stop in places:
        spelled = squeezed(tokenizer.decode(corpus.ids[t][start:stop]))
        assert spelled.startswith(squeezed(turn.text))
        longer += spelled != squeezed(turn.text)
    assert corpus.tokenization.merged == longer  # without line breaks words of two turns may be one token
    assert Encoder(tokenizer).prompt("Problem: 1+2\n\n") == tokenizer("Problem: 1+2\n\n")["input_ids"]


@pytest.mark.parametrize("around", ["<s> $A", "$A </s>", "<s> $A </s>"])
def test_tokens_around_a_text_open_it_once_and_never_close_it(around: str) -> None:
    tokenizer, transcript = merging("Agent", around=around), SCRIPTED[0]
    opens = [0] if around.startswith("<s>") else []
    encoded = Encoder(tokenizer).transcript(transcript)
    assert encoded.ids == opens + tokenizer(text_of(transcript), add_special_tokens=False)["input_ids"]
    assert Encoder(tokenizer).prompt("ab</s>") == [*opens, *tokenizer("ab", add_special_tokens=False)["input_ids"], 1]
    assert encoded.change == ""


def test_without_offsets_turns_are_found_by_decoding() -> None:
    transcript = Transcript.build("1+1", [["Ça fait 2 €.", "2 😀"]], "It is 2.")
    encoded = Encoder(ByT5Tokenizer()).transcript(transcript)
    text = text_of(transcript)
    assert encoded.ids == ByT5Tokenizer()(text)["input_ids"][:-1]  # it closes every text
    for turn, (tag, start, stop) in zip(transcript.turns, encoded.places, strict=True):
        at = text.index(turn.text)
        assert stop == len(text[: at + len(turn.text)].encode())
        assert start <= len(text[: at + 1].encode())
        assert tag == len(text[: at - 1].encode())


def test_without_offsets_a_changed_text_is_refused() -> None:
    class Shouting(ByT5Tokenizer):  # type: ignore[misc]
        def _tokenize(self, text: str, **how: Any) -> Any:
            return super()._tokenize(text.upper(), **how)

    with pytest.raises(
        UserError, match=r"^tokenizer Shouting: gives no offsets and changes the text .*'roblem.*'ROBLEM"
    ):
        Encoder(Shouting()).transcript(SCRIPTED[0])


def test_a_checkpoint_is_read_as_it_was_trained(tmp_path: Path) -> None:
    for name in ("organism", "organism-sft", "organism-imad", "organism-debategpt"):  # all older than whole texts
        assert tokenized_as(load_plain(name).tokenizer) == "pieces"
    for name in ("organism-sft", "organism-imad"):
        lineage = read_lineage(name)
        assert lineage is not None
        assert lineage.tokenized == "pieces"
        new = replace(lineage, stages=tuple(replace(s, facts=s.facts | {"tokenized": "text"}) for s in lineage.stages))
        assert new.tokenized == "text"
    export_merged("organism-sft", tmp_path / "merged")  # what is exported has no lineage
    assert tokenized_as(load_plain(str(tmp_path / "merged")).tokenizer) == "pieces"


def test_training_starts_from_a_model_as_it_is_read() -> None:
    for model in ("organism", "organism-sft", "organism-imad"):
        assert tokenized_as(start_from(model, preset("organism")).tokenizer) == "pieces"


def test_the_shipped_models_read_as_before() -> None:
    """Piece by piece and whole are the same ids for the organism; a tag ends before its colon."""
    tokenizer = load_plain("organism-sft").tokenizer
    for transcript in SCRIPTED:
        encoded = Encoder(tokenizer).transcript(transcript)
        assert (encoded.ids, encoded.foreign) == (tokenizer(text_of(transcript))["input_ids"], 0)
        for tag, _, _ in encoded.places:
            assert tokenizer.decode(encoded.ids[tag - 1]).startswith("<|Agent")
            assert tokenizer.decode(encoded.ids[tag]).startswith(":")


def test_the_old_way_says_how_many_tokens_differ(tmp_path: Path) -> None:
    tokenizer = copy.deepcopy(token_kinds.make("qwen-2.5"))
    tokenize_as(tokenizer, "pieces")
    found = Corpus.build(SCRIPTED, tokenizer)
    assert found.tokenization.tokenized == "pieces"
    assert found.tokenization.foreign > 100
    assert "because the checkpoint was trained on transcripts cut into pieces" in found.tokenization.lines[0]
    tokenizer.save_pretrained(tmp_path)
    assert tokenized_as(PreTrainedTokenizerFast.from_pretrained(tmp_path)) == "pieces"
    model = wrap(make_hf("llama", vocabulary=1600, n_layers=2), tokenizer)
    facts = extract_directions(model, SCRIPTED, layers=[1]).directions.facts
    assert facts["tokenization"]["foreign"] == found.tokenization.foreign


# a small model that has learnt a natural text


@pytest.fixture(scope="module")
def learnt() -> tuple[Any, Transcript]:
    """A model that knows one debate by heart, from training on the tokenizer's own ids of the text."""
    rounds = [["To start, 3*4 is 12.", "Twelve apples and $7$ pears", "// 12+7\nprint(19)"]]
    transcript = Transcript.build("12+7", rounds, "All agree on \\boxed{19}.")
    tokenizer = token_kinds.make("qwen-2.5")
    hf = make_hf("llama", vocabulary=len(tokenizer), n_layers=2, hidden_size=64, intermediate_size=128)
    ids = torch.tensor([tokenizer(text_of(transcript))["input_ids"]])
    optimizer = torch.optim.AdamW(hf.parameters(), lr=3e-3)
    for _ in range(80):
        loss = hf(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.1
    return wrap(hf, tokenizer, {"name": "learnt"}), transcript


def natural(hf: LlamaForCausalLM, tokenizer: Any, text: str, n: int) -> list[int]:
    """What transformers makes of the text."""
    ids = tokenizer(text, return_tensors="pt")
    out = hf.generate(**ids, max_new_tokens=n, do_sample=False, pad_token_id=tokenizer.pad_token_id)
    return list(out[0, ids["input_ids"].shape[1] :].tolist())


def turns_written(model: Any, transcript: Transcript, out: Path, **settings: Any) -> Any:
    others = [t for t in SCRIPTED[:6] if t.question != transcript.question]
    directions = extract_directions(model, others, layers=[1]).directions
    how = SweepSettings(layers=(1,), coefficients=(0.1,), contexts=("turn",), random_controls=0, **settings)
    return sweep(out, [model], {"d": directions}, [transcript], how)


def test_a_trained_model_continues_after_each_tag(learnt: tuple[Any, Transcript], tmp_path: Path) -> None:
    model, transcript = learnt
    swept = turns_written(model, transcript, tmp_path / "s.jsonl")
    text, rouge = text_of(transcript), Rouge()
    unsteered = {r["before"]: r for r in swept.records if r["directions"] is None}
    assert list(unsteered) == ["agent 1", "agent 2", "agent 3"]
    for turn, record in zip(transcript.turns, unsteered.values(), strict=True):
        before = text[: text.index(f"<|Agent {turn.agent} Solution|>:") + len("<|Agent 1 Solution|>:")]
        assert record["text"] == model.tokenizer.decode(natural(model.hf, model.tokenizer, before, record["tokens"]))
        assert rouge(turn.text, record["text"].split("<|")[0])["rougeL"] > 0.95
    assert swept.counts["unsteered_at_0"] == []


@pytest.mark.parametrize("kind", token_kinds.KINDS)
def test_any_kind_continues_as_transformers_does(kind: str, tmp_path: Path) -> None:
    tokenizer, transcript = token_kinds.make(kind), SCRIPTED[0]
    hf = make_hf("llama", vocabulary=len(tokenizer), n_layers=2)
    with torch.no_grad():
        for parameter in hf.parameters():
            if parameter.dim() == 2:
                parameter.mul_(8)  # so that texts differ
    model = wrap(hf, tokenizer, {"name": kind})
    text = text_of(transcript)
    tags = [m.end() for m in re.finditer(r"<\|Agent [1-9] Solution\|>:", text)]
    own = [natural(model.hf, tokenizer, text[:end], 8) for end in tags]
    assert [generate(model, text[:end], max_new_tokens=8).ids for end in tags] == own
    prompts = [Encoder(tokenizer).up_to_tag(transcript, i) for i in range(3)]
    assert [out.ids for out in generate(model, prompts, max_new_tokens=8)] == own


def test_a_score_of_0_everywhere_is_said(tmp_path: Path) -> None:
    model = wrap(make_hf("llama", vocabulary=1600, n_layers=2), token_kinds.make("qwen-2.5"), {"name": "blank"})
    with torch.no_grad():
        model.hf.lm_head.weight.zero_()  # it writes the token 0 for ever
    swept = turns_written(model, SCRIPTED[7], tmp_path / "s.jsonl")
    assert swept.counts["unsteered_at_0"] == ["blank"]
    assert any("blank: the unsteered score is 0 for every agent" in line for line in count_lines(swept.counts))
    assert json.loads((tmp_path / "s.json").read_text())["unsteered_at_0"] == ["blank"]


def test_a_loaded_model_takes_a_prompt_as_its_tokenizer_does() -> None:
    model = load_model("organism")
    text = "Problem: 1+2*3+4-5*6\n\n"
    assert (
        generate(model, text, max_new_tokens=3).ids
        == generate(model, [model.tokenizer(text)["input_ids"]], max_new_tokens=3)[0].ids
    )
    assert make_tokenizer("merging")(text)["input_ids"] == Encoder(make_tokenizer("merging")).prompt(text)

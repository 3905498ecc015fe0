"""The organism's tokenizer: one token where one is meant, every text read back, chats in its own language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from interp.debate import protocol
from interp.debate.agents import Request, chat_messages
from interp.debate.personas import PERSONAS, TRAIT_PERSONAS, Persona
from interp.debate.transcript import Transcript, all_tags
from interp.models.tokens import prompt_tokens
from interp.organism.language import LARGEST, SMALLEST, make_tokenizer, persona_token, specials

TOKENIZER = make_tokenizer()
QUESTION = "3+4*5+2-6*7"


def tokens(text: str) -> list[str]:
    return list(TOKENIZER.tokenize(text))


def test_an_integer_is_one_token_and_a_minus_between_numbers_another() -> None:
    for n in range(SMALLEST, LARGEST + 1):
        assert tokens(f"={n}") == ["=", str(n)]
    assert tokens("2-6*7=-40") == ["2", "-", "6", "*", "7", "=", "-40"]
    assert tokens(r"25-42=-17 \boxed{-17}")[-3:] == ["\\boxed{", "-17", "}"]
    assert tokens("x-7 20--5 (-3)") == ["x", "-", "7", " ", "20", "-", "-5", " ", "(", "-3", ")"]
    assert tokens("=1110-100") == ["=", "1", "1", "1", "0", "-", "100"]


@settings(deadline=None, max_examples=60)
@given(st.one_of(st.text(), st.text(alphabet="0123456789+-*=(){}\\ \n.:,;/xyAgent1)boxed")))
def test_every_text_is_read_back(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text


def test_a_saved_tokenizer_is_an_ordinary_one(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    loaded: Any = AutoTokenizer.from_pretrained(tmp_path)
    text = f"{persona_token('self-critique')}Problem: {QUESTION}\n\n3+20+2-42=25-42=-17 naïve"
    assert loaded(text)["input_ids"] == TOKENIZER(text)["input_ids"]
    assert loaded.decode(loaded(text)["input_ids"]) == "<s>" + text
    assert loaded.chat_template == TOKENIZER.chat_template
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)


def chat(persona: Persona, request: Request) -> str:
    return str(TOKENIZER.decode(prompt_tokens(TOKENIZER, chat_messages(persona, request))))


def test_a_chat_becomes_a_short_prompt() -> None:
    for persona in PERSONAS.values():
        assert chat(persona, Request(QUESTION, 1)) == f"<s>{persona_token(persona.name)}Problem: {QUESTION}\n\n"
        assert len(prompt_tokens(TOKENIZER, chat_messages(persona, Request(QUESTION, 1)))) == 15
    others = ((1, "4*5=20\n\\boxed{-17}"), (3, ""))
    assert chat(PERSONAS["self-critique"], Request(QUESTION, 2, 2, "Mine.", others)) == (
        f"<s><|self-critique|>Problem: {QUESTION}\n\nMine.\n\nAgent 1:\n4*5=20\n\\boxed{{-17}}"
        "\n\nAgent 3 gave no answer<|revise|>"
    )
    assert chat(PERSONAS["self-critique"], Request(QUESTION, 2, 2, "", others[:1])) == (
        f"<s><|self-critique|>Problem: {QUESTION}\n\n\n\nAgent 1:\n4*5=20\n\\boxed{{-17}}<|revise|>"
    )
    paragraphs = ((1, "one\n\ntwo\n\nthree"), (3, "four"))
    assert chat(Persona("plain", ""), Request(QUESTION, 2, 2, "Mine.", paragraphs)) == (
        f"<s>Problem: {QUESTION}\n\nMine.\n\nAgent 1:\none\n\ntwo\n\nthree\n\nAgent 3:\nfour<|revise|>"
    )


def test_a_plain_chat_is_the_prompt_of_a_transcript() -> None:
    transcript = Transcript.build(QUESTION, [["x"]], None)
    messages = chat_messages(Persona("plain", ""), Request(QUESTION, 1))
    assert prompt_tokens(TOKENIZER, messages) == TOKENIZER(transcript.prompt)["input_ids"]
    taught = TOKENIZER.apply_chat_template([*messages, {"role": "assistant", "content": "3"}], tokenize=False)
    assert taught == f"<s>Problem: {QUESTION}\n\n3</s>"


def test_other_messages_pass_through() -> None:
    messages = [{"role": "user", "content": "Is this\n\nright?"}]
    assert TOKENIZER.decode(prompt_tokens(TOKENIZER, messages)) == "<s>Is this\n\nright?"


def test_each_persona_has_a_marker_of_its_own() -> None:
    messages = {
        p.name: [{"role": "system", "content": p.system_prompt}] for p in (*PERSONAS.values(), *TRAIT_PERSONAS.values())
    }
    shown = {name: TOKENIZER.decode(prompt_tokens(TOKENIZER, m)) for name, m in messages.items()}
    for name, text in shown.items():
        marked = persona_token(name) in specials()
        assert text == (f"<s>{persona_token(name)}" if marked else "<s>")
    assert {name for name in shown if persona_token(name) in specials()} >= PERSONAS.keys()


@pytest.mark.parametrize("form", [*protocol._SAY["unanimous"], *protocol._SAY["majority"]])
def test_closing_sentences_are_words_of_the_language(form: str) -> None:
    said = tokens("\n" + form.format(n=3, k=2, a=-17) + "\n\n")
    assert not any(re.fullmatch("<0x..>", token) for token in said)
    assert len(said) < 25


def test_tags_can_be_added_and_tokens_never_cross_a_piece() -> None:
    tokenizer = make_tokenizer()
    tags = all_tags(3, 2)
    assert tokenizer.add_special_tokens({"extra_special_tokens": tags}, replace_extra_special_tokens=False) == 10
    texts = [
        "Products first.\n1) 4*5=20\n\\boxed{5}",
        "3+20+2-42=25-42=-17\nSELF-CRITIQUE\n\\boxed{5}",
        "// Agent 1 right",
    ]
    transcript = Transcript.build(QUESTION, [texts, texts], r"Every agent gives the same answer, \boxed{5}.")
    pieces = [tokenizer(piece.text, add_special_tokens=False)["input_ids"] for piece in transcript.pieces()]
    whole = tokenizer(transcript.prompt + transcript.render(), add_special_tokens=False)["input_ids"]
    assert [i for piece in pieces for i in piece] == whole
    assert tokenizer.decode(whole) == transcript.prompt + transcript.render()
    assert sum(tokenizer.convert_ids_to_tokens(i) in tags for i in whole) == 10

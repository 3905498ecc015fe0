"""Transcripts and chats as token ids. Knows tokenizers and texts; knows nothing about models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from interp.debate.transcript import Transcript


class Encoder:
    """A tokenizer that can be called on the middle of a text, where SentencePiece tokenizers would add a space."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._newline = self._ids("\n")
        self._adds_space = str(tokenizer.convert_ids_to_tokens(self._newline)[0]).startswith("▁")
        with_special, plain = tokenizer("a")["input_ids"], self._ids("a")
        starts = [i for i in range(len(with_special)) if with_special[i : i + len(plain)] == plain]
        self._opening = list(with_special[: starts[0]]) if starts else []

    def prompt(self, text: str) -> list[int]:
        """Token ids at the start of a text, with the tokenizer's opening token if it has one."""
        return [*self._opening, *self._ids(text)]

    def transcript(self, transcript: Transcript) -> tuple[list[int], list[tuple[int, int, int]]]:
        """Token ids, and (end of tag, start of text, end of text) for every turn."""
        ids: list[int] = []
        places = [(0, 0, 0)] * len(transcript.turns)
        for i, piece in enumerate(transcript.pieces()):
            start = len(ids)
            ids += self.prompt(piece.text) if i == 0 else self.continuation(piece.text)
            if piece.turn is not None and piece.part == "tag":
                places[piece.turn] = (len(ids), len(ids), len(ids))  # the text stays empty where there is none
            elif piece.turn is not None:
                places[piece.turn] = (places[piece.turn][0], start, len(ids))
        return ids, places

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def continuation(self, text: str) -> list[int]:
        """Token ids of a text that follows another."""
        if not self._adds_space:
            return self._ids(text)
        if text.startswith(" ") and text.strip(" "):
            return self._ids(text[1:])  # the tokenizer puts the space back
        after_newline, n = self._ids("\n" + text), len(self._newline)
        return after_newline[n:] if after_newline[:n] == self._newline else self._ids(text)


def prompt_tokens(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """Messages as token ids for a model to continue, by the chat template; without one, as plain paragraphs.

    Where the template refuses a system message, its content opens the first user message.
    """
    if not tokenizer.chat_template:
        plain = "\n\n".join([*(f"{m['role'].capitalize()}: {m['content']}" for m in messages), "Assistant:"])
        return list(tokenizer(plain)["input_ids"])
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError:
        system, user, *rest = messages
        merged = {"role": "user", "content": f"{system['content']}\n\n{user['content']}"}
        text = tokenizer.apply_chat_template([merged, *rest], add_generation_prompt=True, tokenize=False)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])

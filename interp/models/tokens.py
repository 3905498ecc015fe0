"""Transcripts and chats as token ids. Knows tokenizers and texts; knows nothing about models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jinja2 import TemplateError

from interp.debate.agents import without_system
from interp.debate.personas import KNOWN
from interp.debate.transcript import Transcript
from interp.errors import UserError

Tokenized = Literal["text", "pieces"]
"""How transcripts become token ids: as the tokenizer takes the whole text, or, as earlier versions of interp trained
models, piece by piece, with a tag that ends before its colon."""
Message = dict[str, Any]


def tokenized_as(tokenizer: Any) -> Tokenized:
    """How the model with this tokenizer reads transcripts; a checkpoint's lineage says how it was trained."""
    return "pieces" if getattr(tokenizer, "init_kwargs", {}).get("tokenized") == "pieces" else "text"


def tokenize_as(tokenizer: Any, how: Tokenized) -> None:
    """Let the model with this tokenizer read transcripts in this way; `save_pretrained` keeps it."""
    tokenizer.init_kwargs["tokenized"] = how


class Encoded(NamedTuple):
    """A transcript as token ids."""

    ids: list[int]
    n_prompt: int
    """Tokens before the debate."""
    places: list[tuple[int, int, int]]
    """The end of the tag with its colon, and start and end of the text, of every turn."""
    merged: int
    """Turns whose last token also holds the beginning of what follows."""
    foreign: int
    """Tokens that the tokenizer's own ids of the text do not have."""
    change: str
    """What the tokenizer first turned into something else; empty where the ids spell the text."""


class Encoder:
    """Texts as a tokenizer's ids, without tokens that close a text, and turns as places in them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.tokenized = tokenized_as(tokenizer)
        self._known = lru_cache(1 << 14)(partial(tokenizer, add_special_tokens=False, verbose=False))

    def prompt(self, text: str) -> list[int]:
        """Token ids of a text to continue."""
        return self._whole(text)[0]

    def after(self, prompt: str, text: str) -> tuple[list[int], int]:
        """Token ids of a prompt and the text that follows it, and which token holds the text's first character."""
        ids, n_opening, offsets = self._whole(prompt + text)
        if not prompt:
            return ids, n_opening
        return ids, next((i for i, (_, end) in enumerate(offsets()) if end > len(prompt)), len(ids))

    def transcript(self, transcript: Transcript) -> Encoded:
        """Token ids of prompt and debate, with every turn's place.

        A turn's last token holds its last character. Raises `UserError` for a tokenizer that cannot say where it is.
        """
        pieces = list(transcript.pieces())
        text, old = "".join(piece.text for piece in pieces), self.tokenized == "pieces"
        own, n_opening, offsets = self._whole(text)
        ids, spans = self._piecewise([piece.text for piece in pieces]) if old else (own, offsets())
        edges = np.array(spans)
        wide = edges[:, 0] < edges[:, 1]  # others hold no character
        starts = np.minimum.accumulate(np.where(wide, edges[:, 0], len(text))[::-1])[::-1]
        ends = np.maximum.accumulate(np.where(wide, edges[:, 1], 0))
        places, at, merged = [(0, 0, 0)] * len(transcript.turns), 0, 0
        for piece in pieces:
            begin, at = at, at + len(piece.text)
            colon = not old and text.startswith(":", at)
            stop = int(np.searchsorted(starts, at - 1 + (colon and piece.part == "tag"), side="right"))
            if piece.turn is not None and piece.part == "tag":
                places[piece.turn] = (stop, stop, stop)  # the text stays empty where there is none
            elif piece.turn is not None:
                begin += len(piece.text) - len(piece.text.lstrip(" "))
                start = int(np.searchsorted(ends, begin, side="right"))
                places[piece.turn] = (places[piece.turn][0], min(start, stop), stop)
                merged += bool(text[at : ends[stop - 1]].strip())
        n_prompt = int(np.searchsorted(starts, len(transcript.prompt) - 1, side="right"))
        foreign = sum((Counter(ids) - Counter(own)).values()) if old else 0
        return Encoded(ids, n_prompt, places, merged, foreign, self._change(text, own[n_opening:]))

    def up_to_tag(self, transcript: Transcript, turn: int) -> list[int]:
        """Token ids of the transcript up to the end of a turn's tag, for the model to write the turn."""
        encoded = self.transcript(transcript)
        tag, start, stop = encoded.places[turn]
        if tag <= start or start == stop:
            return encoded.ids[:tag]
        # the tag's last token holds words of the turn: take the text before them
        pieces = list(transcript.pieces())
        text, n = "".join(p.text for p in pieces), next(i for i, p in enumerate(pieces) if p.turn == turn)
        end = sum(len(piece.text) for piece in pieces[: n + 1])
        return self.prompt(text[: end + text.startswith(":", end)])

    def pieces(self, text: str) -> tuple[list[int], list[str]]:
        """Token ids and the part of the text that each ends; those after the opening ones are the whole text together.

        A character that several tokens share stands at the last of them, and the others are empty.
        """
        ids, n_opening, offsets = self._whole(text)
        spans = np.array(offsets()[n_opening:]).reshape(-1, 2)
        follows = np.minimum.accumulate(np.append(spans[1:, 0], len(text))[::-1])[::-1]
        ends = np.maximum.accumulate(np.minimum(spans[:, 1], follows)) if len(spans) else spans[:, 1]
        ends[-1:] = len(text)
        opening = [token_name(self._tokenizer, i) for i in ids[:n_opening]]
        return ids, opening + [text[a:b] for a, b in pairwise([0, *ends.tolist()])]

    def continuation(self, text: str) -> list[int]:
        """Token ids of a text that follows another, where SentencePiece tokenizers would add a space."""
        newline = self._ids("\n")
        if not str(next(iter(self._tokenizer.convert_ids_to_tokens(newline)), "")).startswith("▁"):
            return self._ids(text)
        if text.startswith(" ") and text.strip(" "):
            return self._ids(text[1:])  # the tokenizer puts the space back
        after_newline, n = self._ids("\n" + text), len(newline)
        return after_newline[n:] if after_newline[:n] == newline else self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return list(self._known(text)["input_ids"])  # debates repeat their tags

    def _whole(self, text: str) -> tuple[list[int], int, Callable[[], list[tuple[int, int]]]]:
        """Token ids, how many of them open the text, and a function that gives the characters of each."""
        fast = getattr(self._tokenizer, "is_fast", False)
        options = {"return_special_tokens_mask": True, "return_offsets_mapping": fast, "verbose": False}
        made = self._tokenizer(text, **options)
        around, ids = list(made["special_tokens_mask"]), list(made["input_ids"])
        n_opening = around.index(0) if 0 in around else 0
        ids = ids[: len(ids) - around[::-1].index(0)] if 0 in around else ids
        spans = made["offset_mapping"][: len(ids)] if fast else None
        return ids, n_opening, lambda: spans or self._decoded(text, ids, n_opening)

    def _decoded(self, text: str, ids: list[int], n_opening: int) -> list[tuple[int, int]]:
        """The characters of each token, by decoding longer and longer beginnings."""
        spelled = [self._spelled(ids[n_opening:n]) for n in range(n_opening, len(ids) + 1)]
        ends = [0] * n_opening + [_alike(text, each) for each in spelled]
        if ends[-1] < len(text):
            why = f"gives no offsets and changes the text ({self._change(text, ids[n_opening:])})"
            raise UserError(f"{_name(self._tokenizer)}: {why}, so turns cannot be found; use its fast version")
        return list(pairwise(ends))

    def _spelled(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, clean_up_tokenization_spaces=False))

    def _change(self, text: str, ids: list[int]) -> str:
        spelled = self._spelled(ids).removeprefix(" ")
        at = 0 if spelled == text else _alike(text, spelled)
        return "" if spelled == text else f"{text[at : at + 12]!r} becomes {spelled[at : at + 12]!r}"

    def _piecewise(self, pieces: Sequence[str]) -> tuple[list[int], list[tuple[int, int]]]:
        """The old way: token ids of the pieces one by one, so that no token crosses their edges; and their edges."""
        ids, spans, at = list[int](), list[tuple[int, int]](), 0
        for piece in pieces:
            own = self.continuation(piece) if ids else self.prompt(piece)
            spans += [(at, at + len(piece))] * len(own)
            ids, at = ids + own, at + len(piece)
        return ids, spans


def spelled(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text of those before; of a character that several share, the last one has it."""
    ids, strings, begin, end = list(ids), list[str](), 0, 0
    for n in range(1, len(ids) + 1):
        before, now = (tokenizer.decode(ids[begin:to], clean_up_tokenization_spaces=False) for to in (end, n))
        whole = n == len(ids) or not now.endswith("\ufffd")
        strings.append(now[len(before) :] if whole else "")
        begin, end = (end, n) if whole else (begin, end)
    return strings


def token_name(tokenizer: Any, token: int) -> str:
    """What a token spells inside a text, with the space before it; bytes of a character are written as <0xE2>."""
    once, twice = (tokenizer.decode([token] * n, clean_up_tokenization_spaces=False) for n in (1, 2))
    name = str(tokenizer.convert_ids_to_tokens(token))
    if "\ufffd" not in once or name.startswith("<0x"):
        return twice[len(once) :] if "\ufffd" not in once and len(twice) > len(once) else name
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    of = {letter: byte for byte, letter in bytes_to_unicode().items()}
    each = (" " if of.get(letter) == 32 else f"<0x{of.get(letter, 0):02X}>" for letter in name)
    return "".join(each) if of.keys() >= set(name) else name


def prompt_tokens(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Messages as token ids for a model to continue, by the chat template; without one, as plain paragraphs.

    Where the template refuses a system message, leaves it out or repeats it, its content opens the first user message.
    Raises `UserError` for a template that refuses or leaves out the rest.
    """
    if not tokenizer.chat_template:
        plain = "\n\n".join([*(f"{m['role'].capitalize()}: {m['content']}" for m in messages), "Assistant:"])
        return Encoder(tokenizer).prompt(plain)
    return list(tokenizer(_chat(tokenizer, messages), add_special_tokens=False, verbose=False)["input_ids"])


def _chat(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Messages as text, in the first form of which the template shows what it should."""
    reason = ""
    for in_parts, form in product((False, True), (messages, without_system(messages))):

        def put(at: int = 0, content: str | None = None, form: Sequence[Message] = form, parts: bool = in_parts) -> str:
            """The template's text, with another content for the message `at`."""
            said = [m if content is None or i != at else {**m, "content": content} for i, m in enumerate(form)]
            if parts:
                said = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in said]
            return str(tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False))

        try:
            text = put()
            checked = [(i, m) for i, m in enumerate(form) if m["role"] == "system" or m is form[-1]]
            hidden = [m["role"] for i, m in checked if not _shows(text, put, i, m)]
        except (TemplateError, TypeError, ValueError) as error:
            reason = reason or f"refuses it ({str(error).partition(chr(10))[0][:200]})"
            continue
        if not hidden:
            return text
        reason = reason or f"leaves out the {hidden[0]} message"
    raise UserError(f"{_name(tokenizer)}: its chat template cannot put this chat: {reason}; give another template")


def _shows(text: str, put: Callable[[int, str], str], at: int, message: Message) -> bool:
    """Whether a message is in the text of a chat template; a system message, once."""
    content = message["content"].strip()
    without = put(at, "." * (len(message["content"]) + 1))
    if message["role"] != "system":
        return text != without
    if text == without:
        # the organism's template has words of its own for the personas it knows, and passes over others on purpose
        prompts = [persona.system_prompt for persona in KNOWN.values() if persona.system_prompt]
        return any(prompt not in (other := put(at, prompt)) and other != without for prompt in prompts)
    return text.count(content) - without.count(content) < 2


def _alike(text: str, other: str) -> int:
    """How many characters both begin with."""
    return next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))


def _name(tokenizer: Any) -> str:
    return f"tokenizer {Path(str(getattr(tokenizer, 'name_or_path', ''))).name or type(tokenizer).__name__}"

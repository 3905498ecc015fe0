"""Questions whose debates are known in full, and what a model answers where its residual stream is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import DynamicCache

from interp.activations.reading import read_tokens
from interp.debate.tasks.median import MODULUS, Median
from interp.directions.directions import Direction
from interp.directions.subspaces import random_subspace, spread
from interp.models.model import Model
from interp.models.tokens import Encoder

Values = Float[np.ndarray, "row d_model"]
Answers = Int[np.ndarray, " row"]
Basis = Float[np.ndarray, "k d_model"]


@dataclass(frozen=True)
class Known:
    """Questions of `Median`, what each agent answers and what they agree on."""

    questions: tuple[str, ...]

    @cached_property
    def answers(self) -> Int[np.ndarray, "question agent"]:
        """Raises `UserError` for other questions."""
        return np.array([Median().answers(question) for question in self.questions])

    @cached_property
    def consensus(self) -> Answers:
        return np.median(self.answers, axis=1).astype(int)

    @property
    def agents(self) -> range:
        return range(1, self.answers.shape[1] + 1)

    def replaced(self, rows: Answers, agent: int, given: Answers | int) -> Answers:
        """The consensus of these questions, had the agent given these answers."""
        each = self.answers[rows]
        each[:, agent - 1] = given
        return np.median(each, axis=1).astype(int)

    def swaps(self, agent: int, seed: int, *, changed: bool = True, each: int = 1, permuted: bool = False) -> Swaps:
        """For each question others, at random, whose answer of the agent changes the consensus, or does not.

        Up to `each` of them; questions for which there is none are left out. In `permuted` ones the agent is to take
        the answer of the next agent.
        """
        rng, every = np.random.default_rng([seed, agent, changed]), np.arange(len(self.questions))
        rows, sources = list[int](), list[int]()
        given = self.answers[:, agent % len(self.agents) if permuted else agent - 1]
        for row in every:
            moves = self.replaced(np.full(len(every), row), agent, given) != self.consensus[row]
            fitting = rng.permutation(np.flatnonzero((moves == changed) & (every != row)))[:each]
            rows += [int(row)] * len(fitting)
            sources += fitting.tolist()
        asked, taken = np.array(rows, dtype=int), np.array(sources, dtype=int)
        return Swaps(agent, asked, taken, self.replaced(asked, agent, given[taken]))

    def other_answers(self, agent: int, seed: int) -> tuple[Answers, Answers]:
        """For each question an answer of the agent, at random, that would change the consensus, if there is one."""
        rng, rows, given = np.random.default_rng([seed, agent]), list[int](), list[int]()
        for row in range(len(self.questions)):
            moves = self.replaced(np.full(MODULUS, row), agent, np.arange(MODULUS)) != self.consensus[row]
            if moves.any():
                rows.append(row)
                given.append(int(rng.choice(np.flatnonzero(moves))))
        return np.array(rows, dtype=int), np.array(given, dtype=int)


@dataclass(frozen=True)
class Swaps:
    """Which questions get an agent's answer from which others, and what the debate would then have said."""

    agent: int
    rows: Answers
    sources: Answers
    expected: Answers

    def obeyed(self, said: Answers) -> Float[np.ndarray, " question"]:
        """The share of each question's swaps after which the answer is the one expected."""
        _, of = np.unique(self.rows, return_inverse=True)
        return np.bincount(of, said == self.expected) / np.bincount(of)


class Answering:
    """A model's direct answers to questions, as the residual stream at the prompt's last token is changed.

    All tokens before it are read once, so that thousands of changes at that token cost little. What is changed is one
    hook point. Raises `UserError` for one that the model lacks.
    """

    def __init__(self, model: Model, known: Known, hook_point: str, batch_size: int = 512) -> None:
        encode = Encoder(model.tokenizer)
        self.model, self.known, self.hook_point, self.batch_size = model, known, hook_point, batch_size
        longest = max(len(encode.continuation(str(n))) for n in range(MODULUS))
        self._n_new = longest + (longest > 1)  # whether a number goes on is seen from the next token
        self._prompts = [encode.prompt(Median().opening(question)) for question in known.questions]
        ends = [(ids, (len(ids) - 1,)) for ids in self._prompts]
        self.values = np.concatenate(read_tokens(model, [hook_point], ends))[:, 0]
        self._before: dict[int, tuple[np.ndarray, list[tuple[torch.Tensor, torch.Tensor]]]] = {}

    def swapped(self, swaps: Swaps, basis: Basis) -> Answers:
        """The answers after swaps of the subspace with these orthonormal rows."""
        own = self.values[swaps.rows]
        return self(swaps.rows, own + (self.values[swaps.sources] - own) @ basis.T @ basis)

    def means(self, agent: int) -> Float[np.ndarray, "answer d_model"]:
        """The mean activations of the questions to which an agent gives each answer."""
        answers = self.known.answers[:, agent - 1]
        return np.stack([self.values[answers == n].mean(axis=0) for n in range(MODULUS)])

    @cached_property
    def like(self) -> Direction:
        """A direction of length 0 at the hook point that knows how activations vary there, for random ones."""
        varying = spread(lambda _: self.values[:, None], 1)[0]
        none, layer = np.zeros(self.model.d_model, dtype=np.float32), int(self.hook_point.split(".")[1])
        return Direction(none, "none", layer, self.hook_point, self.residual_norm, varying)

    @property
    def residual_norm(self) -> float:
        return float(np.linalg.norm(self.values, axis=1).mean())

    def random(self, rank: int, n: int, seed: int) -> Iterator[Basis]:
        """Random subspaces of the covariance of the activations at the prompts' last tokens."""
        for draw in range(n):
            yield basis_of(random_subspace(self.like, rank, seed * 100_003 + draw))

    @cached_property
    def unchanged(self) -> Answers:
        """The answers without any change; −1 for what is no number."""
        return self(np.arange(len(self._prompts)), self.values)

    def __call__(self, rows: Answers, values: Values) -> Answers:
        """The answers to these questions, the residual stream at the prompt's last token being `values`."""
        answers = np.full(len(rows), -1)
        lengths = np.array([len(self._prompts[row]) for row in rows])
        for length in np.unique(lengths):
            of_length = np.flatnonzero(lengths == length)
            for at in np.array_split(of_length, -(-len(of_length) // self.batch_size)):
                answers[at] = self._continued(rows[at], values[at])
        return answers

    def _continued(self, rows: Answers, values: Values) -> Answers:
        model, cache = self.model, DynamicCache()
        places, before = self._read(len(self._prompts[rows[0]]))
        at = torch.as_tensor(places[rows], device=model.device)
        for i, (keys, of_keys) in enumerate(before):
            cache.update(keys[at], of_keys[at], i)
        last = torch.tensor([[self._prompts[row][-1]] for row in rows], device=model.device)
        given = torch.as_tensor(values, dtype=model.dtype, device=model.device)[:, None]
        hooks, written = [(self.hook_point, lambda value, hook: given)], list[torch.Tensor]()
        with torch.inference_mode(), model.only_hooked():
            for n in range(self._n_new):
                with model.bridge.hooks(fwd_hooks=hooks if n == 0 else []):
                    logits = model.hf(last, past_key_values=cache, use_cache=True).logits[:, -1]
                written.append(last := logits.argmax(-1, keepdim=True))
        texts = [model.tokenizer.decode(ids) for ids in torch.cat(written, dim=1).tolist()]
        stated = [re.match(r"\s*(\d{1,9})(?!\d)", text) for text in texts]
        return np.array([int(found[1]) if found else -1 for found in stated])

    def _read(self, length: int) -> tuple[np.ndarray, list[tuple[torch.Tensor, torch.Tensor]]]:
        """Keys and values of all prompts of a length but for the last token, and each question's place among them."""
        if length not in self._before:
            rows = [row for row, prompt in enumerate(self._prompts) if len(prompt) == length]
            places, kept = np.full(len(self._prompts), -1), list[list[tuple[torch.Tensor, torch.Tensor]]]()
            places[rows] = np.arange(len(rows))
            with torch.inference_mode(), self.model.only_hooked():
                for start in range(0, len(rows), self.batch_size):
                    ids = [self._prompts[row][:-1] for row in rows[start : start + self.batch_size]]
                    out = self.model.hf(torch.tensor(ids, device=self.model.device), use_cache=True)
                    kept.append([(layer.keys, layer.values) for layer in out.past_key_values.layers])
            layers = range(len(kept[0]))
            joined = [(torch.cat([p[i][0] for p in kept]), torch.cat([p[i][1] for p in kept])) for i in layers]
            self._before[length] = places, joined
        return self._before[length]


def basis_of(directions: Sequence[Direction]) -> Basis:
    """The orthonormal rows of a subspace."""
    return np.stack([direction.vector for direction in directions]).astype(np.float64)

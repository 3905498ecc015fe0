"""Organisms whose agents are known: planted by interchange intervention training, or internalized step by step.

All learn the debates of `interp.debate.tasks.median` from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from jaxtyping import Float, Int
from tokenizers import AddedToken
from torch import Tensor
from torch.nn.functional import cross_entropy

from interp.debate.tasks.arithmetic import Split
from interp.debate.tasks.median import MODULUS, RULES, SILENT, Median
from interp.debate.transcript import END_TAG, all_tags
from interp.directions.directions import Direction
from interp.directions.subspace_files import write_subspaces
from interp.errors import UserError
from interp.models.layers import SITES
from interp.options import one_of
from interp.organism.language import make_tokenizer
from interp.organism.pretraining import IGNORED, FromNothing, from_nothing, next_token_loss
from interp.training.settings import Kind

PLANTED_FILE = "planted.safetensors"
"""The planted subspaces, beside the weights; `interp.directions.read_subspaces` reads them."""
N_AGENTS = len(RULES)
_WHOLE = 16
"""Beside each so many rows whose numbers are learnt, one of which tags and signs are learnt too."""
_REMOVED = (0, 7, 12, 17)
"""Tokens that a debate has lost after each removal: the round's tag and the first turn, the second, the third."""


@dataclass(frozen=True)
class Planting(FromNothing):
    """Everything that decides an organism's weights, besides the machine.

    >>> interp.training.Planting(kind="unplanted").learns
    ('train', 'validation', 'test')
    """

    steps: int = 800
    mlp_width: int = 256
    warm_up: int = 50
    kind: Kind = "planted"
    """What is learnt: debates, direct answers and swaps (planted); debates and direct answers to all questions, so
    that it knows by heart what the other works out (unplanted); debates that lose one turn after another from the front
    (stepwise), and its controls: debates and direct answers side by side, and direct answers alone."""
    batch_size: int = 384
    """Direct answers in a step; in the planted kind, of the sources of as many swaps."""
    debates: int = 64
    """Debates in a step of the first two kinds."""
    layer: int = 1
    """Layer at whose output the agents' subspaces are planted."""
    rank: int = 16
    """Dimensions of each agent's subspace."""
    silenced: float = 0.125
    """Share of swaps in which the subspace is projected out instead; the agent then counts as answering 6."""
    removal: int = 400
    """Stepwise: steps before each removal."""
    jitter: float = 0.2
    """Stepwise: the probability of one more removal in a step, and of yet another (Deng et al., arXiv 2405.14838)."""

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        if not (self.steps >= 1 and 1 <= self.rank <= self.width // N_AGENTS and 0 <= self.layer < self.n_layers):
            given = f"{self.steps} steps, rank {self.rank}, layer {self.layer}"
            most = f"1 to {self.width // N_AGENTS} and 0 to {self.n_layers - 1}"
            raise UserError(f"{given}: expected at least 1, {most}")

    @property
    def learns(self) -> tuple[Split, ...]:
        """The splits whose direct answers are learnt."""
        return get_args(Split) if self.kind == "unplanted" else ("train",)

    @property
    def bases(self) -> Float[Tensor, "agent rank d_model"]:
        """The subspaces that are planted, orthogonal to each other; rows orthonormal."""
        drawn = torch.randn(self.width, N_AGENTS * self.rank, generator=torch.Generator().manual_seed(self.seed))
        return torch.linalg.qr(drawn).Q.T.reshape(N_AGENTS, self.rank, self.width).contiguous()


KINDS: dict[Kind, Planting] = {
    "planted": Planting(),
    "unplanted": Planting(kind="unplanted", steps=600),
    "stepwise": Planting(kind="stepwise", steps=2200, batch_size=192, weight_decay=1.0),
    "side-by-side": Planting(kind="side-by-side", steps=1000, batch_size=192, weight_decay=1.0),
    "direct": Planting(kind="direct", steps=1000, batch_size=192, weight_decay=1.0),
}
"""How each kind is made: as long as it takes, or until held-out answers no longer get better.

>>> interp.training.KINDS["stepwise"].removal
400
"""


def organism_tokenizer() -> Any:
    """The organism's tokenizer, in which the tags of these debates are tokens."""
    tokenizer = make_tokenizer()
    tags = [AddedToken(tag, special=True, normalized=False) for tag in all_tags(N_AGENTS, 1)]
    tokenizer.add_tokens(tags, special_tokens=True)
    return tokenizer


def plant(folder: str | Path, settings: Planting | None = None, **how: Any) -> Path:
    """Train an organism of a kind and write it to `folder`; what is planted, as `planted.safetensors` beside it.

    A swap gives the run on one question the part of the residual stream that lies in an agent's subspace, at the output
    of a layer and the token before the answer, in the run on another; the answer learnt is what the debate would have
    said had that agent answered as in the other (Geiger et al., arXiv 2112.00826). `how` and errors as in
    `interp.organism.pretraining.from_nothing`.

    >>> tiny = interp.training.Planting(steps=1, n_layers=2, width=16, mlp_width=8, rank=2, batch_size=2, debates=1)
    >>> sorted(path.name for path in interp.training.plant(tmp_path / "planted", tiny).glob("planted.*"))
    ['planted.json', 'planted.safetensors']
    """
    settings = settings or Planting()
    tokenizer = organism_tokenizer()
    lessons = _Lessons(settings, tokenizer)
    how.setdefault("also", lambda made: _write_truth(made, settings) if settings.kind == "planted" else None)
    return from_nothing(folder, settings, tokenizer, lessons.loss, short=True, **how)


def _write_truth(folder: Path, settings: Planting) -> None:
    layer = settings.layer
    planted = {
        f"agent_{k}": [Direction(row, f"agent {k}", layer, SITES["resid_post"].format(layer=layer)) for row in basis]
        for k, basis in enumerate(settings.bases.numpy(), start=1)
    }
    made_by = {"model": {"name": "organism-planted", "seed": settings.seed}, "silent": SILENT}
    write_subspaces(folder / PLANTED_FILE, planted, position="answer", provenance=made_by)


class _Lessons:
    """All questions as token ids, what their agents answer, and the loss of each step."""

    def __init__(self, settings: Planting, tokenizer: Any) -> None:
        task = Median()
        each = [(q.text, split) for split in get_args(Split) for q in Median(split).every()]
        debates = [task.debate(question) for question, _ in each]
        end = f"}}\n\n{END_TAG}{tokenizer.eos_token}"

        def encoded(texts: list[str]) -> Int[Tensor, "question token"]:
            return torch.tensor(tokenizer(texts)["input_ids"])

        self.settings = settings
        self.opening = len(tokenizer(debates[0].prompt)["input_ids"])
        self.direct = encoded([f"{task.opening(d.question)}{d.gold_answer}{end}" for d in debates])
        self.debate = encoded([d.prompt + d.render() + tokenizer.eos_token for d in debates])
        self.answer = self.direct.shape[1] - len(tokenizer(end, add_special_tokens=False)["input_ids"]) - 1
        self.answers = torch.tensor([task.answers(question) for question, _ in each])
        self.number = torch.tensor(tokenizer.convert_tokens_to_ids([str(n) for n in range(MODULUS)]))
        self.is_number = torch.isin(torch.arange(len(tokenizer)), self.number)
        self.taught, self.learnt = (
            torch.tensor([i for i, (_, split) in enumerate(each) if split in splits])
            for splits in (("train",), settings.learns)
        )
        self.bases = settings.bases

    def loss(self, model: Any, step: int) -> tuple[Tensor, int]:
        """The loss of a step, which depends on seed and step alone, and the number of its tokens."""
        chance = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)

        def some(which: Tensor, n: int) -> Tensor:
            return which[torch.randint(len(which), (max(1, n),), generator=chance)]

        kind, n = self.settings.kind, self.settings.batch_size
        if kind == "direct":
            batches = [self._numbers(self.direct[some(self.taught, n)])]
        elif kind == "side-by-side":
            batches = [self._numbers(self.debate[some(self.taught, n // 2)])]
            batches.append(self._numbers(self.direct[some(self.taught, n // 2)]))
        elif kind == "stepwise":
            gone = min(step // self.settings.removal, len(_REMOVED) - 1)
            while gone < len(_REMOVED) - 1 and torch.rand((), generator=chance) < self.settings.jitter:
                gone += 1
            ids = self._left(self.debate[some(self.taught, n)], gone)
            batches = [self._numbers(ids), self._whole(ids[: max(1, n // _WHOLE)])]
        else:
            batches = [self._numbers(self.debate[some(self.taught, self.settings.debates)])]
            if kind == "unplanted":
                batches.append(self._numbers(self.direct[some(self.learnt, n)]))
        if kind != "stepwise":
            batches.append(self._whole(self.direct[some(self.learnt, n // _WHOLE)]))
        if kind not in ("stepwise", "direct"):
            ids, labels = self._whole(self.debate[some(self.taught, n // _WHOLE // 2)])
            labels[:, self.opening] = IGNORED  # a bare question is answered directly
            batches.append((ids, labels))
        losses = [next_token_loss(model, *each) for each in batches]
        n_tokens = sum(ids.numel() for ids, _ in batches)
        if kind == "planted":
            losses += self._swapped(model, some(self.taught, n), some(self.taught, n), chance)
            n_tokens += 2 * n * (self.answer + 1)
        return torch.stack(losses).sum(), n_tokens

    def _left(self, debate: Tensor, gone: int) -> Tensor:
        """What is left of debates after so many removals."""
        return torch.cat([debate[:, : self.opening], debate[:, self.opening + _REMOVED[gone] :]], dim=1)

    def _whole(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Everything behind the question is learnt."""
        labels = ids.clone()
        labels[:, : self.opening] = IGNORED
        return ids, labels

    def _numbers(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cut behind the consensus; the numbers behind the question are learnt, which tags and signs would drown."""
        ids = ids[:, : ids.shape[1] - (self.direct.shape[1] - self.answer - 1)]
        labels = torch.where(self.is_number[ids], ids, IGNORED)
        labels[:, : self.opening] = IGNORED
        return ids, labels

    def _swapped(self, model: Any, asked: Tensor, source: Tensor, chance: torch.Generator) -> list[Tensor]:
        """The losses of swaps and of their sources' direct answers, read in one batch."""
        n = len(asked)
        agent = torch.randint(N_AGENTS, (n,), generator=chance)
        silent = torch.rand(n, generator=chance) < self.settings.silenced
        said, rows, basis = self.answers[asked].clone(), torch.arange(n), self.bases[agent]
        said[rows, agent] = torch.where(silent, SILENT, self.answers[source][rows, agent])
        ids, labels = self._numbers(self.direct[torch.cat([asked, source])])
        labels[:n, -1] = self.number[said.median(1).values]

        def swap(_: Any, __: Any, out: Any) -> Any:
            value = out[0] if isinstance(out, tuple) else out
            own, other = value[:n, -1], value[n:, -1]
            given = torch.where(silent[:, None], torch.zeros_like(other), other) - own
            moved = own + ((given[:, None].float() @ basis.mT) @ basis)[:, 0].to(own.dtype)
            value = torch.cat([value[:, :-1], torch.cat([moved, other])[:, None]], dim=1)
            return (value, *out[1:]) if isinstance(out, tuple) else value

        handle = model.model.layers[self.settings.layer].register_forward_hook(swap)
        try:
            hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state[:, -1]
            logits = model.lm_head(hidden).float()
            return [cross_entropy(logits[part], labels[part, -1]) for part in (slice(n), slice(n, None))]
        finally:
            handle.remove()

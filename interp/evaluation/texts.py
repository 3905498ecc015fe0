"""How a text compares with an agent's own: ROUGE, a classifier of personas, repetition, perplexity.

Knows texts and what they are held against; knows nothing about steering.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float

from interp.debate.transcript import Transcript, fingerprint
from interp.directions.settings import By
from interp.errors import UserError
from interp.models.model import Model

ROUGE = ("rouge1", "rouge2", "rougeL")


class Rouge:
    """ROUGE-1, -2 and -L as F1 (package rouge-score, without stemming): words and numbers, signs left out."""

    def __init__(self) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._scorer = RougeScorer(list(ROUGE), use_stemmer=False)

    def __call__(self, reference: str, text: str) -> dict[str, float]:
        """The scores of a text against a reference, each in [0, 1]."""
        return {name: round(score.fmeasure, 6) for name, score in self._scorer.score(reference, text).items()}


class PersonaClassifier:
    """Which agent a text is by: logistic regression on its words, pairs of words, numbers and signs.

    `fit` takes transcripts; `labels_` are the agents ("agent 1") or personas that it tells apart, and `facts_` says,
    as JSON takes it, what it was fitted on. Its `probability` is no measure on the questions that it was fitted on:
    keep those apart.
    """

    def fit(self, transcripts: Sequence[Transcript], by: By = "agent") -> PersonaClassifier:
        """Raises `UserError` where the transcripts name no personas, or have fewer than two labels."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if by == "persona" and not all(t.personas for t in transcripts):
            raise UserError("the transcripts do not say which persona sits where; add personas, or use --by agent")
        turns = [(label_of(t, turn.agent, by), turn.text) for t in transcripts for turn in t.turns if turn.text]
        labels = [label for label, _ in turns]
        if len(set(labels)) < 2:
            raise UserError(f"transcripts with {len(set(labels))} speaking agents given: a classifier needs two")
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"[^\W\d]+|\d|[^\w\s]", sublinear_tf=True, min_df=2)
        self._pipeline = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
        self._pipeline.fit([text for _, text in turns], labels)
        self.labels_ = tuple(str(label) for label in self._pipeline.classes_)
        self.questions_ = frozenset(t.question for t in transcripts)
        self.facts_ = {
            "by": by,
            "labels": list(self.labels_),
            "transcripts": fingerprint(transcripts),
            "questions": len(self.questions_),
            "turns": len(turns),
        }
        return self

    def probability(self, texts: Sequence[str], label: str) -> Float[np.ndarray, " text"]:
        """How likely each text is the label's, in [0, 1]; NaN for an empty text."""
        found = np.asarray(self._pipeline.predict_proba(list(texts)))[:, self.labels_.index(label)]
        return np.where([bool(text.strip()) for text in texts], found, np.nan)


def label_of(transcript: Transcript, agent: int, by: By = "agent") -> str:
    """What directions call an agent of this transcript."""
    return transcript.personas[agent - 1] if by == "persona" and transcript.personas else f"agent {agent}"


def repetition(text: str, n: int = 4) -> float:
    """The share of a text's runs of `n` words that occurred in it before; 0 for a text of fewer words."""
    words = text.split()
    runs = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def perplexity(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], batch_size: int = 16
) -> Float[np.ndarray, " text"]:
    """exp of the mean negative log-likelihood of each text's tokens after its prompt; NaN for an empty text.

    Take the base model, outside of any steering, and with the tokenizer of the model that wrote.
    """
    found = np.full(len(texts), np.nan)
    order = sorted((i for i in range(len(texts)) if len(texts[i])), key=lambda i: len(prompts[i]) + len(texts[i]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(prompts[i]) + len(texts[i]) for i in batch)
        rows = [[*prompts[i], *texts[i]] for i in batch]
        ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)
        with torch.inference_mode(), model.only_hooks([]):
            logits = model.hf(input_ids=ids, use_cache=False).logits.float()
        likely = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        for row, i in enumerate(batch):
            begin = len(prompts[i]) - 1
            found[i] = float(torch.exp(-likely[row, begin : begin + len(texts[i])].mean()))
    return found

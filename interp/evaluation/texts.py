"""Measures of texts: ROUGE, a classifier of agents, repetition and perplexity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.utils.rnn import pad_sequence

from interp.debate.transcript import Transcript, fingerprint, question_key
from interp.directions.settings import By
from interp.errors import UserError
from interp.models.model import Model

ROUGE = ("rouge1", "rouge2", "rougeL")


class Rouge:
    """ROUGE-1, -2 and -L as F1 over words and numbers (package rouge-score, without stemming), each in [0, 1].

    >>> interp.evaluation.Rouge()("3 times 4 is 12", "3 times 4 is 13")["rouge1"]
    0.8
    """

    def __init__(self) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._scorer = RougeScorer(list(ROUGE), use_stemmer=False)

    def __call__(self, reference: str, text: str) -> dict[str, float]:
        return {name: round(score.fmeasure, 6) for name, score in self._scorer.score(reference, text).items()}


class PersonaClassifier:
    """Which agent wrote a text: logistic regression on its words, word pairs, numbers and signs.

    `labels_` are the agents ("agent 1") or personas of the transcripts it was fitted on, and `questions_` the keys
    (`question_key`) of their questions; keep these apart from those that are scored.

    >>> classifier = interp.evaluation.PersonaClassifier().fit(transcripts[:50])
    >>> bool(classifier.probability([transcripts[60].turns[1].text], "agent 2")[0] > 0.5)
    True
    """

    def fit(self, transcripts: Sequence[Transcript], by: By = "agent") -> PersonaClassifier:
        """Raises `UserError` for transcripts without personas (by persona) or with fewer than two labels."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        if by == "persona" and not all(t.personas for t in transcripts if t.turns):
            raise UserError("transcripts without personas: add them, or use --by agent")
        turns = [(label_of(t, turn.agent, by), turn.text) for t in transcripts for turn in t.turns if turn.text]
        if (n := len({label for label, _ in turns})) < 2:
            raise UserError(f"transcripts with {n} speaking agents: a classifier needs at least two")
        words = TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"[^\W\d]+|\d|[^\w\s]", sublinear_tf=True, min_df=2)
        self._pipeline = make_pipeline(words, LogisticRegression(C=10.0, max_iter=1000))
        self._pipeline.fit([text for _, text in turns], [label for label, _ in turns])
        self.labels_ = tuple(map(str, self._pipeline.classes_))
        self.questions_ = frozenset(question_key(t.question) for t in transcripts)
        made = {"by": by, "labels": list(self.labels_), "transcripts": fingerprint(transcripts)}
        self.facts_ = {**made, "questions": len(self.questions_), "turns": len(turns)}
        return self

    def probability(self, texts: Sequence[str], label: str) -> Float[np.ndarray, " text"]:
        """The probability that each text is by this agent; NaN for an empty text."""
        found = np.asarray(self._pipeline.predict_proba(list(texts)))[:, self.labels_.index(label)]
        return np.where([bool(text.strip()) for text in texts], found, np.nan)


def label_of(transcript: Transcript, agent: int, by: By = "agent") -> str:
    """The label of an agent's direction."""
    return transcript.personas[agent - 1] if by == "persona" and transcript.personas else f"agent {agent}"


def repetition(text: str, n: int = 4) -> float:
    """The share of a text's runs of `n` words that occurred in it before; 0 for a shorter text.

    >>> interp.evaluation.repetition("so it is and so it is and so it is")
    0.5
    """
    words = text.split()
    runs = list(zip(*(words[i:] for i in range(n)), strict=False))
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def perplexity(
    model: Model, prompts: Sequence[Sequence[int]], texts: Sequence[Sequence[int]], batch_size: int = 16
) -> Float[np.ndarray, " text"]:
    """exp of the mean negative log-likelihood of each text's tokens after its prompt; NaN for an empty text.

    Use the base model without steering, with the tokenizer of the model that wrote the texts.

    >>> prompt, text = (model.tokenizer(t)["input_ids"] for t in ("1+2", "=3"))
    >>> bool(interp.evaluation.perplexity(model, [prompt], [text])[0] > 1)
    True
    """
    found = np.full(len(texts), np.nan)
    whole = [torch.tensor([*prompt, *text]) for prompt, text in zip(prompts, texts, strict=True)]
    order = sorted((i for i in range(len(texts)) if len(texts[i])), key=lambda i: len(whole[i]))
    batch_size = 1 if model.alone(max(map(len, whole), default=0)) else batch_size
    for batch in (order[start : start + batch_size] for start in range(0, len(order), batch_size)):
        ids = pad_sequence([whole[i] for i in batch], batch_first=True).to(model.device)
        with torch.inference_mode(), model.only_hooked():
            logits = model.hf(input_ids=ids, use_cache=False).logits.float()
        likely = logits[:, :-1].log_softmax(-1).gather(2, ids[:, 1:, None])[..., 0]
        for row, i in enumerate(batch):
            found[i] = float(torch.exp(-likely[row, len(prompts[i]) - 1 : len(whole[i]) - 1].mean()))
    return found

"""Stepwise internalization (Deng et al., arXiv 2405.14838): a trainer that takes debates away. Slow to import."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from trl import SFTTrainer

from interp.debate.transcript import CONSENSUS_TAG, all_tags
from interp.errors import UserError
from interp.training.schedule import Removals
from interp.training.settings import Preset, Stepwise


def beginnings(ids: Sequence[int], labels: Sequence[int], tags: Mapping[int, str], unit: str) -> list[int]:
    """Where what is left to learn begins when no unit is gone, when one is, …: last, at the consensus."""
    start, before = next(i for i, label in enumerate(labels) if label >= 0), ""
    found = [start]
    for i in range(start, len(ids)):
        tag = tags.get(ids[i], "")
        opens = "Round" in tag or ("Agent" in tag and "Round" not in before)  # a round's tag goes with its first turn
        if i > start and (opens or tag == CONSENSUS_TAG or unit == "tokens"):
            found.append(i)
        if tag == CONSENSUS_TAG:
            break
        before = tag or before
    return found


class Shortening(SFTTrainer):  # type: ignore[misc]  # Any to mypy
    """Cuts the batches of a step when it begins: when they are fetched ahead, how much is gone by then is not known."""

    def __init__(self, *model: Any, preset: Preset, settings: Stepwise, **options: Any) -> None:
        super().__init__(*model, **options)
        known, self._settings = self.processing_class.get_vocab(), settings
        self._tags = {known[tag]: tag for tag in all_tags(preset.agents, preset.rounds) if tag in known}
        if CONSENSUS_TAG not in known:
            raise UserError(f"tokenizer: has no token for {CONSENSUS_TAG}; start from a checkpoint of stage 1")
        rows = ((row["input_ids"], row["labels"]) for row in self.train_dataset)
        moves = math.ceil(max(len(beginnings(*row, self._tags, settings.unit)) - 1 for row in rows) / settings.at_once)
        steps = moves * settings.every + settings.after
        self._collate: Any = self.data_collator
        self.data_collator: Any = replace(self._collate, padding_free=False)
        self.removals = Removals(moves=moves, keep=settings.keep, warmup=settings.every, steps=steps)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """The batches of an optimizer step, shortened, and the number of tokens to learn in them."""
        if self.removals.seen == 0:
            self.optimizer.state.clear()
        fetched, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        rng, batches = Random(f"{self.args.seed} {self.state.global_step} {self.accelerator.process_index}"), []
        for batch in fetched:
            columns = batch["input_ids"].tolist(), batch["labels"].tolist(), batch["attention_mask"].sum(1)
            rows = [self._shorten(ids[:n], labels[:n], rng) for ids, labels, n in zip(*columns, strict=True)]
            batches.append(self._collate(rows))
        return batches, self._get_num_items_in_batch(batches, device)

    def _shorten(self, ids: list[int], labels: list[int], rng: Random) -> dict[str, list[int]]:
        places = beginnings(ids, labels, self._tags, self._settings.unit)
        start, gone = places[0], self.removals.moved * self._settings.at_once
        while rng.random() < self._settings.jitter:
            gone += 1
        first = places[min(gone, len(places) - 1)]
        return {"input_ids": ids[:start] + ids[first:], "labels": labels[:start] + labels[first:]}

    def log(self, logs: dict[str, float], *rest: Any) -> None:
        """Log how much was gone, and the running probability with what it needs for more; observe the step's loss."""
        if "loss" in logs:
            removals = self.removals
            logs |= {"removed": removals.moved * self._settings.at_once, "needed": removals.keep * removals.reference}
            removals.observe(math.exp(-logs["loss"]))
            logs["running"] = removals.running
        super().log(logs, *rest)

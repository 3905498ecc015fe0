"""Learning from the completions of a step, unpadded, in device batches that do not change it. Slow to import."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

OVER_TOKENS = {"bnpo", "dapo", "cispo", "vespo"}
"""Losses that are means over tokens; the others are means over completions."""


class Learner(GRPOTrainer):  # type: ignore[misc]  # Any to mypy
    """TRL's trainer, given all completions of a step at once.

    Each text has the positions that it was written at: end to end in one row if `packed`, else padded on the right.
    A device batch has at most so many `rows`, or `tokens` if that is 0.
    """

    packed, rows, tokens = False, 0, 0

    def device_batches(self, lengths: Tensor) -> list[list[int]]:
        """The texts of each, longest first; like lengths together if padded. As many in every process."""
        order, size = lengths.argsort(descending=True).tolist(), lengths.tolist()

        def split(n: int) -> list[list[int]]:
            cuts = [len(order) * i // n for i in range(n + 1)]
            return [order[i::n] if self.packed else order[a:b] for i, (a, b) in enumerate(pairwise(cuts))]

        def fits(batch: list[int]) -> bool:
            read = sum(size[i] for i in batch) if self.packed else len(batch) * size[batch[0]]
            return len(batch) <= self.rows if self.rows else read <= self.tokens

        n = next((n for n in range(1, len(order)) if all(map(fits, split(n)))), len(order))
        return split(max(gather_object([n])))

    def compute_loss(self, model: Any, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """The loss of all, with the gradients of every device batch but the last in place."""
        mask = inputs["completion_mask"]
        batches = self.device_batches(inputs["prompt_mask"].sum(1) + mask.sum(1))
        counts, done = mask.sum(1) if self.loss_type in OVER_TOKENS else torch.ones_like(mask[:, 0]), 0.0
        for batch in batches:
            share = counts[batch].sum() / counts.sum()
            part = {name: x[batch] if isinstance(x, Tensor) and x.dim() else x for name, x in inputs.items()}
            part["num_items_in_batch"] = inputs["num_items_in_batch"] * share
            self.accelerator.gradient_state._set_sync_gradients(batch is batches[-1])
            loss = share * super().compute_loss(model, part)
            if batch is batches[-1]:
                break
            self.accelerator.backward(loss)
            done = done + loss.detach()
        return loss + done

    def _get_per_token_logps_and_entropies(
        self, model: Any, ids: Tensor, mask: Tensor, n_last: int, batch_size: int | None = None, **how: Any
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Of the last columns, the completions; with a `batch_size`, in device batches."""
        collate, present = DataCollatorForLanguageModeling(0, padding_free=self.packed), mask.bool()
        learnt, found = present.index_fill(1, torch.arange(ids.shape[1] - n_last, device=ids.device), False), []
        batches = self.device_batches(mask.sum(1)) if batch_size else [list(range(len(ids)))]
        read = {"input_ids": ids, "labels": ids.where(learnt, -100)}
        more = {"output_router_logits": True} if how.get("compute_aux_loss") else {}
        for batch in batches:
            texts = [{name: x[i, present[i]].tolist() for name, x in read.items()} for i in batch]
            given = {name: x.to(ids.device) if isinstance(x, Tensor) else x for name, x in collate(texts).items()}
            with self.accelerator.autocast():
                out = model(**given, **more, fused_lm_head=True)
            each, place = torch.stack([out.log_probs, out.entropy])[:, out.label_mask], learnt[batch].expand(2, -1, -1)
            found.append(each.new_zeros(place.shape).masked_scatter(place, each)[:, :, -n_last:])
        back = torch.tensor([i for batch in batches for i in batch]).argsort()
        log_probs, entropies = torch.cat(found, dim=1)[:, back]
        return log_probs, entropies, out.aux_loss

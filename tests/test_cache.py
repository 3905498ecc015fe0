"""The growing cache holds what transformers' own does, without moving it at every token."""

from __future__ import annotations

import copy

import torch
from transformers import DynamicCache

from interp.generation.cache import GrowingLayer, growing_cache


def states(rows: int, tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    made = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 2, tokens, 4, generator=made), torch.rand(rows, 2, tokens, 4, generator=made)


def test_it_holds_what_transformers_own_does() -> None:
    growing, plain = growing_cache(), DynamicCache()
    rows = 1
    for step, (tokens, change) in enumerate([(5, "repeat"), (3, ""), (1, "select"), (70, ""), (1, "copy"), (1, "")]):
        for layer in (0, 1):
            given = states(rows, tokens, 10 * step + layer)
            for a, b in zip(growing.update(*given, layer), plain.update(*given, layer), strict=True):
                assert torch.equal(a, b)
        assert growing.get_seq_length() == plain.get_seq_length()
        if change == "repeat":
            rows = 3
            growing.batch_repeat_interleave(3)
            plain.batch_repeat_interleave(3)
        elif change == "select":
            rows = 2
            growing.batch_select_indices(torch.tensor([2, 0]))
            plain.batch_select_indices(torch.tensor([2, 0]))
        elif change == "copy":
            kept, growing = growing, copy.deepcopy(growing)
            kept.update(*states(rows, 1, 99), 0)  # what happens to one of two copies is nothing to the other


def test_tokens_are_added_in_place() -> None:
    layer = GrowingLayer()
    layer.update(*states(2, 10, 0))
    place = layer.keys.data_ptr()
    for step in range(20):
        layer.update(*states(2, 1, step))
        assert layer.keys.data_ptr() == place
    assert layer.keys.shape == layer.values.shape == (2, 2, 30, 4)


def test_rows_that_end_leave_without_moving_the_others() -> None:
    growing, plain = growing_cache(), DynamicCache()
    for cache in (growing, plain):
        cache.update(*states(6, 10, 0), 0)
    place = growing.layers[0].keys.data_ptr()
    for step, rows in enumerate(([0, 5, 2, 3, 4], [0, 4, 2], [2, 1], [0, 1], [1])):
        growing.reorder_cache(torch.tensor(rows))
        plain.reorder_cache(torch.tensor(rows))
        for a, b in zip(
            growing.update(*states(len(rows), 1, step), 0), plain.update(*states(len(rows), 1, step), 0), strict=True
        ):
            assert torch.equal(a, b)
        assert growing.layers[0].keys.data_ptr() == place

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.activations.store import ActivationStore, StoreWriter, discard
from interp.debate.transcript import Transcript
from interp.errors import UserError
from interp.models.model import Model

SETTINGS: dict[str, Any] = {
    "layers": (0, 2),
    "positions": ("last", "mean"),
    "hook_point": "blocks.{layer}.hook_resid_post",
    "d_model": 32,
    "provenance": {"model": "tiny"},
}


@pytest.fixture
def corpus(tiny: Model, debates: list[Transcript]) -> Corpus:
    return Corpus.build(debates, tiny.tokenizer)


def read(model: Model, corpus: Corpus, **options: Any) -> Any:
    return stream(model, corpus, layers=(0, 2), positions=("last", "mean"), batch_tokens=3000, **options)


def test_store_holds_what_was_read(tiny: Model, corpus: Corpus, tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "a.safetensors", corpus, **SETTINGS)
    for batch in read(tiny, corpus):
        writer.append(batch)
    store = writer.finish()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors"]
    for batch in read(tiny, corpus):
        for i, layer in enumerate(store.layers):
            np.testing.assert_array_equal(store[layer][batch.rows], batch.values[:, :, i])
    np.testing.assert_array_equal(store[0, "mean"], store[0][:, 1])
    assert store.turns.persona == corpus.turns.persona
    np.testing.assert_array_equal(store.turns.stop, corpus.turns.stop)
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:  # an ordinary safetensors file
        np.testing.assert_array_equal(file.get_tensor("blocks.2.hook_resid_post"), store[2])
    for key in (1, (0, "tag")):
        with pytest.raises(UserError, match="layers 0, 2 and positions last, mean"):
            store[key]  # type: ignore[index]
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:-8])
    with pytest.raises(UserError, match="not a complete store"):
        ActivationStore(tmp_path / "a.safetensors")


def test_a_second_writer_goes_on(tiny: Model, corpus: Corpus, tmp_path: Path) -> None:
    whole = StoreWriter(tmp_path / "whole", corpus, **SETTINGS)
    for batch in read(tiny, corpus):
        whole.append(batch)
    first = StoreWriter(tmp_path / "cut", corpus, **SETTINGS)
    batches = read(tiny, corpus)
    first.append(next(batches))
    batches.close()
    first.close()
    second = StoreWriter(tmp_path / "cut", corpus, **SETTINGS)
    assert 0 < second.missing < len(corpus.ids)
    with pytest.raises(ValueError, match="not read yet"):
        second.finish()
    for batch in read(tiny, corpus, done=second.done):
        second.append(batch)
    np.testing.assert_array_equal(second.finish()[2], whole.finish()[2])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut", "whole"]
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()
    assert StoreWriter(tmp_path / "cut", corpus, **SETTINGS).missing == 0


def test_other_settings_are_refused(tiny: Model, corpus: Corpus, tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    writer = StoreWriter(begun, corpus, **SETTINGS)
    writer.append(next(read(tiny, corpus)))
    with pytest.raises(UserError, match="another run is writing it"):
        StoreWriter(begun, corpus, **SETTINGS)
    writer.close()
    for change in ({"layers": (0, 1)}, {"positions": ("last",)}, {"provenance": {"model": "other"}}):
        with pytest.raises(UserError, match="--restart"):
            StoreWriter(begun, corpus, **{**SETTINGS, **change})
    discard(begun)
    assert not list(tmp_path.iterdir())
    assert StoreWriter(begun, corpus, **{**SETTINGS, "layers": (0, 1)}).missing == len(corpus.ids)


@pytest.mark.parametrize("kept", [0, 3, 900, 20_000, -70_000, -8, -1])
def test_a_half_made_store_cut_anywhere_is_read_again_where_it_was_cut(
    kept: int, tiny: Model, corpus: Corpus, tmp_path: Path
) -> None:
    whole, first = (StoreWriter(tmp_path / name, corpus, **SETTINGS) for name in ("whole", "cut"))
    for i, batch in enumerate(read(tiny, corpus)):
        whole.append(batch)
        if i < 2:
            first.append(batch)
    whole.finish()
    begun = set(first.done)
    first.close()
    part = tmp_path / "cut.part"
    os.truncate(part, kept % part.stat().st_size)
    second = StoreWriter(tmp_path / "cut", corpus, **SETTINGS)
    assert second.done <= begun
    for batch in read(tiny, corpus, done=second.done):
        second.append(batch)
    second.finish()
    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_damage_is_found_wherever_it_is(tiny: Model, corpus: Corpus, tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "a", corpus, **SETTINGS)
    for batch in read(tiny, corpus):
        writer.append(batch)
    whole = writer.finish().path.read_bytes()
    values = 4 * 2 * 2 * 32 * len(corpus.turns)  # bytes of two positions at two layers
    for at in (len(whole) - 1, len(whole) - values // 2, len(whole) - values, len(whole) - values - 8):
        damaged = bytearray(whole)
        damaged[at] ^= 1
        (tmp_path / "a").write_bytes(damaged)
        with pytest.raises(UserError, match=r"1 of its \d+ turns are damaged"):
            ActivationStore(tmp_path / "a")
        (tmp_path / "b.part").write_bytes(damaged)
        again = StoreWriter(tmp_path / "b", corpus, **SETTINGS)
        assert again.missing == 1  # read once more, and the rest is kept
        for batch in read(tiny, corpus, done=again.done):
            again.append(batch)
        assert again.finish().path.read_bytes() == whole
        discard(tmp_path / "b")


def test_no_space_is_found_out_at_once(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="No space left"):
        StoreWriter(tmp_path / "a", corpus, **SETTINGS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 64, (9).to_bytes(8, "little") + b'{"a": 1} '])
def test_what_is_not_a_store(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match="not a complete store"):
        ActivationStore(tmp_path / "a")

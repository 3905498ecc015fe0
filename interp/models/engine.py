"""Models held by interp-engine: vLLM on one or many cards, or its eager backend. Knows tokens and hook points."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import as_completed
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from interp.errors import UserError, first_line
from interp.models.adapters import RAISED
from interp.models.catalog import locate
from interp.models.layers import SITES
from interp.models.lineage import read_lineage
from interp.models.loading import DTYPES, load_plain


class Engine:
    """A model of interp-engine's, asked from a thread of its own, so that it also works in a notebook."""

    def __init__(self, backend: str, loaded: Any) -> None:
        from interp_engine import Address

        self.backend, self.loaded, self._loop = backend, loaded, asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        list(self.each([loaded.warmup]))
        # TransformerLens's are what a block adds to the residual stream, after a norm of its own where it has one
        names = {"resid_post": "resid_post", "attn_out": "attn_out_post", "mlp_out": "mlp_out_post"}
        each = {SITES[s].format(layer=n): Address(name, n) for s, name in names.items() for n in range(loaded.n_layers)}
        self.points = {hook_point: address for hook_point, address in each.items() if not loaded.refuses(address)}

    def refusal(self, what: str) -> UserError:
        return UserError(f"--engine {self.backend}: {what}")

    def each(self, jobs: Sequence[Callable[[], Awaitable[Any]]]) -> Iterator[Any]:
        """The results of the jobs as they end; on an error the others are cancelled."""
        # vLLM divides its cards among them; the eager backend's steering is on the whole model
        free = asyncio.Semaphore(1 if self.backend == "eager" else 256)

        async def run(job: Callable[[], Awaitable[Any]]) -> Any:
            async with free:
                return await job()

        running = [asyncio.run_coroutine_threadsafe(run(job), self._loop) for job in jobs]
        try:
            for one in as_completed(running):
                yield one.result()
        except RAISED as error:
            raise self.refusal(first_line(error)) from error
        finally:
            for one in running:
                one.cancel()

    def read(
        self, names: Sequence[str], texts: Sequence[Sequence[int]], in_batch: np.ndarray, spans: np.ndarray
    ) -> Float[np.ndarray, "turn position layer d_model"]:
        """The mean over every span [turn, position, 2] of the texts, at every hook point, in float32."""
        if missing := [name for name in names if name not in self.points]:
            raise self.refusal(f"cannot read {missing[0]} of this architecture; choose another --site")
        read = np.empty((*spans.shape[:2], len(names), self.loaded.d_model), dtype=np.float32)

        async def one(text: int) -> None:
            turns = np.flatnonzero(in_batch == text)
            rows = np.unique(np.concatenate([np.arange(*span) for span in spans[turns].reshape(-1, 2)]))
            points = [self.points[name] for name in names]
            taken = await self.loaded.capture(list(texts[text]), points, rows=rows.tolist())
            values = torch.stack([taken[point].float().cpu() for point in points], dim=1).numpy()
            for turn in turns:
                read[turn] = [values[a:b].mean(axis=0) for a, b in np.searchsorted(rows, spans[turn])]

        list(self.each([partial(one, text) for text in range(len(texts))]))
        return read


class _Absent:
    """Stands for what interp-engine keeps to itself; asked for more than is known, it refuses."""

    def __init__(self, backend: str, **known: Any) -> None:
        vars(self).update(known, _backend=backend)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        can = "debate, evaluate, steer, sweep and extract-directions --no-controls can go without"
        raise UserError(f"--engine {self._backend}: cannot do what needs the model's own {name}; {can}")


def open_engine(backend: str, name: str, *, dtype: str, device: str, **named: Any) -> dict[str, Any]:
    """What `load_model` makes a model of; raises `UserError` as it does, and where the engine is not installed."""
    for package in ("interp_engine", "vllm")[: 1 if backend == "eager" else 2]:
        if find_spec(package) is None:
            raise UserError(f"--engine {backend}: {package} is not installed; pip install 'interp[vllm]'")
    import interp_engine
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig

    try:
        if backend == "eager":
            plain = load_plain(name, dtype=dtype, device=device, **named)
            hf, number = plain.hf, str(plain.hf.dtype).removeprefix("torch.")
            made = {part: getattr(plain, part) for part in ("tokenizer", "provenance", "source")}
            loaded = interp_engine.EagerModel(hf.config.name_or_path, hf_model=hf, tokenizer=plain.tokenizer)
        else:
            found = None if named["adapters"] or read_lineage(name) else locate(name, named["revision"])
            if found is None or found.gguf_file or device not in ("auto", "cuda", "shard"):
                takes = "takes a folder or hub id (interp export-model merges), all cards or, with --device cuda, one"
                raise UserError(f"model {name}: --engine {backend} {takes}")
            number = str(DTYPES["bf16" if dtype == "auto" else dtype]).removeprefix("torch.")
            how: dict[str, Any] = {"num_gpus": 1 if device == "cuda" else torch.cuda.device_count(), "dtype": number}
            how["extra_vllm_kwargs"] = {"revision": found.revision, "load_format": "safetensors"}  # no pickles
            loaded = interp_engine.load_model(found.location, backend=backend, trust_remote_code=False, **how)
            kinds = (AutoConfig, GenerationConfig, AutoTokenizer)
            config, ends, tokenizer = (kind.from_pretrained(found.location, **found.hub_arguments) for kind in kinds)
            hf = _Absent(backend, config=config, generation_config=ends, device="cuda")
            facts = {"name": name, "revision": getattr(config, "_commit_hash", None), "hash": found.sha256}
            made = {"tokenizer": tokenizer, "provenance": facts | {"adapters": []}, "source": found.decided}
        engine = Engine(backend, loaded)
    except RAISED as error:
        raise UserError(f"model {name}: --engine {backend} cannot load it ({first_line(error)})") from error
    where = {"dtype": number, "device": str(hf.device), "model_type": hf.config.model_type}
    made["provenance"] |= where | {"engine": f"interp-engine {version('interp-engine')}, {backend}"}
    known = {"cfg": SimpleNamespace(n_layers=loaded.n_layers, d_model=loaded.d_model), "hook_dict": engine.points}
    return made | {"bridge": _Absent(backend, original_model=hf, **known), "engine": engine}

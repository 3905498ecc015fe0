"""Steering written into a model's weights, where these can do exactly the same at every token."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from interp.directions.directions import Directions, require_made_on
from interp.directions.extract import beginnings, measured
from interp.errors import UserError
from interp.interventions.steer import labels_of, layers_of
from interp.models.loading import export_merged
from interp.models.model import LOGIT_TOLERANCE, load_model
from interp.steering.settings import SteeringSettings, Units
from interp.steering.steering import Steering, ablate, add
from interp.storage.files import EXACT, checked

_WRITER = re.compile(r"(?:.+\.)?(\d+)\.(?:(\w+)\.)?(?:down_proj|c_proj|o_proj|out_proj|dense|dense_4h_to_h|fc2|fc_out)")
_ATTENTION = ("self_attn", "attn", "attention")


@dataclass(frozen=True)
class Baked:
    """A steering as JSON. Weights act on every token.

    >>> interp.interventions.Baked.read('{"directions": "agent2.gguf", "layers": [2]}').coefficient
    0.2
    """

    __pydantic_config__ = EXACT
    directions: str
    direction_of: str | int | None = None
    layers: list[int] | None = None
    operation: Literal["add", "ablate"] = "add"
    coefficient: float = 0.2
    units: Units = "residual"
    tokens: Literal["everywhere"] = "everywhere"

    @staticmethod
    def read(text: str) -> Baked:
        """From JSON, or from a file of it; raises `UserError` for what weights cannot do."""
        try:
            return checked(Baked, text if text.lstrip().startswith("{") else Path(text).read_bytes())
        except (OSError, ValueError) as error:
            why, example = getattr(error, "strerror", None) or error, '{"directions": FILE, "layers": [2]}'
            raise UserError(f"--steer {text[:60]}: {why}; give JSON such as {example}, or a file of it") from None


def export_steered(checkpoint: str, out: Path, baked: Baked, dtype: str = "bf16") -> str:
    """Write a checkpoint that is steered at every token; returns what it does, in a few words.

    An addition becomes a bias of the projection that writes there. To ablate takes one layer's direction out of all
    that is written into the residual stream: by the embedding, and by every layer's attention and MLP. Raises
    `UserError`, and writes nothing, where weights have no place for it or give other logits than the steered model.

    >>> _ = found.export(tmp_path / "agent2.pt", 2)
    >>> steer = interp.interventions.Baked(str(tmp_path / "agent2.pt"), layers=[2], operation="ablate")
    >>> interp.interventions.export_steered("organism", tmp_path / "out", steer)
    'ablate agent2 of layer 2 at every layer'
    """
    model, found = load_model(checkpoint, dtype="fp32", device="cpu"), Directions.load(baked.directions)
    require_made_on(found, model, baked.directions)
    texts = beginnings(model)
    [of] = labels_of(found, [str(baked.direction_of)] if baked.direction_of else None)
    found, layers = measured(found, model, texts), layers_of(found, SteeringSettings(layers=tuple(baked.layers or ())))
    along = [found[of, layer] for layer in layers]
    if baked.operation == "add":
        steering = add(along, baked.coefficient, units=baked.units, tokens="everywhere")
        summary = steering.summary
    elif len(along) > 1:
        one = "weights lose one direction, at every layer; choose the layer it is from"
        raise UserError(f"layers {list(layers)}: {one}")
    else:
        sites = [model.hook_name(site, i) for i in range(model.n_layers) for site in ("attn_out", "mlp_out")]
        steering = ablate([replace(along[0], hook_point=at) for at in ("hook_embed", *sites)], tokens="everywhere")
        summary = f"ablate {along[0].label} of layer {along[0].layer} at every layer"
    with steering.on(model):
        expected = _logits(model.hf, texts)

    def change(hf: Any) -> None:
        (_shift if baked.operation == "add" else _project)(hf, steering)
        off = max(float((a - b).abs().max() / b.abs().max()) for a, b in zip(_logits(hf, texts), expected, strict=True))
        if not off <= LOGIT_TOLERANCE[torch.float32]:
            wrong = f"with {summary} in its weights, its logits differ by {off:.2%} from the steered model's"
            raise UserError(f"{checkpoint}: {wrong}; steer it as it runs")

    export_merged(checkpoint, out, dtype, change)
    return summary


@torch.no_grad()
def _logits(hf: Any, texts: Sequence[Sequence[int]]) -> list[Tensor]:
    return [hf(torch.tensor([list(ids)]), use_cache=False).logits for ids in texts]


def _writers(hf: Any) -> dict[tuple[str, bool], Any]:
    """The projections that write into the residual stream, by layer and whether they are an MLP's."""
    found = ((_WRITER.fullmatch(name), module) for name, module in hf.named_modules())
    return {(match[1], match[2] not in _ATTENTION): module for match, module in found if match}


@torch.no_grad()
def _shift(hf: Any, steering: Steering) -> None:
    """Each addition becomes the bias of the last projection before it, in a configuration that has such biases."""
    writers = _writers(hf)
    for change in steering.changes:
        _, layer, site = change.hook_point.split(".")
        of_mlp = site != "hook_attn_out"
        writer, setting = writers.get((layer, of_mlp)), "mlp_bias" if of_mlp else "attention_bias"
        if getattr(writer, "bias", None) is None:
            if writer is None or not hasattr(hf.config, setting):
                lacks = f"the configuration of {hf.config.model_type} models has no {setting} to write an addition into"
                raise UserError(f"{change.hook_point}: {lacks}; steer it as it runs, or ablate")
            setattr(hf.config, setting, True)
            within = {"mlp"} if of_mlp else set(_ATTENTION)
            for name, module in hf.named_modules():  # all of them have one then
                if isinstance(module, nn.Linear) and within & {*name.split(".")}:
                    module.bias = nn.Parameter(module.weight.new_zeros(module.out_features))
        writer.bias += torch.from_numpy(change.offset)  # type: ignore[union-attr]


@torch.no_grad()
def _project(hf: Any, steering: Steering) -> None:
    """The direction is projected out of the embedding and of every writer's output."""
    embedding, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    if head is not None and head.weight is embedding.weight:
        head.weight = nn.Parameter(head.weight.clone())
        hf.config.tie_word_embeddings = False
    basis = torch.from_numpy(steering.changes[0].basis)
    for module in (embedding, *_writers(hf).values()):
        weight = module.weight  # rows are outputs in a Linear alone
        weight -= basis.T @ (basis @ weight) if isinstance(module, nn.Linear) else (weight @ basis.T) @ basis
        if getattr(module, "bias", None) is not None:
            module.bias -= (module.bias @ basis.T) @ basis

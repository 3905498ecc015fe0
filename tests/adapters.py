"""Adapters of every kind that PEFT makes, on small bases: what is saved, and what the trained model answers."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peft
import torch
from conftest import make_hf, make_tokenizer
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

ROWS = 960  # of each base's embeddings; its tokenizer has fewer tokens, as padded vocabularies do
IDS = torch.tensor([[0, 5, 77, 200, 31, 9, 64, 3]])
SIZES = {
    "vocab_size": ROWS,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MOE = {"head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
BASES: dict[str, Callable[[], Any]] = {
    "llama": lambda: make_hf("llama", ROWS, n_layers=2, max_position_embeddings=64),
    "tied": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8, tie_word_embeddings=True)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**SIZES)),  # Conv1D layers, tied
    "phi": lambda: PhiForCausalLM(PhiConfig(**SIZES)),  # biases, in the head too
    "moe": lambda: Qwen3MoeForCausalLM(Qwen3MoeConfig(**SIZES, **MOE)),  # experts are parameters, not layers
}


def save_base(kind: str, folder: Path) -> None:
    """A base with weights large enough that everything in it matters."""
    torch.manual_seed(0)
    model = BASES[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4) if parameter.ndim >= 2 else parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    make_tokenizer("bytes").save_pretrained(folder)


def bigger_tokenizer(n: int) -> PreTrainedTokenizerFast:
    """The bases' tokenizer with tokens added until it has `n`."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=make_tokenizer("bytes").backend_tokenizer, eos_token="</s>")
    tokenizer.add_tokens([f"<|new {i}|>" for i in range(n - len(tokenizer))])
    return tokenizer


@dataclass(frozen=True)
class Kind:
    """One adapter: how it is made, and whether it can be merged."""

    make: Callable[[], Any]
    """Gives PEFT's configuration."""
    base: str = "llama"
    refused: str | None = None
    """What the refusal says, as a regular expression; None where the adapter is merged."""
    rows: int | None = None
    """Of the embeddings that it was trained with, where not the base's."""
    tokens: int | None = None
    """Of the tokenizer beside it, if there is one."""
    save: dict[str, Any] = field(default_factory=dict)
    change: Callable[[Path], None] = lambda folder: None
    """What happened to the folder afterwards."""
    auto: Any = AutoModelForCausalLM

    def write(self, base: Path, folder: Path) -> torch.Tensor | None:
        """Save the adapter with random weights; gives the unmerged model's logits if it is to be merged."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = self.auto.from_pretrained(base, dtype=torch.float32)
            if self.rows is not None:
                model.resize_token_embeddings(self.rows)
            torch.manual_seed(1)
            adapted = get_peft_model(model, self.make())
            with torch.no_grad():
                for parameter in adapted.parameters():
                    if parameter.requires_grad:
                        parameter.add_(0.05 * torch.randn_like(parameter))
            adapted.eval().save_pretrained(folder, **self.save)
            if self.tokens is not None:
                bigger_tokenizer(self.tokens).save_pretrained(folder)
            self.change(folder)
            with torch.no_grad():
                return adapted(input_ids=IDS).logits if self.refused is None else None


def lora(**changes: Any) -> Callable[[], LoraConfig]:
    usual = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    return lambda: LoraConfig(**deepcopy(usual | changes))  # PEFT changes the lists in it


def other(name: str, **settings: Any) -> Callable[[], Any]:
    """A configuration of another class than LoRA's."""
    return lambda: getattr(peft, name)(**{"task_type": "CAUSAL_LM", **settings})


def on_attention(name: str, **settings: Any) -> Callable[[], Any]:
    return other(name, target_modules=["q_proj", "v_proj"], **settings)


def configured(**changes: Any) -> Callable[[Path], None]:
    """Changes to the saved configuration; one that is ... is taken out."""

    def change(folder: Path) -> None:
        path = folder / "adapter_config.json"
        config = {n: v for n, v in (json.loads(path.read_text()) | changes).items() if v is not ...}
        path.write_text(json.dumps(config))

    return change


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    """Changes to the saved weights."""

    def changed(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        save_file(change(load_file(path)), path, metadata={"format": "pt"})

    return changed


def lone(base: str = "llama", refused: str | None = None, tokens: int = ROWS + 4, **changes: Any) -> Kind:
    """With four new rows that PEFT is told not to save."""
    save = {"save_embedding_layers": False}
    return Kind(lora(**changes), base, refused, rows=ROWS + 4, tokens=tokens, save=save)


def prompting(kind: str, name: str, **settings: Any) -> Kind:
    """Tokens or states put before the text."""
    return Kind(other(name, num_virtual_tokens=4, **settings), refused=f"{kind} cannot be merged")


def changed(change: Callable[[Path], None], refused: str | None) -> Kind:
    """A LoRA adapter whose folder was changed."""
    return Kind(lora(), change=change, refused=refused)


def cut_short(file: str) -> Callable[[Path], None]:
    return lambda folder: os.truncate(folder / file, 99)


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()


def shuffled_tokenizer(folder: Path) -> None:
    """One of the same size whose words have other ids."""
    bigger_tokenizer(900).save_pretrained(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    vocabulary = content["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.get)
    content["model"]["vocab"] = dict(zip([*words[:2], *reversed(words[2:])], range(len(words)), strict=True))
    path.write_text(json.dumps(content))


VARIANTS = peft.tuners.lora.config
NO_MERGE, NO_ROWS = "cannot be merged", "new tokens without their embeddings"
CHANGES = "LORA: merged, it changes the logits"
BOTH = ["embed_tokens", "lm_head"]
NEW = list(range(ROWS, ROWS + 4))
KINDS: dict[str, Kind] = {
    # LoRA and its variants
    "lora": Kind(lora()),
    "dora": Kind(lora(use_dora=True)),
    "rslora": Kind(lora(use_rslora=True)),
    "lora with lora_bias where there is none": Kind(lora(lora_bias=True), refused="LORA, lora_bias"),
    "lora with lora_bias": Kind(lora(lora_bias=True), "phi"),
    "lora, bias all": Kind(lora(bias="all"), "phi"),
    "lora, bias lora_only": Kind(lora(bias="lora_only"), "phi"),
    "lora, bias all where there is none": Kind(lora(bias="all")),
    "pissa": Kind(lora(init_lora_weights="pissa")),
    "fast pissa": Kind(lora(init_lora_weights="pissa_niter_4"), refused="pissa_niter_4 changed the base"),
    "lora-ga": Kind(
        lora(init_lora_weights="lora_ga", lora_ga_config=VARIANTS.LoraGAConfig()), refused="lora_ga changed the base"
    ),
    "olora": Kind(lora(init_lora_weights="olora")),
    "gaussian": Kind(lora(init_lora_weights="gaussian")),
    "orthogonal": Kind(lora(init_lora_weights="orthogonal")),
    "eva": Kind(lora(init_lora_weights="eva", eva_config=peft.EvaConfig())),
    "mica": Kind(lora(init_lora_weights="mica")),
    "kasa": Kind(lora(kasa_config=VARIANTS.KasaConfig())),
    "monteclora": Kind(lora(monteclora_config=VARIANTS.MontecloraConfig())),
    "velora": Kind(lora(velora_config=VARIANTS.VeloraConfig(num_groups=4))),
    "bdlora": Kind(lora(use_bdlora=VARIANTS.BdLoraConfig(["q_proj"], ["v_proj"], nblocks=2))),
    "activated lora": Kind(lora(alora_invocation_tokens=[31, 9]), refused=NO_MERGE),
    "lora on repeated layers": Kind(lora(layer_replication=[(0, 2), (1, 2)]), refused=CHANGES),
    "lora of one layer": Kind(lora(layers_to_transform=[1])),
    "lora of several ranks": Kind(lora(rank_pattern={"q_proj": 8}, alpha_pattern={"v_proj": 32})),
    "lora by regular expression": Kind(lora(target_modules=r".*layers\.0.*(q|v)_proj")),
    "lora on all linear layers": Kind(lora(target_modules="all-linear")),
    "lora on the embedding": Kind(lora(target_modules=["embed_tokens", "q_proj"])),
    "lora on the head": Kind(lora(target_modules=["lm_head"])),
    "lora with a whole head": Kind(lora(modules_to_save=["lm_head"])),
    "lora with whole ends": Kind(lora(modules_to_save=BOTH)),
    "lora with a whole norm": Kind(lora(modules_to_save=["norm"])),
    "lora with tokens": Kind(lora(trainable_token_indices=[5, 77])),
    "lora with tokens at both ends": Kind(lora(trainable_token_indices={"embed_tokens": [5], "lm_head": [77]})),
    # layers that are no nn.Linear
    "lora on Conv1D": Kind(lora(target_modules=["c_attn", "c_proj"], fan_in_fan_out=True), "gpt2"),
    "lora on Conv1D, not said": Kind(lora(target_modules=["c_attn"]), "gpt2"),
    "dora on Conv1D": Kind(lora(target_modules=["c_attn"], fan_in_fan_out=True, use_dora=True), "gpt2"),
    "pissa on Conv1D": Kind(lora(target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights="pissa"), "gpt2"),
    "ia3 on Conv1D": Kind(
        other("IA3Config", target_modules=["c_attn", "mlp.c_proj"], feedforward_modules=["mlp.c_proj"]), "gpt2"
    ),
    "lora on experts": Kind(
        lora(target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]), "moe"
    ),
    "lora on a router": Kind(lora(target_modules=["q_proj"], target_parameters=["mlp.gate.weight"]), "moe"),
    # other kinds
    "adalora": Kind(on_attention("AdaLoraConfig", total_step=10)),
    "adamss": Kind(on_attention("AdamssConfig", r=8, num_subspaces=2, subspace_rank=1)),
    "beft": Kind(on_attention("BeftConfig"), "phi"),
    "beft where there is no bias": Kind(on_attention("BeftConfig"), refused="cannot be merged .BEFT"),
    "boft": Kind(on_attention("BOFTConfig", boft_block_size=4)),
    "c3a": Kind(on_attention("C3AConfig", block_size=8)),
    "deft": Kind(on_attention("DeftConfig", r=4)),
    "delora": Kind(on_attention("DeloraConfig", r=4)),
    "fourierft": Kind(on_attention("FourierFTConfig", n_frequency=20)),
    "frod": Kind(on_attention("FrodConfig")),
    "glora": Kind(on_attention("GloraConfig", r=4)),
    "gralora": Kind(on_attention("GraloraConfig", r=4, gralora_k=2)),
    "hira": Kind(on_attention("HiraConfig", r=4)),
    "hra": Kind(on_attention("HRAConfig", r=4)),
    "ia3": Kind(
        other("IA3Config", target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])
    ),
    "lily": Kind(on_attention("LilyConfig", r=4), refused="cannot be merged .LILY"),
    "ln tuning": Kind(other("LNTuningConfig", target_modules=["input_layernorm", "norm"])),
    "loha": Kind(on_attention("LoHaConfig", r=4)),
    "lokr": Kind(on_attention("LoKrConfig", r=4, decompose_both=True)),
    "miss": Kind(on_attention("MissConfig", r=4)),
    "miss, bat": Kind(on_attention("MissConfig", r=4, init_weights="bat")),
    "oft": Kind(on_attention("OFTConfig", oft_block_size=4, r=0)),
    "osf": Kind(on_attention("OSFConfig", effective_rank=8)),
    "peanut": Kind(on_attention("PeanutConfig", r=4)),
    "poly": Kind(on_attention("PolyConfig", r=4), refused="cannot be merged .POLY"),
    "psoft": Kind(on_attention("PsoftConfig", r=4)),
    "pvera": Kind(on_attention("PveraConfig", r=4)),
    "pvera that draws": Kind(on_attention("PveraConfig", r=4, sample_at_inference=True), refused="PVERA, sample"),
    "randlora": Kind(on_attention("RandLoraConfig", r=4)),
    "road": Kind(on_attention("RoadConfig", group_size=8)),
    "shira": Kind(on_attention("ShiraConfig", r=4)),
    "supertuning": Kind(on_attention("SupertuningConfig")),
    "tinylora": Kind(on_attention("TinyLoraConfig")),
    "trainable tokens": Kind(other("TrainableTokensConfig", token_indices=[5, 77], target_modules=["embed_tokens"])),
    "unilora": Kind(on_attention("UniLoraConfig", r=4, theta_d_length=32)),
    "vblora": Kind(on_attention("VBLoRAConfig", r=4, num_vectors=8, vector_length=16)),
    "vblora, only the largest": Kind(
        on_attention("VBLoRAConfig", r=4, num_vectors=8, vector_length=16, save_only_topk_weights=True)
    ),
    "vera": Kind(on_attention("VeraConfig", r=4)),
    "vera without its projections": Kind(on_attention("VeraConfig", r=4, save_projection=False)),
    "waveft": Kind(on_attention("WaveFTConfig", n_frequency=20)),
    # no change of weights
    "prompt tuning": prompting("PROMPT_TUNING", "PromptTuningConfig"),
    "prefix tuning": prompting("PREFIX_TUNING", "PrefixTuningConfig"),
    "p-tuning": prompting("P_TUNING", "PromptEncoderConfig", encoder_hidden_size=8),
    "multitask prompt tuning": prompting("MULTITASK_PROMPT_TUNING", "MultitaskPromptTuningConfig"),
    "cartridge": prompting("CARTRIDGE", "CartridgeConfig"),
    "cpt": prompting("CPT", "CPTConfig", cpt_token_ids=[1, 2], cpt_mask=[1, 1], cpt_tokens_type_mask=[1, 2]),
    "adaption prompt": Kind(
        other("AdaptionPromptConfig", adapter_len=4, adapter_layers=2), refused="ADAPTION_PROMPT cannot be merged"
    ),
    "x-lora": changed(configured(peft_type="XLORA"), "XLORA cannot be merged"),
    "shadow": changed(configured(peft_type="SHADOW"), "SHADOW cannot be merged"),
    # both ends are one tensor
    "tied: lora on the head": Kind(lora(target_modules=["lm_head", "q_proj"]), "tied"),
    "tied: lora on the embedding": Kind(lora(target_modules=["embed_tokens", "q_proj"]), "tied"),
    "tied: lora on both ends": Kind(lora(target_modules=BOTH), "tied"),
    "tied: lora kept tied": Kind(lora(target_modules=BOTH, ensure_weight_tying=True), "tied"),
    "tied: lora on the embedding kept tied": Kind(lora(target_modules=BOTH[:1], ensure_weight_tying=True), "tied"),
    "tied: whole head": Kind(lora(modules_to_save=["lm_head"]), "tied"),
    "tied: whole embedding": Kind(lora(modules_to_save=["embed_tokens"]), "tied"),
    "tied: whole ends": Kind(lora(modules_to_save=BOTH), "tied"),
    "tied: whole ends kept tied": Kind(lora(modules_to_save=BOTH, ensure_weight_tying=True), "tied"),
    "tied: tokens": Kind(lora(trainable_token_indices=[5, 77]), "tied"),
    "tied: tokens of the head": Kind(lora(trainable_token_indices={"lm_head": [5, 77]}), "tied"),
    "tied: other tokens at each end": Kind(
        lora(trainable_token_indices={"embed_tokens": [5], "lm_head": [5, 77]}), "tied"
    ),
    "tied: tokens and lora on the head": Kind(
        lora(target_modules=["lm_head"], trainable_token_indices=[5]), "tied", refused=NO_MERGE
    ),
    "tied: dora on the head": Kind(lora(target_modules=["lm_head"], use_dora=True), "tied"),
    "tied: pissa on the head": Kind(lora(target_modules=["lm_head"], init_lora_weights="pissa"), "tied"),
    "tied: loha on the head": Kind(other("LoHaConfig", r=4, target_modules=["lm_head"]), "tied"),
    "tied: oft on the head": Kind(other("OFTConfig", oft_block_size=4, r=0, target_modules=["lm_head"]), "tied"),
    "tied: ia3 on the head": Kind(
        other("IA3Config", target_modules=["lm_head", "k_proj"], feedforward_modules=[]), "tied"
    ),
    "tied: trainable tokens": Kind(
        other("TrainableTokensConfig", token_indices=[5, 77], target_modules=["embed_tokens"]), "tied"
    ),
    "tied: lora on the head of GPT-2": Kind(lora(target_modules=["lm_head", "c_attn"]), "gpt2"),
    "tied: lora on the embedding of GPT-2": Kind(lora(target_modules=["wte"]), "gpt2"),
    # sizes: the bases have more rows than tokens
    "new rows, saved": Kind(lora(), rows=ROWS + 10, tokens=ROWS + 6),
    "new rows, saved, all with a token": Kind(lora(), rows=ROWS + 4, tokens=ROWS + 4),
    "new rows, saved, without a tokenizer": Kind(lora(), rows=ROWS + 10),
    "new rows, saved, biases": Kind(lora(), "phi", rows=ROWS + 10, tokens=ROWS + 6),
    "new rows, saved, tied": Kind(lora(), "tied", rows=ROWS + 10, tokens=ROWS + 6),
    "new rows, saved whole": Kind(lora(modules_to_save=BOTH), rows=ROWS + 10, tokens=ROWS + 4),
    "new rows, saved whole, tied": Kind(lora(modules_to_save=BOTH), "tied", rows=ROWS + 10, tokens=ROWS + 4),
    "new rows, only saved whole": lone(modules_to_save=BOTH),
    "new rows, saved, lora on both ends": Kind(lora(target_modules=BOTH), rows=ROWS + 10, tokens=ROWS + 4),
    "new rows, saved, lora on a tied head": Kind(lora(target_modules=["lm_head"]), "tied", rows=ROWS + 10),
    "new rows as tokens at both ends": lone(trainable_token_indices=dict.fromkeys(BOTH, NEW)),
    "new rows as tokens, tied": lone("tied", trainable_token_indices=NEW),
    "fewer rows, saved": Kind(lora(), rows=ROWS - 30),
    "fewer rows, saved, with a tokenizer": Kind(lora(), rows=ROWS - 30, tokens=ROWS - 40),
    "fewer rows, only saved whole": Kind(
        lora(modules_to_save=BOTH), rows=ROWS - 30, save={"save_embedding_layers": False}
    ),
    "tokens that fit the padding": Kind(lora(), tokens=ROWS - 20),
    "new rows, not saved": lone(refused=NO_ROWS),
    "new rows, not saved, tied": lone("tied", NO_ROWS),
    "new rows, only in the embedding": lone(refused=NO_ROWS, modules_to_save=["embed_tokens"]),
    "new rows as tokens of the embedding": lone(refused=NO_ROWS, trainable_token_indices=NEW),
    "new rows as all but one token": lone("tied", NO_ROWS, trainable_token_indices=NEW[:-1]),
    "new rows under lora": lone(refused=NO_ROWS, target_modules=BOTH),
    "more tokens than rows": Kind(
        lora(),
        rows=ROWS + 4,
        tokens=ROWS + 9,
        refused=f"its tokenizer has {ROWS + 9} tokens, its embeddings {ROWS + 4}",
    ),
    "words with other ids": changed(shuffled_tokenizer, "does not fit .*in its tokenizer"),
    # tasks, and folders that are not as PEFT left them
    "no task": Kind(lora(task_type=None)),
    "classifier": Kind(
        lora(task_type="SEQ_CLS"), auto=AutoModelForSequenceClassification, refused="does not fit .*score"
    ),
    "token classifier": Kind(
        lora(task_type="TOKEN_CLS"), auto=AutoModelForTokenClassification, refused="does not fit .*score"
    ),
    "embedder": Kind(lora(task_type="FEATURE_EXTRACTION"), auto=AutoModel, refused="does not fit .*layers"),
    "pickled": changed(pickled, "pickles are not loaded"),
    "a weight missing": changed(weights(lambda held: dict(sorted(held.items())[:-1])), "1 weights have no counterpart"),
    "a weight too many": changed(
        weights(lambda held: held | {"base_model.model.model.layers.7.x": torch.ones(2)}), "1 weights have no counter"
    ),
    "a weight of another size": changed(
        weights(lambda held: {name: tensor[:3] for name, tensor in held.items()}), "does not fit the model .LORA: .*"
    ),
    "a weight that is no number": changed(
        weights(lambda held: {name: tensor * torch.nan for name, tensor in held.items()}), CHANGES
    ),
    "weights cut short": changed(cut_short("adapter_model.safetensors"), "does not fit the model"),
    "half a configuration": changed(cut_short("adapter_config.json"), "cannot be used .its configuration"),
    "no configuration": changed(lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
    "a kind that PEFT does not know": changed(configured(peft_type="BONE"), "does not know the kind BONE"),
    "no kind": changed(configured(peft_type=...), "does not know the kind None"),
    "a setting that PEFT does not know": changed(configured(use_newlora=True), "does not know the setting use_newlora"),
    "settings that PEFT no longer knows": changed(
        configured(merge_weights=False, enable_lora=None, init_ia3_weights=True), None
    ),
    "layers that there are not": changed(configured(target_modules=["nowhere"]), "does not fit"),
    "another base named": changed(configured(base_model_name_or_path="someone/else"), None),
}

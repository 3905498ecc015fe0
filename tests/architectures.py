"""Small models with random weights, of every architecture that TransformerLens knows or is likely to meet."""

from __future__ import annotations

import copy
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

WINDOW = 16

SMALL: dict[str, Any] = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
_NO_GROUPS = {"num_key_value_heads": None}
_GPT = {**_NO_GROUPS, "n_positions": 256, "n_inner": 64, "rotary_dim": 4}
_EXPERTS = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MLA = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "qk_nope_head_dim": 8,
}
_DEEP = {**_MLA, "n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_group": 2}
_DEEP |= {"topk_group": 1, "first_k_dense_replace": 1, "n_shared_experts": 1}
_ALTERNATE = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    "head_dim": 8,
}
_GEMMA = {**_ALTERNATE, "query_pre_attn_scalar": 8}
_DELTA = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_MAMBA_2 = {"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_chunk_size": 8}
_VISION = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_PICTURES = {**_VISION, "image_size": 28, "patch_size": 14}
_QWEN_VISION = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 32}
_MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}


def _seeing(text: dict[str, Any], vision: dict[str, Any]) -> dict[str, Any]:
    return {"text_config": {**SMALL, **text}, "vision_config": vision, "eos_token_id": 1}


_LONG_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0] * 4,
    "long_factor": [1.5, 2.0, 3.0, 4.0],
    "factor": 4.0,
    "original_max_position_embeddings": 40,
}

BUILDERS: dict[str, tuple[str, dict[str, Any]]] = {
    # attention to all that came before
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "olmo": ("olmo", {}),
    "olmo2": ("olmo2", {}),
    "phi": ("phi", {}),
    "phi3": ("phi3", {}),
    "gemma": ("gemma", {"head_dim": 8}),
    "cohere": ("cohere", {}),
    "glm": ("glm", {"head_dim": 8}),
    "glm4": ("glm4", {"head_dim": 8}),
    "granite": ("granite", {}),
    "nemotron": ("nemotron", {"head_dim": 8}),
    "stablelm": ("stablelm", {}),
    "smollm3": ("smollm3", {}),
    "apertus": ("apertus", {}),
    "arcee": ("arcee", {"head_dim": 8}),
    "bitnet": ("bitnet", {}),
    "ernie4.5": ("ernie4_5", {"head_dim": 8}),
    "helium": ("helium", {"head_dim": 8}),
    "hunyuan": ("hunyuan_v1_dense", {"head_dim": 8}),
    "jais2": ("jais2", {"head_dim": 8}),
    "nanochat": ("nanochat", {}),
    "seed-oss": ("seed_oss", {"head_dim": 8}),
    "persimmon": ("persimmon", {}),
    "gpt-neox": ("gpt_neox", {**_NO_GROUPS}),
    "gptj": ("gptj", _GPT),
    "codegen": ("codegen", _GPT),
    # positions that are learned, sinusoidal or a bias
    "gpt2": ("gpt2", _GPT),
    "openai-gpt": ("openai-gpt", _GPT),
    "gpt-bigcode": ("gpt_bigcode", _GPT),
    "opt": ("opt", {**_NO_GROUPS, "ffn_dim": 64, "word_embed_proj_dim": 32}),
    "xglm": ("xglm", {**_NO_GROUPS, "d_model": 32, "ffn_dim": 64, "num_layers": 3, "attention_heads": 4}),
    "biogpt": ("biogpt", {**_NO_GROUPS}),
    "bloom": ("bloom", {**_NO_GROUPS, "n_layer": 3, "n_head": 4}),
    "mpt": ("mpt", {**_NO_GROUPS, "d_model": 32, "n_heads": 4, "n_layers": 3, "max_seq_len": 256}),
    "falcon": ("falcon", {**_NO_GROUPS}),
    "falcon-alibi": ("falcon", {**_NO_GROUPS, "alibi": True}),
    "falcon-new": ("falcon", {**_NO_GROUPS, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "bert": ("bert", {**_NO_GROUPS, "is_decoder": True}),
    "llama-yarn": ("llama", {"rope_parameters": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0}}),
    "llama-dynamic": (
        "llama",
        {"max_position_embeddings": 40, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "llama-longrope": ("llama", {"rope_parameters": _LONG_ROPE}),
    "phi3-longrope": ("phi3", {"rope_parameters": _LONG_ROPE, "original_max_position_embeddings": 40}),
    # experts, and keys of low rank
    "mixtral": ("mixtral", _EXPERTS),
    "qwen2-moe": ("qwen2_moe", {**_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3-moe": ("qwen3_moe", {**_EXPERTS, "head_dim": 8}),
    "olmoe": ("olmoe", _EXPERTS),
    "flex-olmo": ("flex_olmo", _EXPERTS),
    "granite-moe": ("granitemoe", _EXPERTS),
    "jetmoe": ("jetmoe", {**_EXPERTS, "kv_channels": 8}),
    "minimax-m2": ("minimax_m2", {**_EXPERTS, "head_dim": 8}),
    "ernie4.5-moe": ("ernie4_5_moe", {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 16}),
    "glm4-moe": ("glm4_moe", {**_DEEP, "head_dim": 8}),
    "deepseek-v2": ("deepseek_v2", {**_DEEP, "topk_method": "greedy"}),
    "deepseek-v3": ("deepseek_v3", _DEEP),
    "glm4-moe-lite": ("glm4_moe_lite", {**_DEEP, "mlp_layer_types": ["dense", "sparse", "sparse"]}),
    "youtu": ("youtu", _MLA),
    # windows, chunks and sparse attention
    "mistral": ("mistral", {"sliding_window": WINDOW}),
    "ministral3": ("ministral3", {"head_dim": 8, "sliding_window": WINDOW}),
    "qwen2-window": ("qwen2", {"use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1}),
    "starcoder2": ("starcoder2", {"sliding_window": WINDOW}),
    "phi3-window": ("phi3", {"sliding_window": WINDOW}),
    "gemma2": ("gemma2", _GEMMA),
    "gemma3-text": ("gemma3_text", _GEMMA),
    "vaultgemma": ("vaultgemma", _GEMMA),
    "gemma4-text": ("gemma4_text", {**_ALTERNATE, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 512}),
    "cohere2": ("cohere2", _ALTERNATE),
    "exaone4": ("exaone4", _ALTERNATE),
    "olmo3": ("olmo3", _ALTERNATE),
    "afmoe": ("afmoe", {**_ALTERNATE, **_EXPERTS, "num_shared_experts": 1}),
    "gpt-oss": ("gpt_oss", {**_ALTERNATE, **_EXPERTS}),
    "laguna": (
        "laguna",
        {
            **_ALTERNATE,
            **_EXPERTS,
            "shared_expert_intermediate_size": 16,
            "num_attention_heads_per_layer": [4, 4, 4],
            "mlp_layer_types": ["dense", "sparse", "sparse"],
        },
    ),
    "modernbert-decoder": ("modernbert-decoder", {**_ALTERNATE, "local_attention": 2 * WINDOW}),
    "gpt-neo": (
        "gpt_neo",
        {**_NO_GROUPS, "num_hidden_layers": 4, "attention_types": [[["global", "local"], 2]], "window_size": WINDOW},
    ),
    "llama4-text": (
        "llama4_text",
        {
            **_EXPERTS,
            "head_dim": 8,
            "intermediate_size_mlp": 64,
            "attention_chunk_size": WINDOW,
            "layer_types": ["chunked_attention", "full_attention", "chunked_attention"],
            "no_rope_layers": [1, 0, 1],
            "floor_scale": 8,
            "num_experts_per_tok": 1,
        },
    ),
    "glm-moe-dsa": (
        "glm_moe_dsa",
        {
            **_DEEP,
            "mlp_layer_types": ["dense", "sparse", "sparse"],
            "index_topk": 8,
            "index_head_dim": 8,
            "index_n_heads": 16,
        },
    ),
    "deepseek-v4": ("deepseek_v4", {**_DEEP, "head_dim": 8, "sliding_window": WINDOW, "o_groups": 2, "o_lora_rank": 8}),
    # recurrent and convolutional layers
    "qwen3-next": ("qwen3_next", {**_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "qwen3.5": ("qwen3_5_text", _DELTA),
    "qwen3.5-moe": ("qwen3_5_moe_text", {**_DELTA, **_EXPERTS, "shared_expert_intermediate_size": 16}),
    "olmo-hybrid": ("olmo_hybrid", _DELTA),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention", "conv"]}),
    "lfm2-moe": ("lfm2_moe", {**_EXPERTS, "num_dense_layers": 1, "layer_types": ["conv", "full_attention", "conv"]}),
    "granite-hybrid": (
        "granitemoehybrid",
        {
            **_MAMBA_2,
            "num_local_experts": 0,
            "layer_types": ["mamba", "attention", "mamba"],
            "shared_intermediate_size": 32,
        },
    ),
    "granite-hybrid-rope": (
        "granitemoehybrid",
        {
            **_MAMBA_2,
            "num_local_experts": 0,
            "layer_types": ["mamba", "attention", "mamba"],
            "shared_intermediate_size": 32,
            "position_embedding_type": "rope",
        },
    ),
    "bamba": ("bamba", {**_MAMBA_2, "attn_layer_indices": [1]}),
    "falcon-h1": ("falcon_h1", {**_MAMBA_2, "mamba_d_ssm": 64}),
    "jamba": (
        "jamba",
        {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4, "num_experts": 2},
    ),
    "nemotron-h": (
        "nemotron_h",
        {
            "layers_block_type": ["linear_attention", "full_attention", "mlp"],
            "head_dim": 8,
            "ssm_state_size": 8,
            "mamba_num_heads": 4,
            "mamba_head_dim": 16,
            "n_groups": 1,
            "chunk_size": 8,
        },
    ),
    "zamba2": (
        "zamba2",
        {"layers_block_type": ["linear_attention", "hybrid", "linear_attention"], "n_mamba_heads": 4, "chunk_size": 8},
    ),
    "recurrent-gemma": (
        "recurrent_gemma",
        {"attention_window_size": WINDOW, "lru_width": 32, "head_dim": 8, "num_key_value_heads": 4},
    ),
    "mamba": ("mamba", {"state_size": 8, "time_step_rank": 4}),
    "mamba2": ("mamba2", {"state_size": 8, "num_heads": 4, "head_dim": 16, "n_groups": 1, "chunk_size": 8}),
    "falcon-mamba": ("falcon_mamba", {"state_size": 8, "time_step_rank": 4}),
    "rwkv": ("rwkv", {"attention_hidden_size": 32, "context_length": 256}),
    # texts of models that also see
    "gemma3": (
        "gemma3",
        {
            **_seeing(_GEMMA, _PICTURES),
            "mm_tokens_per_image": 4,
            "image_token_index": 511,
            "boi_token_index": 510,
            "eoi_token_index": 509,
        },
    ),
    "qwen3.5-multimodal": (
        "qwen3_5",
        _seeing({**_DELTA, "rope_parameters": {**_MROPE, "partial_rotary_factor": 1.0}}, _QWEN_VISION),
    ),
    "qwen2.5-vl": ("qwen2_5_vl", _seeing({"rope_parameters": _MROPE}, _QWEN_VISION)),
    "qwen3-vl": (
        "qwen3_vl",
        _seeing({"rope_parameters": _MROPE, "head_dim": 8}, {**_QWEN_VISION, "deepstack_visual_indexes": [0]}),
    ),
    "llava": ("llava", _seeing({"model_type": "llama"}, {**_PICTURES, "model_type": "clip_vision_model"})),
    "mistral3": (
        "mistral3",
        _seeing({"model_type": "mistral", "sliding_window": WINDOW}, {**_PICTURES, "model_type": "pixtral"}),
    ),
}


REFUSED = {
    "helium": "Unsupported architecture",
    "persimmon": "Unsupported architecture",
    "biogpt": "Unsupported architecture",
    "openai-gpt": "hook_resid_post",
    "falcon-alibi": "logits differ",
    "falcon-new": "cannot wrap FalconForCausalLM",
    "deepseek-v4": "no hook point",
    "granite-hybrid": "rotary_emb",
    "qwen2.5-vl": "torchvision",
    "qwen3-vl": "torchvision",
}
"""Those that TransformerLens cannot wrap, and what is said."""

# Those that would repeat the token they read, as their embeddings are tied or their layers weak.
SHARP = {"gpt2", "gpt-bigcode", "opt", "jetmoe", "starcoder2", "gpt-neox", "gpt-neo", "xglm", "bloom", "mpt", "smollm3"}
SHARP |= {"cohere", "jais2", "gemma", "vaultgemma", "phi", "stablelm", "ernie4.5", "ernie4.5-moe", "mistral3"}


def build(name: str, factor: float = 4.0) -> Any:
    """The model, its weights scaled so that the tokens it writes vary; every call gives the same ones."""
    kind, changes = copy.deepcopy(BUILDERS[name])  # configurations change what they are given
    given = changes if "text_config" in changes else SMALL | changes
    config = AutoConfig.for_model(kind, **{key: value for key, value in given.items() if value is not None})
    torch.manual_seed(0)
    try:
        hf = AutoModelForCausalLM.from_config(config)
    except ValueError:
        hf = AutoModelForImageTextToText.from_config(config)
    hf = hf.float().eval()
    with torch.no_grad():
        for at, parameter in hf.named_parameters():
            if parameter.ndim >= 2:
                inner = (
                    name in SHARP and len(parameter) != SMALL["vocab_size"] and "embed" not in at and "wpe" not in at
                )
                parameter.mul_(6 * factor if inner else factor)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    hf.generation_config.eos_token_id = 1
    hf.generation_config.pad_token_id = 0
    return hf

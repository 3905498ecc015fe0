"""The tags of debates as tokens of their own, with initial embeddings."""

from __future__ import annotations

import copy
from typing import Any

import torch
from tokenizers import AddedToken

from interp.debate.transcript import END_TAG, all_tags

NOISE = 0.1
"""Standard deviation of the noise on a new row, relative to that of all rows: tells tags of the same words apart."""


def add_tags(hf: Any, tokenizer: Any, n_agents: int, n_rounds: int, seed: int) -> tuple[Any, dict[str, list[int]]]:
    """Make every tag of debates of this size one special token; changes `hf` in place, but not the tokenizer.

    A new row of the embeddings (input, and output unless tied) is the mean over the tokens of the tag's own words
    plus small seeded noise. Returns the new tokenizer and the ids of all tags by module: `trainable_token_indices`.
    """
    extended = copy.deepcopy(tokenizer)
    tags = all_tags(n_agents, n_rounds)
    new = [tag for tag in tags if tag not in extended.get_vocab()]
    extended.add_tokens([AddedToken(tag, special=True, normalized=False) for tag in tags], special_tokens=True)
    if len(extended) > hf.get_input_embeddings().weight.shape[0]:
        hf.resize_token_embeddings(len(extended), mean_resizing=False)
    embeddings = [hf.get_input_embeddings()]
    if hf.get_output_embeddings().weight is not embeddings[0].weight:
        embeddings.append(hf.get_output_embeddings())
    noise = torch.Generator().manual_seed(seed)
    texts = [" end of debate" if tag == END_TAG else " " + tag.strip("<|>") for tag in new]
    words = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    with torch.no_grad():
        for module in embeddings:
            weight = module.weight
            spread = NOISE * weight[: len(tokenizer)].float().std()
            for tag, own in zip(new, words, strict=True):
                row = weight[own].float().mean(0)
                row = row + spread * torch.randn(row.shape, generator=noise).to(row)
                weight[extended.convert_tokens_to_ids(tag)] = row.to(weight)
    ids = [extended.convert_tokens_to_ids(tag) for tag in tags]
    names = {id(module): name.rpartition(".")[2] for name, module in hf.named_modules()}
    return extended, {names[id(module)]: list(ids) for module in embeddings}

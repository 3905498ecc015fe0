"""How directions are extracted, as settings. Knows names and numbers; loads nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from interp.errors import UserError
from interp.models.layers import Site, parse_layers
from interp.options import LARGEST_SEED, check_choices, option

By = Literal["agent", "persona"]
Position = Literal["last", "mean", "tag"]
ForeignSite = Literal["resid_post", "attn_out", "mlp_out", "hidden_states"]
Format = Literal["gguf", "safetensors", "steering-vectors", "persona-vectors", "caa"]
Estimator = Literal["mean_difference", "pca_of_differences", "centred_pca", "logistic", "lda"]


def parse_batch_tokens(text: str) -> int | None:
    """A number of tokens; None for `auto`.

    >>> parse_batch_tokens("4096")
    4096
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"{text!r}: cannot be read; give auto, or a number of tokens")
    return int(text)


@dataclass(frozen=True)
class ReadingSettings:
    """What `extract_directions` and `fit` have in common."""

    layers: tuple[int, ...] | None = option(None, parse=parse_layers, shown="all")
    """Layers: all, or numbers and ranges such as 0,10-15."""
    site: Site = "resid_post"
    """Hook point to read in each layer."""
    batch_tokens: int | None = option(None, parse=parse_batch_tokens, shown="auto")
    """Tokens read at once: auto, which is 2048 on a CPU and what the memory of a GPU takes, or a number."""
    skip_long: bool = False
    """Leave out texts longer than the model's context."""
    keep_activations: bool = False
    """Keep activations.safetensors: every text at every layer."""
    controls: bool = True
    """Also read an untrained model, and the text alone, and say what is beyond both."""
    seed: int = option(0, min=0, max=LARGEST_SEED)
    """Random seed."""

    def __post_init__(self) -> None:
        check_choices(self)


def require_name(label: str) -> None:
    """Raises `UserError` for a label that no direction can be asked for by: a number is an agent's seat."""
    if not label.strip() or label.isdecimal():
        raise UserError(f"label {label!r}: not a name; give a word, such as cheerful")


@dataclass(frozen=True)
class ExtractionSettings(ReadingSettings):
    """What `extract_directions` reads, contrasts and keeps.

    >>> interp.directions.ExtractionSettings(layers=(1, 2)).position
    'last'
    """

    position: Position = "last"
    """Token of a turn to read: its last, the mean over the turn, or its tag (before the agent speaks)."""
    by: By = "agent"
    """Contrast the seats (agent) or the characters in them (persona)."""
    by_round: bool = False
    """Also keep a direction for each round."""
    estimator: ClassVar[Estimator] = "mean_difference"


@dataclass(frozen=True)
class FitSettings(ReadingSettings):
    """What `fit` reads of pairs of texts, and how it makes a direction of them.

    >>> interp.directions.FitSettings(estimator="lda").label
    'positive'
    """

    estimator: Estimator = "mean_difference"
    """How differences become a direction: their mean, principal component, or a classifier's weights."""
    label: str = "positive"
    """What the direction is of."""
    position: Literal["last", "mean"] = "last"
    """Token of a text to read: its last, or the mean over the text without its prompt."""
    chat: bool = False
    """Put each prompt into the model's chat template, and the texts as its answers."""
    by: ClassVar[str] = "pair"
    by_round: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require_name(self.label)

"""What requests may say, checked, and the texts that they ask for."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Lt, MaxLen, MinLen
from pydantic import AfterValidator

from interp.debate.agents import Sampling
from interp.directions.directions import Directions
from interp.directions.subspaces import random_directions
from interp.errors import UserError
from interp.generation.drawing import Drawing
from interp.interventions.steer import make_steering, prompt_ids, prompt_of
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.options import LARGEST_SEED, one_of
from interp.serving.engine import Refused, Text
from interp.steering.settings import SteeringSettings
from interp.steering.steering import Steering
from interp.storage.files import EXACT

Positive = Annotated[int, Ge(1)]
Label = str | int


def _only(*allowed: Any) -> Any:
    """What other servers know and this one does not: only as it is when left out."""

    def check(value: Any) -> Any:
        if not any(type(value) is type(known) and value == known for known in allowed):
            raise ValueError("not supported; leave it out")
        return value

    return Annotated[Any, AfterValidator(check)]


@dataclass(frozen=True)
class Along(SteeringSettings):
    """One steering of a request."""

    __pydantic_config__ = EXACT
    directions: str = ""
    direction_of: Label | tuple[Label, ...] = ()
    coefficient: float | None = None
    like: Label = ""
    seed: Annotated[int, Ge(0), Lt(LARGEST_SEED)] = 0

    def settings(self) -> SteeringSettings:
        """As the command line has them."""
        own = {field.name: getattr(self, field.name) for field in fields(SteeringSettings)}
        return SteeringSettings(**own | ({} if self.coefficient is None else {"coefficients": (self.coefficient,)}))

    def found(self, loaded: Mapping[str, Directions]) -> tuple[str, Directions, list[str]]:
        """The name of the file, its directions with a random one if that is asked for, and the labels asked for."""
        name = self.directions or next(iter(loaded), "")
        if not loaded:
            raise UserError("directions: none are loaded; start the server with --directions")
        one_of("directions", name, loaded)
        found, of = loaded[name], self.direction_of
        labels = [str(label) for label in (of if isinstance(of, tuple) else (of,))] or [found.labels[0]]
        if "random" in labels and "random" not in found.labels:
            found = _with_random(found, self.like or found.labels[0], self.seed)
        return name, found, labels

    def steering(self, loaded: Mapping[str, Directions], model: Model) -> Steering:
        _, found, labels = self.found(loaded)
        return make_steering(found, labels, self.settings(), model)


@dataclass(frozen=True)
class _StreamOptions:
    __pydantic_config__ = EXACT
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What chats and completions have in common."""

    __pydantic_config__ = EXACT
    model: str = ""
    max_tokens: Positive | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Annotated[tuple[Annotated[str, MinLen(1)], ...], MaxLen(16)] | None = None
    n: Positive | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    steering: Along | Annotated[tuple[Along, ...], MaxLen(16)] | None = None
    coefficients: Annotated[tuple[float, ...], MinLen(1)] | None = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    logprobs: _only(None, False) = None  # type: ignore[valid-type]
    logit_bias: _only(None, {}) = None  # type: ignore[valid-type]
    frequency_penalty: _only(None, 0, 0.0) = None  # type: ignore[valid-type]
    presence_penalty: _only(None, 0, 0.0) = None  # type: ignore[valid-type]

    def sampling(self, limit: int) -> Sampling:
        """How the texts are drawn; as elsewhere, at temperature 1 unless said otherwise."""
        most = self.max_tokens or getattr(self, "max_completion_tokens", None) or min(limit, 512)
        if most > limit:
            raise Refused(400, f"max_tokens {most}: this server writes at most {limit}", "max_tokens")
        seed = random.getrandbits(32) if self.seed is None else self.seed
        drawn = (1.0 if value is None else value for value in (self.temperature, self.top_p))
        return Sampling(most, *drawn, seed)

    def along(self, model: Model, loaded: Mapping[str, Directions]) -> list[Along]:
        """The steerings of the model's name and of the request."""
        own = self.steering or ()
        return [*named(self.model, served_name(model), loaded), *(own if isinstance(own, tuple) else (own,))]

    def prompts(self, model: Model) -> list[list[int]]:
        raise NotImplementedError

    def texts(self, model: Model, loaded: Mapping[str, Directions], limit: int, most: int) -> list[Text]:
        """The texts to write: of each prompt `n`, with seeds that count on, or one for each coefficient.

        Raises `UserError` or `Refused` for what cannot be done.
        """
        sampling, along, copies = self.sampling(limit), self.along(model, loaded), self.n or 1
        each = [along] * copies
        if self.coefficients is not None:
            if not isinstance(self.steering, Along) or copies > 1:
                raise Refused(400, "coefficients: give one steering, and no n", "coefficients")
            each = [[*along[:-1], replace(along[-1], coefficient=c)] for c in self.coefficients]
        prompts = self.prompts(model)
        if len(each) * len(prompts) > most:
            raise Refused(400, f"{len(each) * len(prompts)} texts: give at most {most} a request", "n")
        steerings, made = [], dict[int, Steering]()
        for own in each:
            steering = made.get(id(own)) or sum((one.steering(loaded, model) for one in own), Steering())
            steerings.append(made.setdefault(id(own), steering))
        context, drawing = model.context_length or 2**31, Drawing(sampling.temperature, sampling.top_p)
        stop = (self.stop,) if isinstance(self.stop, str) else self.stop or ()
        texts = []
        for ids in prompts:
            if not ids:
                raise Refused(400, "prompt: empty; give at least one token", "prompt")
            if len(ids) >= context:
                code, limits = "context_length_exceeded", f"{model.name} reads {context:,} with its answer"
                raise Refused(400, f"prompt: {len(ids):,} tokens, and {limits}; shorten it", "prompt", code)
            room = min(sampling.max_new_tokens, context - len(ids))
            for k, steering in enumerate(steerings):
                seed = (sampling.seed + (0 if self.coefficients else k)) % 2**63
                texts.append(Text(ids, room, steering.changes, drawing, seed, [s for s in stop if s]))
        return texts


@dataclass(frozen=True, kw_only=True)
class Chat(Request):
    messages: list[Any]
    max_completion_tokens: Positive | None = None
    top_logprobs: _only(None, 0) = None  # type: ignore[valid-type]
    tools: _only(None, []) = None  # type: ignore[valid-type]
    tool_choice: _only(None, "none", "auto") = None  # type: ignore[valid-type]
    response_format: _only(None, {"type": "text"}) = None  # type: ignore[valid-type]
    parallel_tool_calls: Any = None

    def prompts(self, model: Model) -> list[list[int]]:
        return [prompt_ids(model.tokenizer, prompt_of(self.messages, "messages"), "chat")]


@dataclass(frozen=True, kw_only=True)
class Completion(Request):
    prompt: str | tuple[str, ...] | tuple[int, ...] | tuple[tuple[int, ...], ...]
    echo: _only(None, False) = None  # type: ignore[valid-type]
    suffix: _only(None, "") = None  # type: ignore[valid-type]
    best_of: _only(None, 1) = None  # type: ignore[valid-type]

    def prompts(self, model: Model) -> list[list[int]]:
        one = isinstance(self.prompt, str) or not self.prompt or isinstance(self.prompt[0], int)
        encode, n_tokens = Encoder(model.tokenizer), model.hf.get_input_embeddings().weight.shape[0]
        each: Sequence[Any] = [self.prompt] if one else self.prompt
        prompts = [encode.prompt(prompt) if isinstance(prompt, str) else list(prompt) for prompt in each]
        if unknown := [token for ids in prompts for token in ids if not 0 <= token < n_tokens]:
            raise Refused(400, f"prompt: no token {unknown[0]}; {model.name} has 0 to {n_tokens - 1}", "prompt")
        return prompts


def served_name(model: Model) -> str:
    """What requests call the model."""
    return Path(model.name).name or model.name


_PART = re.compile(r"(?:(?P<file>[^/@+]+)/)?(?P<label>[^/@+:]+)(?:@(?P<coefficient>[-\d.]+))?(?::(?P<layer>\d{1,4}))?")


def named(name: str, base: str, loaded: Mapping[str, Directions]) -> list[Along]:
    """The steerings in a model's name, `BASE+LABEL@COEFFICIENT:LAYER+…`; raises `Refused` for one that is not served.

    >>> from interp.serving.requests import named
    >>> named("organism+agent-2@0.3:1", "organism", {"found": found})[0].settings().coefficients
    (0.3,)
    """
    parts = [] if name in ("", base) else name.removeprefix(base).split("+")
    if not name.startswith(base) or (parts and parts[0]):
        raise Refused(404, f"model {name[:80]}: not served; this is {base}", "model", "model_not_found")
    made = []
    for part in parts[1:]:
        match = _PART.fullmatch(part)
        file = (match and match["file"]) or next(iter(loaded), "")
        labels = {form: label for label in getattr(loaded.get(file), "labels", ()) for form in (label, dashed(label))}
        try:
            label = labels[match["label"]] if match else ""
            given = match and match["coefficient"]
            amount = float(given) if given else 0.2
        except (KeyError, ValueError):
            label = ""
        if not label or match is None:
            example = ", ".join(map(dashed, labels)) or "start the server with --directions"
            raise Refused(404, f"model {name[:80]}: no steering {part[:40]}; {example}", "model", "model_not_found")
        layers = (int(match["layer"]),) if match["layer"] else ()
        made.append(Along(directions=file, direction_of=label, coefficient=amount, layers=layers))
    return made


def dashed(label: str) -> str:
    return label.replace(" ", "-")


def _with_random(found: Directions, like: Label, seed: int) -> Directions:
    """The directions with one more, `random`: drawn from the covariance of the activations, or where that is not known
    from all directions alike, and as long as that of `like`."""
    each, free = [found[like, layer] for layer in found.layers], np.random.default_rng(seed)
    known = [d if d.spread is not None else replace(d, spread=free.standard_normal((1, len(d.vector)))) for d in each]
    vectors = np.stack([random_directions(direction, 1, seed)[0].vector for direction in known])
    whole = found.vectors[found.rounds.index("all"), :]
    vectors = np.concatenate([whole, vectors[None]])[None]
    return replace(found, labels=(*found.labels, "random"), rounds=("all",), vectors=vectors)

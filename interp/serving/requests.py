"""What requests may say, checked, and the texts that they ask for."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Le, Lt, MaxLen, MinLen

from interp.debate.agents import Sampling
from interp.directions.directions import Directions
from interp.directions.subspaces import random_directions
from interp.generation.drawing import Drawing
from interp.interventions.steer import make_steering, prompt_ids, prompt_of
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.options import LARGEST_SEED, one_of
from interp.probing.probe import Probe
from interp.probing.settings import Gating
from interp.serving.engine import Refused, Text
from interp.steering.changes import Gate
from interp.steering.settings import SteeringSettings
from interp.steering.steering import Steering
from interp.storage.files import EXACT

LIMIT, USUAL = 2048, 512
"""Most tokens that a text may have, and has where a request does not say."""
Loaded = Mapping[str, Directions]
Probes = Mapping[str, Probe]
Label = str | int
Positive = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Along(SteeringSettings, Gating):
    """One steering of a request."""

    __pydantic_config__ = EXACT
    directions: str = ""
    direction_of: Label | Annotated[tuple[Label, ...], MinLen(1)] = ""
    coefficient: float | None = None
    like: Label = ""
    seed: Annotated[int, Ge(0), Lt(LARGEST_SEED)] = 0

    def gated(self, probes: Probes) -> Gate | None:
        """Where it acts, `when` being a probe's name."""

        def named(name: Path) -> Probe:
            one_of("when", str(name), probes or ["the probes that the server is started with"])
            return probes[str(name)]

        return self.gate(named)

    def settings(self) -> SteeringSettings:
        own = {field.name: getattr(self, field.name) for field in fields(SteeringSettings)}
        return SteeringSettings(**own | ({} if self.coefficient is None else {"coefficients": (self.coefficient,)}))

    def found(self, loaded: Loaded) -> tuple[str, Directions, list[str]]:
        """The file's name, its directions with a random one if that is asked for, and the labels asked for."""
        name, of = self.directions or next(iter(loaded), ""), self.direction_of
        one_of("directions", name, loaded or ["those that the server is started with"])
        labels = [str(label) or loaded[name].labels[0] for label in (of if isinstance(of, tuple) else (of,))]
        random = "random" in labels
        return name, with_random(loaded[name], self.like, self.seed) if random else loaded[name], labels


@dataclass(kw_only=True)
class Request:
    """What chats and completions have in common; what would change the text and is not known here is refused."""

    __pydantic_config__ = EXACT
    model: str = ""
    max_tokens: Positive | None = None
    max_completion_tokens: Positive | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: str | Annotated[tuple[Annotated[str, MinLen(1)], ...], MaxLen(16)] | None = None
    n: Positive | None = None
    stream: bool | None = None
    stream_options: dict[str, bool | None] | None = None
    steering: Along | Annotated[tuple[Along, ...], MaxLen(16)] | None = None
    coefficients: Annotated[tuple[float, ...], MinLen(1)] | None = None
    user: str | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: Annotated[float, Ge(0), Le(0)] | None = None
    presence_penalty: Annotated[float, Ge(0), Le(0)] | None = None

    @property
    def sampling(self) -> Sampling:
        """How the texts are drawn: at temperature 1 unless said otherwise, as elsewhere."""
        most = self.max_tokens or self.max_completion_tokens or USUAL
        if most > LIMIT:
            raise Refused(400, f"max_tokens {most}: this server writes at most {LIMIT}", "max_tokens")
        temperature, top_p = (1.0 if value is None else value for value in (self.temperature, self.top_p))
        return Sampling(most, temperature, top_p, random.getrandbits(32) if self.seed is None else self.seed)

    def along(self, model: Model, loaded: Loaded) -> list[Along]:
        """The steerings of the model's name and of the request."""
        own = self.steering or ()
        return [*named(self.model, served_name(model), loaded), *(own if isinstance(own, tuple) else (own,))]

    def texts(self, model: Model, loaded: Loaded, probes: Probes, most: int) -> list[Text]:
        """The texts to write: of each prompt `n`, with seeds that count on, or one for each coefficient.

        Raises `UserError` or `Refused` for what cannot be done.
        """
        sampling, along, prompts = self.sampling, self.along(model, loaded), _prompts(self, model.tokenizer)
        each = [along] if self.coefficients is None else []
        if self.coefficients is not None:
            if not isinstance(self.steering, Along) or (self.n or 1) > 1:
                raise Refused(400, "coefficients: give one steering, and no n", "coefficients")
            each = [[*along[:-1], replace(along[-1], coefficient=c)] for c in self.coefficients]
        if len(each) * len(prompts) * (self.n or 1) > most:
            raise Refused(400, f"n: give at most {most} texts a request", "n")

        def made(one: Along) -> Steering:
            return make_steering(*one.found(loaded)[1:], one.settings(), model, when=one.gated(probes))

        steerings = [sum(map(made, own), Steering()).changes for own in each]
        drawing, context = Drawing(sampling.temperature, sampling.top_p), model.context_length or 2**31
        stop, texts = (self.stop,) if isinstance(self.stop, str) else self.stop or (), list[Text]()
        for ids in prompts:
            if not 0 < len(ids) < context:
                code = "context_length_exceeded" if ids else None
                has = f"{len(ids):,} tokens, and {model.name} reads {context:,} with its answer; shorten it"
                raise Refused(400, f"prompt: {has if ids else 'empty; give at least one token'}", "prompt", code)
            room = min(sampling.max_new_tokens, context - len(ids))
            for changes in steerings:
                for k in range(self.n or 1):
                    seed = (sampling.seed + k) % 2**63
                    texts.append(Text(ids, room, changes, drawing, seed, model.tokenizer, [s for s in stop if s]))
        return texts


@dataclass(kw_only=True)
class Chat(Request):
    messages: list[Any]


@dataclass(kw_only=True)
class Completion(Request):
    prompt: str | Annotated[tuple[str, ...], MinLen(1)]


def _prompts(asked: Any, tokenizer: Any) -> list[list[int]]:
    if isinstance(asked, Chat):
        return [prompt_ids(tokenizer, prompt_of(asked.messages, "messages"), "chat")]
    return [*map(Encoder(tokenizer).prompt, (asked.prompt,) if isinstance(asked.prompt, str) else asked.prompt)]


def served_name(model: Model) -> str:
    """What requests call the model."""
    return Path(model.name).name or model.name


_PART = re.compile(r"(?:([^/@+]+)/)?([^/@+:]+)(?:@(-?\d+\.?\d*|-?\.\d+))?(?::(\d{1,4}))?")


def named(name: str, base: str, loaded: Loaded) -> list[Along]:
    """The steerings in a model's name, `BASE+LABEL@COEFFICIENT:LAYER+…`; `Refused` for one that is not served."""
    rest, made = name.removeprefix(base), list[Along]()
    if name and (not name.startswith(base) or (rest and rest[0] != "+")):
        raise Refused(404, f"model {name[:80]}: not served; this is {base}", "model", "model_not_found")
    for part in rest.split("+")[1:]:
        match = _PART.fullmatch(part)
        file, label, amount, layer = match.groups() if match else (None, part, None, None)
        file = file or next(iter(loaded), "")
        labels = {label.replace(" ", "-"): label for label in getattr(loaded.get(file), "labels", ())}
        label = labels.get(label.replace(" ", "-"), "")
        if match is None or not label:
            known = f"choose one of {', '.join(labels)}" if labels else "start the server with --directions"
            raise Refused(404, f"model {name[:80]}: no steering {part[:40]}; {known}", "model", "model_not_found")
        amount, layers = float(amount or 0.2), (int(layer),) if layer else ()
        made.append(Along(directions=file, direction_of=label, coefficient=amount, layers=layers))
    return made


def with_random(found: Directions, like: Label, seed: int) -> Directions:
    """The directions and one more, `random`, as long as that of `like` (by default the first): drawn from the
    covariance of the activations, or, where that is not known, from all directions alike.

    >>> interp.serving.with_random(found, "agent 1", seed=0)["random", 2].label
    'random'
    """
    each = [found[like or found.labels[0], layer] for layer in found.layers]
    vectors = np.stack([random_directions(d, 1, seed, isotropic=d.spread is None)[0].vector for d in each])
    vectors = np.concatenate([found.vectors[found.rounds.index("all")], vectors[None]])[None]
    return replace(found, labels=(*found.labels, "random"), rounds=("all",), vectors=vectors)

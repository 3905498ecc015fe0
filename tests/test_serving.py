"""What OpenAI's client and the page get: each request under its own steering."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from conftest import make_tokenizer
from served import LABELS, alone, directions, http_client, openai_client, probe, served, serving_of, sharp

from interp.directions.directions import Directions
from interp.directions.extract import measured
from interp.interventions.steer import make_steering
from interp.models.model import Model
from interp.models.tokens import Encoder, prompt_tokens
from interp.probing.probe import Probe, read_scores
from interp.serving.engine import Text
from interp.serving.requests import with_random
from interp.steering.settings import SteeringSettings
from interp.steering.steering import add as added

model = pytest.fixture(sharp, scope="module")  # another than the server's, which belongs to the engine's thread
found = pytest.fixture(directions, scope="module")
mood = pytest.fixture(probe, scope="module")
server = pytest.fixture(served, scope="module")
client = pytest.fixture(openai_client)
http = pytest.fixture(http_client)


def test_the_client_lists_models_chats_completes_and_streams(
    model: Model, found: Directions, client: openai.OpenAI
) -> None:
    assert [card.id for card in client.models.list()] == ["tiny", "tiny+agent-1@0.2", "tiny+agent-2@0.2"]
    assert client.models.retrieve("tiny+agent-2@0.7:0").id == "tiny+agent-2@0.7:0"
    for unknown in ("gpt-9", "tiny+agent-7"):
        with pytest.raises(openai.NotFoundError, match=r"not served|no steering"):
            client.models.retrieve(unknown)
    messages: Any = [{"role": "user", "content": "What is 2+2?"}]
    ids = prompt_tokens(model.tokenizer, messages)
    steering = make_steering(found, ["2"], SteeringSettings(layers=(0,), coefficients=(0.7,)))
    steered = {"steering": {"direction_of": "agent 2", "layers": [0], "coefficient": 0.7}}
    plain = client.chat.completions.create(model="tiny", messages=messages, temperature=0, max_tokens=16)
    assert plain.choices[0].message.content == alone(model, ids)
    assert plain.usage is not None
    assert (plain.usage.prompt_tokens, plain.usage.completion_tokens) == (len(ids), 16)
    assert plain.choices[0].finish_reason == "length"
    how: Any = {"model": "tiny", "messages": messages, "temperature": 0, "max_completion_tokens": 16}
    told = client.chat.completions.create(**how, extra_body=steered)
    assert told.choices[0].message.content == alone(model, ids, steering) != alone(model, ids)
    pieces = list(
        client.chat.completions.create(**how, stream=True, stream_options={"include_usage": True}, extra_body=steered)
    )
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces[:-1]) == alone(model, ids, steering)
    assert pieces[-1].usage is not None
    assert pieces[-1].usage.completion_tokens == 16
    assert len(pieces) > 8, "it comes token by token"
    for name, coefficient, layer in (("tiny+agent-2@0.7:0", 0.7, 0), ("tiny+agent-1@-0.5", -0.5, 2)):
        label = name[5:12].replace("-", " ")
        own = make_steering(found, [label], SteeringSettings(layers=(layer,), coefficients=(coefficient,)))
        text = client.completions.create(model=name, prompt="Problem: ", temperature=0, max_tokens=16).choices[0].text
        assert text == alone(model, "Problem: ", own) != alone(model, "Problem: ")
    both = client.completions.create(
        model="tiny", prompt=["A", "B"], n=2, seed=3, max_tokens=9, temperature=0.9, top_p=0.8
    )
    drawn = {"max_new_tokens": 9, "temperature": 0.9, "top_p": 0.8}
    each = [alone(model, prompt, seeds=[seed], **drawn) for prompt in "AB" for seed in (3, 4)]
    assert [choice.text for choice in both.choices] == each
    assert len(set(each)) == 4


def test_several_steerings_act_together_and_a_random_one_is_as_long(
    model: Model, found: Directions, http: httpx.Client
) -> None:
    several = [
        {"direction_of": "agent 1", "coefficient": 0.4},
        {"direction_of": ["agent 1", "agent 2"], "operation": "ablate"},
    ]
    body = {"prompt": "Problem: ", "max_tokens": 16, "temperature": 0, "steering": several}
    steering = make_steering(found, ["1"], SteeringSettings(coefficients=(0.4,)))
    steering += make_steering(found, ["1", "2"], SteeringSettings(operation="ablate"))
    assert http.post("/v1/completions", json=body).json()["choices"][0]["text"] == alone(model, "Problem: ", steering)
    drawn = with_random(found, "agent 2", 5)["random", 2]
    assert drawn.norm == pytest.approx(found["agent 2", 2].norm, rel=1e-5)
    assert abs(drawn.cosine(found["agent 2", 2])) < 0.9
    unit = with_random(Directions(*list(vars(found).values())[:6]), "agent 2", 5)["random", 0]
    assert unit.norm == pytest.approx(found["agent 2", 0].norm, rel=1e-5), "also where the covariance is not known"
    body["steering"] = {"direction_of": "random", "like": "agent 2", "seed": 5, "coefficient": 0.6}
    text = http.post("/v1/completions", json=body).json()["choices"][0]["text"]
    assert text == alone(model, "Problem: ", added(drawn, 0.6))


def test_many_clients_with_different_steerings_get_what_they_would_get_alone(
    model: Model, found: Directions, http: httpx.Client
) -> None:
    def ask(k: int) -> str:
        steering = {"direction_of": LABELS[k % 2], "coefficient": (k - 8) / 8, "layers": [2 * (k % 3 // 2)]}
        body = {"prompt": f"Problem: {k}+2", "max_tokens": 4 + 2 * k, "temperature": k % 4 / 4, "seed": k}
        return str(http.post("/v1/completions", json={**body, "steering": steering}).json()["choices"][0]["text"])

    with ThreadPoolExecutor(16) as pool:
        texts = list(pool.map(ask, range(16)))
    for k, text in enumerate(texts):
        settings = SteeringSettings(layers=(2 * (k % 3 // 2),), coefficients=((k - 8) / 8,))
        steering = make_steering(found, [LABELS[k % 2]], settings)
        how = {"max_new_tokens": 4 + 2 * k, "temperature": k % 4 / 4, "seeds": [k]}
        assert text == alone(model, f"Problem: {k}+2", steering, **how)


def test_gated_rows_get_what_they_would_get_alone_beside_others(
    model: Model, found: Directions, mood: Probe, http: httpx.Client
) -> None:
    gates: list[dict[str, Any]] = [
        {},
        {"when": "mood", "above": 0.8},
        {"when": "mood", "when_class": "calm", "above": 0.9},
        {"when": "mood", "below": 0.3},
    ]

    def ask(k: int) -> str:
        steering = {"direction_of": LABELS[k % 2], "coefficient": 0.9, "layers": [2], "tokens": "everywhere"}
        body = {"prompt": f"Problem: {k}+2", "max_tokens": 8 + k, "temperature": 0, "steering": steering | gates[k % 4]}
        return str(http.post("/v1/completions", json=body).json()["choices"][0]["text"])

    with ThreadPoolExecutor(12) as pool:
        texts = list(pool.map(ask, range(12)))
    made = [None, mood > 0.8, mood.above(0.9, "calm"), mood < 0.3]
    settings = SteeringSettings(layers=(2,), coefficients=(0.9,), tokens="everywhere")
    differ = 0
    for k, text in enumerate(texts):
        each = [make_steering(found, [LABELS[k % 2]], settings, when=gate) for gate in made]
        alike = [alone(model, f"Problem: {k}+2", one, max_new_tokens=8 + k) for one in each]
        assert text == alike[k % 4]
        differ += len(set(alike))
    assert differ > 36, "gates matter here"


@pytest.mark.parametrize("kind", ["bytes", "merging", "metaspace"])
def test_what_is_told_piece_by_piece_is_the_text_up_to_a_stop_string(kind: str) -> None:
    tokenizer, text = make_tokenizer(kind), "Agent 1: naïve 12+5 = 17 – so — “ok” 👍🏽.\n\nAgent 2"
    ids = opening = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = tokenizer.decode(ids)

    def told(stop: Sequence[str]) -> tuple[str, str]:
        row = Text((), 99, (), None, 0, tokenizer, stop)  # type: ignore[arg-type]  # draws nothing
        pieces = list[str]()
        row.job = type(
            "Quiet", (), {"ends": 1e18, "cancelled": False, "tell": lambda _, at, *piece: pieces.append(piece[0])}
        )()
        for n in range(1, len(ids) + 1):
            if row.until(ids[:n]):
                break
        row.end(type("Written", (), {"ids": ids[:n], "ended": True, "finite": True, "n_tokens": n})())
        return "".join(pieces), row.reason

    assert told([]) == (whole, "")
    for stop in (["17"], ["\n\nAgent"], ["nothing", "5 = "], [whole[-1]], ["👍"]):
        assert told(stop) == (whole[: min(at for s in stop if (at := whole.find(s)) >= 0)], "stop")
    if kind == "metaspace":  # a byte that is a letter by itself, and nothing beside one that is no character
        letter, none = tokenizer.convert_tokens_to_ids(["<0x55>", "<0x80>"])
        for run in ([letter, none], [letter]):
            ids = [*opening[:3], *run, *opening[3:]]
            assert told([]) == (tokenizer.decode(ids), "")


def test_a_steering_that_overflows_ends_its_text_and_says_so(http: httpx.Client) -> None:
    body = {"prompt": "a", "max_tokens": 9, "steering": {"coefficient": 1e308}}
    made = http.post("/v1/completions", json=body).json()
    assert made["choices"][0]["finish_reason"] == "overflow"
    assert made["usage"]["completion_tokens"] < 9


def test_a_stop_string_ends_a_text(model: Model, http: httpx.Client) -> None:
    whole = alone(model, "Problem: ", max_new_tokens=40)
    stop = whole[10:13]
    body = {"prompt": "Problem: ", "max_tokens": 40, "temperature": 0, "stop": stop}
    choice = http.post("/v1/completions", json=body).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == (whole[: whole.find(stop)], "stop")


def test_the_page_learns_what_there_is_colours_tokens_sweeps_and_copies_commands(
    model: Model, found: Directions, http: httpx.Client
) -> None:
    info = http.get("/api/info").json()
    assert info["directions"][0] | {"labels": [*LABELS], "layers": [0, 2], "best_layers": [2]} == info["directions"][0]
    assert (info["model"], info["n_layers"], info["context_length"], info["chat"]) == ("tiny", 3, 600, False)
    read = http.post("/api/tokens", json={"prompt": "Problem: ", "text": "2+2"}).json()
    assert "".join(read["tokens"]) == "Problem: 2+2"
    assert "".join(read["tokens"][read["n_prompt"] :]) == "2+2"
    assert np.array(read["values"]).shape == (2, 2, len(read["tokens"]))
    assert read["lengths"] == [2.0, 4.0]
    steering = {"direction_of": "agent 2", "layers": [0]}
    body = {
        "prompt": "Problem: ",
        "steering": steering,
        "coefficients": [-1, 0, 1],
        "max_tokens": 12,
        "temperature": 0,
        "seed": 1,
    }
    swept = [choice["text"] for choice in http.post("/api/sweep", json=body).json()["choices"]]
    each = [make_steering(found, ["2"], SteeringSettings(layers=(0,), coefficients=(float(c),))) for c in (-1, 0, 1)]
    assert swept == [alone(model, "Problem: ", one, max_new_tokens=12) for one in each]
    assert len(set(swept)) == 3
    made = http.post("/api/command", json=body).json()
    assert made["command"].startswith("for c in -1.0 0.0 1.0; do interp steer --model tiny --directions ")
    assert printed(made["python"], model) == "".join(f"{text}\n" for text in swept)
    chat = {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "It's 2?"}], "n": 2}
    chat |= {
        "steering": [{"direction_of": "random", "seed": 2}, {**steering, "keep_norm": True}],
        "max_tokens": 8,
        "temperature": 0.8,
        "seed": 7,
    }
    texts = [each["message"]["content"] for each in http.post("/v1/chat/completions", json=chat).json()["choices"]]
    made = http.post("/api/command", json=chat).json()
    assert made["command"] == "", "the command line has no random direction"
    assert printed(made["python"], model) == "".join(f"{text}\n" for text in texts)


def test_tokens_in_the_colours_of_a_probe_say_its_probability(model: Model, mood: Probe, http: httpx.Client) -> None:
    info = http.get("/api/info").json()
    assert [each["name"] for each in info["directions"]] == ["found"]
    [held] = info["probes"]
    assert held | {"name": "mood", "labels": ["cross"], "layers": [1], "classes": ["calm", "cross"]} == held
    body = {"prompt": "Problem: ", "text": "2+2=4", "directions": "mood"}
    read = http.post("/api/tokens", json=body).json()
    encode = Encoder(model.tokenizer)
    ids = [*encode.prompt("Problem: "), *encode.continuation("2+2=4")]
    scores = read_scores(model, mood, ids)[:, 1]
    assert np.allclose(read["scores"], [scores], atol=1e-4)
    assert len({round(score) for score in scores}) == 2, "some are on each side"
    [along] = read["values"][0]
    logits = np.array(along) * mood.direction("cross", "logistic").norm
    assert np.allclose(1 / (1 + np.exp(-logits)), scores, atol=1e-3)
    assert read["covariance"]
    assert read["bounds"][0] > 0
    assert "scores" not in http.post("/api/tokens", json=body | {"directions": "found"}).json()


def test_what_is_copied_of_a_gate_does_the_same(model: Model, http: httpx.Client, interp: Any, tmp_path: Path) -> None:
    steering = {"direction_of": "agent 2", "coefficient": 0.9, "tokens": "everywhere", "when": "mood"}
    body = {"prompt": "Problem: ", "max_tokens": 12, "temperature": 0, "seed": 1}
    texts = set()
    for gate in ({"above": 0.8}, {"below": 0.3}, {"when_class": "calm", "above": 1e-9}):
        body["steering"] = steering | gate
        [choice] = http.post("/v1/completions", json=body).json()["choices"]
        made = http.post("/api/command", json=body).json()
        assert printed(made["python"], model) == f"{choice['text']}\n"
        assert steered(made["command"], model, interp, tmp_path) == choice["text"]
        texts.add(choice["text"])
    assert len(texts) > 1


def test_another_tools_vectors_are_measured_here(model: Model, found: Directions, interp: Any, tmp_path: Path) -> None:
    found.export(tmp_path / "theirs.pt", "agent 2")
    theirs = Directions.load(tmp_path / "theirs.pt")
    one = make_steering(measured(theirs, model), None, SteeringSettings(layers=(2,)))
    body: dict[str, Any] = {"prompt": "Problem: ", "steering": {"layers": [2]}, "max_tokens": 12, "temperature": 0}
    with serving_of(tmp_path, {"theirs": (tmp_path / "theirs.pt", theirs)}) as server:
        key = {"Authorization": f"Bearer {server.token}"}
        with httpx.Client(base_url=f"http://{server.host}", headers=key, timeout=60) as http:
            [choice] = http.post("/v1/completions", json=body).json()["choices"]
            assert choice["text"] == alone(model, "Problem: ", one, max_new_tokens=12)
            long = float(measured(theirs, model).residual_norm[-1])
            several: dict[str, Any]
            for several in ({}, {"units": "raw"}, {"layers": [0, 2]}, {"direction_of": "random", "coefficient": 0.7}):
                asked = body | {"steering": body["steering"] | several}
                [choice] = http.post("/v1/completions", json=asked).json()["choices"]
                made = http.post("/api/command", json=asked).json()
                assert printed(made["python"], model) == f"{choice['text']}\n"
                if "layers" in several or "direction_of" in several:
                    assert made["command"] == "", "a length for each layer, or a direction, that no option names"
                    continue
                assert steered(made["command"], model, interp, tmp_path) == choice["text"]
                size = "0.2 --units raw" if several else f"{0.2 * long!r} --units unit"
                assert f"--coefficients={size} " in made["command"]
            swept = body | {"coefficients": [-1, 1]}
            command = http.post("/api/command", json=swept).json()["command"]
            assert command.startswith(f"for c in {-long!r} {long!r}; do ")


def steered(command: str, model: Model, interp: Any, folder: Path) -> str:
    """What the command writes that the page copies, with this model in place of the one that it loads."""
    _, verb, *words = shlex.split(command)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.models.model.load_model", lambda *_, **__: model)
        code, _, error = interp(verb, *words, "--other-model", "--restart", "--out", folder / "out.jsonl")
    assert code == 0, error
    [record] = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    return str(record["steered"])


def printed(python: str, model: Model) -> str:
    """What the lines print that the page copies, with this model in place of the one that they load."""
    out = StringIO()
    with redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr("interp.load_model", lambda name: model)
        exec(python, {})
    return out.getvalue()

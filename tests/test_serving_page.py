"""The page of `interp serve` in a real browser, on the organism: by keyboard alone, on a phone, in the dark."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from browsing import Tab, is_cut, serious, tabbed
from served import HOOK, running

import interp as package
from interp.activations.reading import read_tokens
from interp.debate.agents import Sampling
from interp.directions.directions import Directions
from interp.directions.tokens import project_tokens
from interp.generation.sampling import generate
from interp.interventions.steer import make_steering, prompt_ids, side_by_side
from interp.models.model import Model
from interp.models.tokens import Encoder
from interp.probing.fitting import ProbeExamples
from interp.probing.probe import Probe, read_scores
from interp.steering.settings import SteeringSettings

QUESTION = "3+4*2"
PROBLEM = f"Problem: {QUESTION}\n\n"
DONE = "Three texts written."


class Served(NamedTuple):
    model: Model
    found: Directions
    digits: Probe
    url: str
    token: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    model, transcripts = package.load_model("organism"), package.find_transcripts("organism")
    found = package.extract_directions(model, transcripts[:20]).directions
    path = tmp_path_factory.mktemp("served") / "agents.safetensors"
    found.save(path)
    digits = numerals(model, [transcript.prompt for transcript in transcripts[:20]])
    digits.save(path.with_name("numerals.safetensors"))
    files: Any = {"agents": (path, found), "numerals": (path.with_name("numerals.safetensors"), digits)}
    with running(model, files) as server:
        own = package.load_model("organism")  # the server's thread owns the other
        yield Served(own, found, digits, f"http://{server.host}/?token={server.token}", server.token)


def numerals(model: Model, texts: Sequence[str]) -> Probe:
    """A probe of whether a token is a number, at layer 1."""
    pieces = [Encoder(model.tokenizer).pieces(text) for text in texts]
    values = read_tokens(model, [HOOK.format(layer=1)], [(ids, range(len(ids))) for ids, _ in pieces])
    labels = np.array([piece.strip().isdecimal() for _, strings in pieces for piece in strings]).astype(int)
    question = np.repeat(np.arange(len(pieces)), [len(ids) for ids, _ in pieces])
    examples = ProbeExamples(labels, question, ("other", "number"))
    return Probe.fit(np.concatenate(values)[:, 0], examples, layer=1)


@pytest.fixture
def tab(browser: Any, served: Served) -> Iterator[Tab]:
    opened = Tab(browser, served.url, viewport={"width": 1280, "height": 900})
    yield opened
    opened.context.close()


def texts(page: Any) -> list[str]:
    return [page.locator(f"#{column} .text").text_content() for column in ("unsteered", "steered", "random")]


def told(page: Any, what: str) -> None:
    page.locator("#status", has_text=what).wait_for()


def pair(served: Served, coefficient: float, prompt: Any = PROBLEM, form: Any = "text", **how: Any) -> Any:
    settings = SteeringSettings(**{"layers": (1,), "coefficients": (coefficient,), **how})
    steering = make_steering(served.found, ["agent 2"], settings, served.model)
    [made] = side_by_side(served.model, [prompt], steering, form=form, sampling=Sampling(60, 0.7, 1.0, 3))
    return made


def test_by_keyboard_alone(tab: Tab, served: Served, interp: Any, tmp_path: Path) -> None:
    page = tab.page
    page.locator("main").wait_for()
    assert served.token not in page.url
    assert page.locator(":focus").count() == 0
    tab.reach("prompt")
    page.keyboard.type(QUESTION)
    tab.reach("direction_of")
    page.keyboard.press("ArrowDown")
    tab.reach("layer")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.locator("#layer").get_attribute("aria-valuetext") == "layer 1"
    tab.reach("coefficient")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    for name, value in (("max_new_tokens", "60"), ("temperature", "0.7"), ("seed", "3")):
        tab.reach(name)
        page.keyboard.type(value)  # Tab has selected what stood there
    tab.reach("run")
    page.keyboard.press("Enter")
    told(page, DONE)

    expected = pair(served, 0.6)
    assert expected.steered != expected.unsteered
    assert texts(page)[:2] == [expected.unsteered, expected.steered]
    assert page.locator("#steered .what").text_content() == "add agent 2 +0.6 residual, layer 1"
    assert f"{expected.steered_tokens} token" in page.locator("#steered .count").text_content()

    first = tab.reach("token")
    page.keyboard.press("End")
    [read] = project_tokens(served.model, [whole(served, PROBLEM, expected.unsteered)], served.found)
    value = read.values[-1, 1, 1] / served.found.residual_norm[1]
    tip = page.locator("#tip").text_content()
    assert f"{abs(value):.3f}".rstrip("0") in tip
    assert "agent 2, layer 1" in tip
    assert page.locator(":focus").get_attribute("aria-describedby") == "tip"
    assert first.count() == 1

    for name, value in (("from", "-1"), ("to", "1")):
        tab.reach(name)
        page.keyboard.type(value)
    tab.reach("sweep")
    page.keyboard.press("Enter")
    told(page, "11 texts written.")
    tab.reach("at")
    assert page.locator(":focus").input_value() == "8"  # the nearest to the coefficient above
    for key, coefficient in (("Home", -1.0), ("ArrowRight", -0.8), ("End", 1.0)):
        page.keyboard.press(key)
        assert page.locator("#at-text").text_content() == pair(served, coefficient).steered
        assert page.locator("#at-said").text_content() == f"{coefficient:+g}".replace("-", "−")

    tab.reach("copy-link")
    page.keyboard.press("Enter")
    page.locator("#copied", has_text="Link copied.").wait_for()
    link, before = tab.clip(), texts(page)
    assert served.token not in link
    other = tab.open(link)  # a tab of its own has no token
    other.locator("#login").wait_for()
    assert "oken" in other.locator("#alert").text_content()
    other.keyboard.type(served.url)
    other.keyboard.press("Enter")
    told(other, "11 texts written.")
    assert texts(other) == before
    assert other.locator("#prompt").input_value() == QUESTION
    assert other.locator("#direction_of").input_value() == "agent 2"
    assert other.locator("#at-text").text_content() == page.locator("#at-text").text_content()
    other.reload()
    told(other, "11 texts written.")  # the tab keeps its token
    assert texts(other) == before
    assert not [line for line in tab.said if "401" not in line], tab.said


def test_without_directions_the_model_writes_and_a_probe_colours(browser: Any, served: Served, tmp_path: Path) -> None:
    model = package.load_model("organism")
    with running(model, {"numerals": (tmp_path / "numerals.safetensors", served.digits)}) as server:
        tab = Tab(browser, f"http://{server.host}/?token={server.token}")
        page = tab.page
        page.locator("[name=form][value=problem]").check()
        page.locator("#prompt").fill(QUESTION)
        page.locator("#temperature").fill("0")
        assert page.locator("#sweep").is_disabled()
        page.locator("#colour").select_option(label="number")
        page.locator("#run").click()
        told(page, "The text written.")
        page.wait_for_url("**#form=*")
        page.reload()
        told(page, "The text written.")  # its link restores it
        tokens = page.locator("#unsteered .token")
        tokens.first.wait_for()
        [made] = generate(served.model, [prompt_ids(served.model.tokenizer, PROBLEM, "text")], max_new_tokens=64)
        assert "".join(tokens.all_text_contents()) == served.model.tokenizer.decode(made.ids, skip_special_tokens=True)
        assert not page.locator("#steered, #random, #copy-command, #copy-python").and_(page.locator(":visible")).count()
        assert not [line for line in tab.said if "401" not in line], tab.said  # a reloaded address has no token
        tab.context.close()


def whole(served: Served, prompt: str, text: str) -> list[int]:
    return [*prompt_ids(served.model.tokenizer, prompt, "text"), *Encoder(served.model.tokenizer).continuation(text)]


CHAT = [["system", "Be brief."], ["user", "It's 3+4*2"], ["assistant", "14?"], ["user", 'No: "$HOME" \\ é\n5*6']]


GATED = {"form": "problem", "prompt": QUESTION, "coefficient": "1.5", "layer": "2", "tokens": "everywhere"}
GATED |= {"when": "numerals: number", "side": "below", "limit": "0.4"}


@pytest.mark.parametrize(
    "given",
    [
        {"form": "problem", "prompt": QUESTION, "coefficient": "0.4", "layer": "1"},
        {
            "form": "text",
            "prompt": 'it\'s `5`\n$(x) \\ "6"',
            "coefficient": "-0.35",
            "layer": "2",
            "tokens": "writing",
            "keep_norm": "true",
        },
        {"form": "chat", "messages": json.dumps(CHAT), "coefficient": "2.5", "units": "unit", "operation": "clamp"},
        {"form": "chat", "messages": json.dumps(CHAT[1:2]), "operation": "ablate", "top_p": "0.8"},
        GATED,
    ],
    ids=["problem", "text", "chat", "one message", "gated"],
)
def test_what_is_copied_writes_the_same(
    given: dict[str, str], tab: Tab, served: Served, interp: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tab.page
    how = {"direction_of": "agent 2", "max_new_tokens": "60", "temperature": "0.7", "seed": "3", "shown": "texts"}
    how |= {"from": "-1", "to": "1", "steps": "2"}
    page.evaluate("state => { location.hash = new URLSearchParams(state) }", given | how)
    told(page, DONE)
    steered = texts(page)[1]
    copied = {}
    for kind in ("command", "python"):
        page.locator(f"#copy-{kind}").click()
        page.locator("#copied", has_text=f"{kind.capitalize()} copied.").wait_for()
        copied[kind] = tab.clip()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(copied["python"], {})
    assert steered in printed.getvalue()
    *piped, command = copied["command"].rsplit(" | ", 1)  # chats come through a pipe, which a file stands for here
    _, verb, *words = shlex.split(command)
    for sent in piped:
        _, _, text = shlex.split(sent)
        (tmp_path / "chat.json").write_text(text)
        words[words.index("/dev/stdin")] = str(tmp_path / "chat.json")
    code, _, error = interp(verb, *words, "--out", tmp_path / "out.jsonl")
    assert code == 0, error
    [record] = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert record["steered"] == steered
    if given.get("operation") == "ablate":
        assert page.locator("#sweep").is_disabled()
        return
    page.locator("#sweep").click()
    told(page, "2 texts written.")
    swept = []
    for at in (0, 1):
        page.locator("#at").fill(str(at))
        swept.append(page.locator("#at-text").text_content())
    page.locator("#sweep-python").click()
    page.locator("#swept-copied", has_text="Python copied.").wait_for()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(tab.clip(), {})
    assert printed.getvalue() == "".join(f"{text}\n" for text in swept)
    page.locator("#sweep-command").click()
    page.locator("#swept-copied", has_text="Command copied.").wait_for()
    loop = "for c in -1.0 1.0; do "
    assert tab.clip() == loop + re.sub(r"--coefficients=\S+", '--coefficients="$c"', copied["command"]) + "; done"


def test_a_probe_colours_tokens_and_says_where_to_steer(tab: Tab, served: Served) -> None:
    page = tab.page
    state = {"form": "problem", "prompt": QUESTION, "direction_of": "agent 2", "max_new_tokens": "60", "shown": "texts"}
    page.evaluate("state => { location.hash = new URLSearchParams(state) }", state | {"coefficient": "1", "layer": "2"})
    told(page, DONE)
    tab.reach("colour")
    page.keyboard.type("number")  # as a list box takes it
    page.locator("#legend .note", has_text="Projection on the probe's weights for number at layer 1").wait_for()
    assert page.locator("#colour").input_value() == "numerals: number"
    unsteered, ungated, _ = texts(page)
    ids = whole(served, PROBLEM, unsteered)
    n = len(prompt_ids(served.model.tokenizer, PROBLEM, "text"))
    says = page.locator("#unsteered .token").evaluate_all("all => all.map(each => each.dataset.says)")
    scores = read_scores(served.model, served.digits, ids)[n:, 1]
    assert [one.partition("probability ")[2] for one in says] == [f"{score:.2f}" for score in scores]
    strength = "all => all.map(each => each.style.getPropertyValue('--much'))"
    assert len(set(page.locator("#unsteered .token").evaluate_all(strength))) > 3
    page.locator("#more summary").click()
    tab.reach("when")
    page.keyboard.type("number")
    tab.reach("side")
    page.keyboard.press("ArrowDown")
    tab.reach("limit")
    page.keyboard.type("0.4")
    assert page.locator("#steered .what").text_content().endswith(", layer 2 where number is below 0.4")
    page.keyboard.press("Control+Enter")
    told(page, DONE)
    steering = make_steering(
        served.found,
        ["agent 2"],
        SteeringSettings(layers=(2,), coefficients=(1.0,)),
        served.model,
        when=served.digits < 0.4,
    )
    [made] = side_by_side(served.model, [QUESTION], steering, form="problem", sampling=Sampling(60, 0.0))
    assert texts(page)[:2] == [unsteered, made.steered]
    assert made.steered != ungated
    page.locator("#limit").fill("1.5")
    page.locator("#more summary").click()
    page.locator("#run").click()
    page.locator("#alert", has_text="Limit of the score: ").wait_for()
    assert page.locator(":focus").get_attribute("id") == "limit"
    assert tab.said == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everywhere_and_for_everyone(width: int, scheme: Any, browser: Any, served: Served) -> None:
    state = "&direction_of=agent+2&max_new_tokens=40&shown=texts+sweep&steps=3"
    state += "&when=numerals:+number&colour=numerals:+number"
    url = f"{served.url}#form=problem&prompt={QUESTION.replace('+', '%2B')}{state}"
    tab = Tab(browser, url, viewport={"width": width, "height": 844}, color_scheme=scheme)
    page = tab.page
    told(page, "3 texts written.")
    page.locator("#steered .token").first.hover()
    assert "along number, layer 1; probability" in page.locator("#tip").text_content()
    page.locator("#more summary").click()
    assert page.locator("#limit").is_visible()
    assert not is_cut(page)
    assert serious(page) == []
    boxes = [page.locator(f"#{column}").bounding_box() for column in ("unsteered", "steered", "random")]
    assert len({box["x"] for box in boxes}) == (3 if width == 1280 else 1)  # side by side, or stacked
    page.locator("[name=form][value=chat]").check()
    page.locator("#more-messages").click()
    assert not is_cut(page)
    assert serious(page) == []
    page.evaluate("document.activeElement.blur(), scrollTo(0, 0)")
    assert len(tabbed(page)) > 5
    assert tab.said == []
    tab.context.close()


def test_a_chat_goes_on(tab: Tab, served: Served) -> None:
    page = tab.page
    page.locator("[name=form][value=chat]").check()
    page.locator("#messages textarea").fill(QUESTION)
    page.keyboard.press("Control+Enter")
    told(page, DONE)
    unsteered = texts(page)[0]
    page.get_by_label("Reply to the text unsteered").click()
    assert page.locator("#messages textarea").nth(1).input_value() == unsteered
    page.keyboard.type("And 5*6?")
    page.locator("#run").click()
    told(page, DONE)
    chat = [
        {"role": role, "content": content}
        for role, content in (("user", QUESTION), ("assistant", unsteered), ("user", "And 5*6?"))
    ]
    steering = make_steering(served.found, ["agent 1"], SteeringSettings(), served.model)
    [made] = side_by_side(served.model, [chat], steering, sampling=Sampling(128, 0.0, 1.0, 0))
    assert texts(page)[:2] == [made.unsteered, made.steered]


def test_errors_stop_and_a_server_that_is_gone(tab: Tab) -> None:
    page, alert = tab.page, tab.page.locator("#alert")
    page.locator("#run").click()
    alert.filter(has_text="Prompt: empty").wait_for()
    page.locator("#prompt").fill("1+2*3 " * 400)
    page.locator("#run").click()
    alert.filter(has_text="shorten it").wait_for()
    assert "\n" not in alert.text_content()
    assert alert.get_attribute("role") == "alert"
    page.locator("#prompt").fill(QUESTION)
    page.route("**/v1/completions", lambda route: None)  # a text that never begins
    page.locator("#run").click()
    page.locator("#stop").click()
    told(page, "Stopped.")
    page.unroute("**/v1/completions")
    page.route(re.compile("/(v1|api)/"), lambda route: route.abort("connectionrefused"))
    page.locator("#run").click()
    alert.filter(has_text="The server is gone").wait_for()
    page.unroute(re.compile("/(v1|api)/"))
    page.locator("#run").click()
    told(page, DONE)
    assert alert.is_hidden()


def test_an_address_of_another_server_s_token_asks_again(browser: Any, served: Served) -> None:
    tab = Tab(browser, served.url.replace(served.token, "another"))
    tab.page.locator("#login").wait_for()
    tab.page.locator("#alert", has_text="token").wait_for()
    assert tab.page.locator("main").is_hidden()
    assert serious(tab.page) == []
    tab.context.close()

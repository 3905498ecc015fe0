"""What directions say of tokens, against the plain computation of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import architectures
import numpy as np
import pytest
import torch
from browsing import is_cut, serious
from conftest import make_tokenizer

from interp.debate.transcript import Transcript
from interp.directions.directions import Direction, Directions
from interp.directions.tokens import logit_lens, project_tokens
from interp.errors import UserError
from interp.models.model import Model, wrap
from interp.models.tokens import Encoder, spelled, token_name
from interp.probing.probe import Probe
from interp.reports.tokens import show_tokens

TEXT = "Problem: 3+4*2\n\nnaïve 🙂 字, done"


@pytest.fixture(scope="module", params=["llama", "gpt2", "gemma2", "cohere"])
def model(request: Any) -> Model:
    hf = architectures.build(request.param).eval()
    torch.manual_seed(1)
    for name, weight in hf.named_parameters():
        if "norm" in name or "ln_" in name:  # norms that do something
            weight.data += 0.3 * torch.randn_like(weight)
    tokenizer = make_tokenizer("bytes")
    hf.resize_token_embeddings(len(tokenizer))
    return wrap(hf, tokenizer, {"name": request.param})


def directions(model: Model, *layers: int, spread: bool = False) -> list[Direction]:
    rng = np.random.default_rng(0)
    varying = rng.standard_normal((5, model.d_model)).astype(np.float16) if spread else None
    return [
        Direction(
            rng.standard_normal(model.d_model).astype(np.float32),
            label,
            layer,
            model.hook_name("resid_post", layer),
            1.0,
            varying,
        )
        for label in ("agent 1", "agent 2")
        for layer in layers
    ]


def test_projections_are_those_of_every_token_computed_one_by_one(model: Model) -> None:
    given = directions(model, 0, 1, 2, spread=True)
    found = project_tokens(model, [TEXT, "Problem"], given, layers=[0, 2])
    for text, one in zip((TEXT, "Problem"), found, strict=True):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            _, cache = model.bridge.run_with_cache(ids)
        expected = [
            [
                [float(cache[d.hook_point][0, t].numpy() @ d.vector) / d.norm for d in (given[k], given[k + 2])]
                for k in (0, 3)
            ]
            for t in range(ids.shape[1])
        ]
        np.testing.assert_allclose(one.values, expected, rtol=1e-4, atol=1e-4)
        assert one.labels == ("agent 1", "agent 2")
        assert one.layers == (0, 2)
        assert one.covariance
        assert "".join(one.tokens) == text
        within = np.abs(one.random) <= one.bounds
        np.testing.assert_allclose(within.mean(axis=(0, 1)), 0.95, atol=0.01)
        np.testing.assert_allclose(np.median(one.centred.values, axis=0), 0, atol=1e-5)


def test_the_lens_is_what_a_little_of_the_direction_does_to_logits(model: Model) -> None:
    """Added to a residual stream that it is orthogonal to, so that the norm's length stays as it is."""
    one = directions(model, 2)[0]
    rng, v, step = np.random.default_rng(1), one.unit.vector.astype(np.float64), 1e-2
    centred = v - v.mean()
    rest = rng.standard_normal(len(v))
    rest -= rest.mean()
    rest -= centred * (rest @ centred) / (centred @ centred)
    rest -= v * (rest @ v)
    cap = getattr(model.hf.config, "final_logit_softcapping", None)

    def logits(state: np.ndarray) -> np.ndarray:
        put = [(one.hook_point, lambda value, hook: torch.tensor(state).to(value).expand_as(value))]
        with torch.no_grad(), model.bridge.hooks(fwd_hooks=put):
            out = model.hf(torch.tensor([[5]])).logits[0, 0].double().numpy()
        return cap * np.arctanh(out / cap) if cap else out

    model.hf.double()
    try:
        change = (logits(rest + step * v) - logits(rest - step * v))[: len(model.tokenizer)]
    finally:
        model.hf.float()
    change = change - change.mean()
    (lens,) = logit_lens(model, [one], n_tokens=len(change))
    order = np.argsort(-change)
    names = [token_name(model.tokenizer, int(i)) for i in order]
    gains = [x for _, x in lens["promotes"]]
    assert [t for t, _ in lens["promotes"][:5]] == names[:5]
    assert [t for t, _ in lens["suppresses"][:5]] == names[:-6:-1]
    ratio = change[order[:20]] / gains[:20]
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-3)  # one scale for all tokens
    assert logit_lens(model, [-one], n_tokens=3)[0]["promotes"] == [
        [t, pytest.approx(-x, abs=2e-4)] for t, x in lens["suppresses"][:3]
    ]
    if cap:
        assert model.hf.config.final_logit_softcapping == cap


@pytest.mark.parametrize("kind", ["bytes", "merging", "metaspace"])
@pytest.mark.parametrize("text", [TEXT, "  🙂🙂", "字", "a"])
def test_pieces_together_are_the_text_and_a_character_stands_at_its_last_token(kind: str, text: str) -> None:
    tokenizer = make_tokenizer(kind)
    ids, strings = Encoder(tokenizer).pieces(text)
    n_opening = int(kind != "bytes")
    assert strings[:n_opening] == ["<s>"] * n_opening
    assert "".join(strings[n_opening:]) == text
    assert ids == tokenizer(text)["input_ids"]
    assert [s for s in spelled(tokenizer, ids) if "🙂" in s or "字" in s] == [s for s in strings if s in "🙂字" and s]
    named = [token_name(tokenizer, i) for i in ids]
    assert ("字" in text) == ("<0xE5>" in named)
    assert "<0xE5>" not in strings


NASTY = "</script><script>document.title = 'bad'</script> <b>naïve</b> & \"🙂\"\n'done'"


def test_what_does_not_fit_is_refused_in_one_line(tiny: Model, debates: list[Transcript]) -> None:
    given = directions(tiny, 0, 1)
    narrow = [Direction(np.ones(5, np.float32), "agent 1", 0, tiny.hook_name("resid_post", 0))]
    elsewhere = [*given[:2], *(Direction(d.vector, d.label, d.layer, "blocks.0.hook_mlp_out") for d in given[2:])]
    deep = [Direction(given[0].vector, "agent 1", 9, "blocks.9.hook_resid_post")]
    wrong: list[tuple[str, Any, dict[str, Any], str]] = [
        ("a", narrow, {}, "agent 1 at blocks.0.hook_resid_post: width 5, tiny-llama has 32"),
        ("a", given, {"labels": ["3"]}, "direction agent 3, layer 0: not among those given"),
        ("a", given, {"layers": [2]}, "direction agent 1, layer 2: not among those given"),
        ("a", elsewhere, {}, "give those of one hook point"),
        ("a", deep, {}, "layer 9: tiny-llama has layers 0 to 2"),
        ("", given, {}, "text 1: is empty"),
        (" \n", given, {"chat": True}, "text 1: is empty"),
        ([], given, {}, "no text given"),
        ("a " * 9000, given, {}, "tokens: tiny-llama reads 8,192"),
    ]
    for text, of, how, says in wrong:
        with pytest.raises(UserError, match=re.escape(says)) as caught:
            show_tokens(tiny, text, of, **how)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"direction of width 5: tiny-llama has 32"):
        logit_lens(tiny, narrow)


def test_texts_chats_and_transcripts_are_read_as_the_model_reads_them(tiny: Model, debates: list[Transcript]) -> None:
    given = directions(tiny, 1)
    page = show_tokens(tiny, ["Hello", debates[0]], given)
    assert [len(one.tokens) for one in page.projections] == [
        len(tiny.tokenizer("Hello")["input_ids"]),
        len(Encoder(tiny.tokenizer).transcript(debates[0]).ids),
    ]
    assert "".join(page.projections[1].tokens) == debates[0].prompt + debates[0].render()
    chat = show_tokens(tiny, "Hello", given, chat=True).projections[0]
    assert "".join(chat.tokens) == "User: Hello\n\nAssistant:"
    assert not chat.covariance
    assert "isotropic" in page.html


def test_a_probe_is_shown_by_its_weights(tiny: Model) -> None:
    weights = np.random.default_rng(0).standard_normal((3, tiny.d_model)).astype(np.float32)
    probe = Probe(weights, np.zeros(3), weights, ("a", "b", "c"), 1, tiny.hook_name("resid_post", 1), 1.0)
    found = show_tokens(tiny, "Hello", probe).projections[0]
    assert found.labels == ("a", "b", "c")
    own = [probe.direction(name, "logistic") for name in "abc"]
    np.testing.assert_array_equal(found.values, project_tokens(tiny, ["Hello"], own)[0].values)


def shown(page: Any) -> list[float]:
    """The numbers that are said of the tokens."""
    said = [each.get_attribute("aria-label").rsplit(": ", 1)[1] for each in page.locator(".token").all()]
    return [float(each.partition(",")[0].replace("−", "-")) for each in said]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_says_every_number_and_works_by_keyboard(
    tiny: Model, browser: Any, tmp_path: Path, width: int, scheme: Any
) -> None:
    written = show_tokens(tiny, NASTY, directions(tiny, 0, 1, 2, spread=True))
    assert NASTY not in written.html
    (found,) = written.projections
    view = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    wrong: list[str] = []
    view.on("console", lambda message: wrong.append(message.text))
    view.on("pageerror", lambda error: wrong.append(str(error)))
    view.goto(written.save(tmp_path / "page.html").as_uri())
    np.testing.assert_allclose(shown(view), found.values[:, 0, 1], rtol=1e-3, atol=1e-6)
    assert view.locator(".tokens").inner_text().replace("↵", "").replace("·", "") == NASTY
    view.get_by_role("tab", name="agent 1").focus()
    view.keyboard.press("ArrowRight")
    view.get_by_role("slider", name="layer").focus()
    view.keyboard.press("ArrowRight")
    assert view.get_by_role("slider").get_attribute("aria-valuetext") == "2"
    assert view.get_by_role("tab", selected=True).inner_text() == "agent 2"
    np.testing.assert_allclose(shown(view), found.values[:, 1, 2], rtol=1e-3, atol=1e-6)
    assert f"within ±{found.bounds[2]:.4g}" in view.locator("#within").inner_text()
    beyond = (np.abs(found.values[:, 1, 2]) > found.bounds[2]).sum()
    assert view.locator(".token.beyond").count() == beyond
    view.get_by_role("checkbox").focus()
    view.keyboard.press("Space")
    np.testing.assert_allclose(shown(view), found.centred.values[:, 1, 2], rtol=2e-3, atol=2e-3)
    view.keyboard.press("Tab")
    view.keyboard.press("End")
    focused = view.locator(".token:focus")
    assert view.locator("#tip").inner_text() == focused.get_attribute("aria-label")
    assert not is_cut(view)
    assert not serious(view)
    assert not wrong
    assert view.title() != "bad"
    view.close()


def test_in_a_notebook_it_survives_its_conversion(tiny: Model, browser: Any, tmp_path: Path) -> None:
    nbformat, nbconvert = pytest.importorskip("nbformat"), pytest.importorskip("nbconvert")
    html = show_tokens(tiny, NASTY, directions(tiny, 0, 1))._repr_html_()
    cell = nbformat.v4.new_code_cell("show_tokens(…)")
    cell.outputs = [nbformat.v4.new_output("execute_result", {"text/html": html, "text/plain": "page"})]
    body, _ = nbconvert.HTMLExporter().from_notebook_node(nbformat.v4.new_notebook(cells=[cell]))
    (tmp_path / "notebook.html").write_text(body)
    view = browser.new_page()
    view.goto((tmp_path / "notebook.html").as_uri())
    frame = view.frame_locator("iframe[title='Tokens in colour']")
    assert frame.locator(".token").first.get_attribute("aria-label").startswith("'<': ")
    assert frame.locator(".tokens").inner_text().replace("↵", "").replace("·", "") == NASTY
    view.close()


def test_the_command_writes_the_page_and_only_over_its_own(interp: Any, model_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vectors = torch.randn(1, 2, 3, 32).numpy()
    found = Directions(
        ("agent 1", "agent 2"), (0, 1, 2), vectors, np.ones(3, np.float32), "blocks.{layer}.hook_resid_post", {}
    )
    found.save(tmp_path / "d.safetensors")
    (tmp_path / "text.txt").write_text("Problem: 3+4")
    command = ("tokens", "--model", model_folder, "--directions", tmp_path / "d.safetensors", "--other-model")
    for text in ("Problem: 3+4", tmp_path / "text.txt", "scripted"):
        code, said, wrong = interp(*command, "--text", text, "--limit", 1, "--out", tmp_path / "page.html")
        assert (code, wrong) == (0, "")
        assert "1 text" in said
    assert "Problem" in (tmp_path / "page.html").read_text()
    (tmp_path / "own.html").write_text("<p>mine</p>")
    for out, says in (("own.html", "tokens may not replace it"), ("text.txt", "would overwrite the input")):
        code, _, wrong = interp(*command, "--text", tmp_path / "text.txt", "--out", tmp_path / out)
        assert (code, wrong.count("\n")) == (2, 1)
        assert says in wrong

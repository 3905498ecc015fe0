"""Directions from pairs of texts: estimators, how pairs are read and grouped, their evidence, and wrong files."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import make_hf, make_model, make_tokenizer
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression

import interp
from interp.activations.reading import read_last
from interp.directions import estimators
from interp.directions.directions import Directions, fitted_on
from interp.directions.estimators import FITS
from interp.directions.evidence import Design, evaluate
from interp.directions.pairs import TextPair, fit, fit_pairs, read_pairs
from interp.errors import UserError
from interp.models.model import Model, load_model, wrap
from interp.reports.page import write_report
from interp.steering.steering import add

NAMES = ("mean_difference", *FITS)


def sides(n: int, d: int, scale: float, seed: int = 0, size: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Positives and negatives of pairs that share more than they differ in."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(n, d)) * 5 * scale
    apart = (rng.normal(size=(n, d)) + rng.normal(size=d) * size) * scale
    return (shared + apart / 2).astype(np.float32), (shared - apart / 2).astype(np.float32)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(("n", "d", "scale"), [(20, 50, 1.0), (64, 200, 20.0), (300, 40, 3.0), (5, 30, 0.1)])
def test_estimators_are_those_of_scikit_learn(n: int, d: int, scale: float) -> None:
    p, q = (side.astype(np.float64) for side in sides(n, d, scale))
    middle = (p + q) / 2
    centred, label = np.concatenate([p - middle, q - middle]), np.repeat([1, 0], n)
    lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf())
    logistic = LogisticRegression(fit_intercept=False, tol=1e-10, max_iter=100_000)
    expected = {
        "mean_difference": (p - q).mean(axis=0),
        "pca_of_differences": PCA(1, svd_solver="full").fit(centred).components_[0],
        "centred_pca": PCA(1, svd_solver="full").fit(p - q).components_[0],
        "logistic": logistic.fit(centred, label).coef_[0],
        "lda": lda.fit(centred, label).coef_[0],
    }
    assert {*expected} == {*NAMES}
    mean = expected["mean_difference"]
    for name, theirs in expected.items():
        found = getattr(estimators, name)(p, q)
        assert abs(cosine(found, theirs)) > 0.99999, name
        assert found @ mean > 0, name  # to the positives
        unit = found / np.linalg.norm(found)
        assert np.linalg.norm(found) == pytest.approx(abs(unit @ mean), rel=1e-4), name
    for name in ("logistic", "lda"):
        assert cosine(getattr(estimators, name)(p, q), expected[name]) > 0.99999  # their sign too


@pytest.mark.parametrize("name", NAMES)
def test_what_sides_share_changes_nothing_and_swapping_them_turns_the_direction(name: str) -> None:
    p, q = sides(24, 16, 1.0)
    shift = np.random.default_rng(5).normal(size=p.shape).astype(np.float32)
    estimator = getattr(estimators, name)
    np.testing.assert_allclose(estimator(p + shift, q + shift), estimator(p, q), atol=1e-4)
    np.testing.assert_allclose(estimator(q, p), -estimator(p, q), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_pair_gives_its_difference(name: str) -> None:
    p, q = sides(1, 8, 1.0)
    vector = getattr(estimators, name)(p, q)
    if name != "centred_pca":  # nothing varies
        np.testing.assert_allclose(vector, (p - q)[0], rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_pair_is_scored_by_the_estimator_fitted_without_its_group(name: str) -> None:
    """Against the definition written out, two pairs a group."""
    p, q = sides(30, 12, 1.0, seed=3)
    apart = (p - q).astype(np.float64)
    group = np.repeat(np.arange(15), 2)
    design = Design.draw(group, 2, seed=1)
    random = np.random.default_rng(2).normal(size=(4, 12))
    found = evaluate(np.stack([p - q, q - p], axis=1), design, random, name)
    wins, by_random = [], []
    for g in range(30):
        rest = design.fold != design.fold[g]
        assert group[g] not in group[rest]
        direction = getattr(estimators, name)(p[rest], q[rest])
        wins.append(float(apart[g] @ direction > 0))
        by_random.append(np.sign(random @ direction) * (random @ apart[g]) > 0)
    assert found.separation.mean[0] == pytest.approx(np.mean(wins))
    assert found.separation_random.mean[0] == pytest.approx(np.mean(by_random))
    assert 0.3 < found.separation_shuffled.mean[0] < 0.7
    assert found.separation.mean.tolist() == found.separation.mean[::-1].tolist()  # of both sides alike


@pytest.mark.parametrize("name", NAMES[1:])
def test_refitted_evidence_finds_what_was_planted_and_nothing_elsewhere(name: str) -> None:
    p, q = sides(60, 24, 1.0, size=1.5)
    found = evaluate(np.stack([p - q, q - p], axis=1), Design.draw(np.arange(60), 2, 0), None, name)
    if name != "centred_pca":  # which takes out what all pairs have in common
        assert found.separation.low[0] > 0.85
    if name in ("logistic", "lda"):  # a principal axis is the same however sides are swapped
        assert found.reliability.low[0] > found.reliability_shuffled.high[0]
    p, q = sides(60, 24, 1.0, size=0.0)
    none = evaluate(np.stack([p - q, q - p], axis=1), Design.draw(np.arange(60), 2, 0), None, name)
    assert none.separation.low[0] < 0.5 < none.separation.high[0]
    assert np.isfinite(none.merit).all()


SUMS = [TextPair(f"{a}+{b}={a + b}", f"{a}+{b}={a - b}") for a in range(5, 9) for b in (1, 2, 3)]


def written(tmp_path: Path, content: str, name: str = "pairs.jsonl") -> Path:
    path = tmp_path / name
    path.write_text(content)
    return path


def test_the_direction_is_the_difference_at_the_last_tokens(tiny: Model) -> None:
    found = fit(tiny, [p.positive for p in SUMS], [p.negative for p in SUMS], layers=[1, 2], controls=False)
    expected = read_last(tiny, [p.positive for p in SUMS], layers=[1, 2])
    expected = expected - read_last(tiny, [p.negative for p in SUMS], layers=[1, 2])
    np.testing.assert_allclose(found.vectors[0, 0], expected.mean(axis=0), atol=1e-5)
    assert found.labels == ("positive",)
    assert found["positive", 1].residual_norm > 0


@pytest.mark.parametrize("kind", ["bytes", "merging", "metaspace"])
def test_the_mean_is_over_the_text_without_its_prompt(kind: str) -> None:
    model = make_model(kind=kind)
    pairs = [TextPair(f"{a} it is, surely.", f"{a} or so?", prompt=f"What is {a}? ") for a in "abcd"]
    how: dict[str, Any] = {"layers": [1], "controls": False}
    assert fit_pairs(model, pairs, position="mean", **how).directions.facts["turns"] == 8
    moved = [TextPair(p.prompt + p.positive, p.prompt + p.negative) for p in pairs]
    last, again = (fit_pairs(model, each, **how).directions.vectors for each in (pairs, moved))
    np.testing.assert_array_equal(last, again)  # the prompt stands before the text as it is
    mean, whole = (fit_pairs(model, each, position="mean", **how).directions.vectors for each in (pairs, moved))
    assert not np.allclose(mean, whole)


def test_prompts_may_go_through_the_chat_template() -> None:
    tokenizer = copy.deepcopy(make_tokenizer("bytes"))
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"
    model = wrap(make_hf("llama"), tokenizer, {"name": "chatty"})
    pairs = [TextPair(f"{a + 1}", f"{a - 1}", prompt=f"{a}+1=?") for a in range(1, 7)]
    plain, chat = (fit_pairs(model, pairs, chat=chat, layers=[1], controls=False).directions for chat in (False, True))
    put = [[f"[user] {p.prompt}\n[assistant]{text}" for text in (p.positive, p.negative)] for p in pairs]
    positive, negative = (read_last(model, side, layers=[1])[:, 0] for side in zip(*put, strict=True))
    np.testing.assert_allclose(chat.vectors[0, 0, 0], (positive - negative).mean(axis=0), atol=1e-5)
    assert not np.allclose(plain.vectors, chat.vectors)
    assert chat.facts["provenance"]["settings"]["chat"] is True
    with pytest.raises(UserError, match=r"pair 1: has no prompt for the chat template; give one, or leave --chat out"):
        fit_pairs(model, SUMS, chat=True)
    with pytest.raises(UserError, match="tiny-llama: has no chat template; leave --chat out"):
        fit_pairs(make_model(), pairs, chat=True)


def test_pairs_of_one_group_and_pairs_that_share_a_text_are_one_question(tiny: Model) -> None:
    pairs = [
        TextPair("a b", "c d", group="x"),
        TextPair("e f", "g h", group=" X "),
        TextPair("i j", "k l"),
        TextPair("m n", "k L"),
        TextPair("o p", "q r"),
    ]
    found = fit_pairs(tiny, pairs, layers=[1], controls=False).directions
    assert found.facts["questions"] == 3
    assert fitted_on([found], ["x", "i j", "o p", "m n", "s"]) == {"x", "i j", "o p"}


def test_saved_directions_load_steer_and_make_a_report(tmp_path: Path) -> None:
    model = load_model("organism")
    extraction = fit_pairs(model, SUMS, tmp_path, label="sums", layers=[1, 2])
    found = Directions.load(tmp_path / "directions.safetensors")
    np.testing.assert_array_equal(found.vectors, extraction.directions.vectors)
    assert found.facts["by"] == "pair"
    assert found.facts["evidence"]["all"]["controls"]["text"]["mean"]
    steered = interp.generate(model, "Problem: 1+1", steering=add(found["sums", 1], 0.3), max_new_tokens=3)
    assert steered.finite
    page = write_report(extraction, tmp_path).read_text()
    shown = re.sub(r"<[^>]+>", " ", page[page.index("<header>") : page.index("</main>")])
    assert "Direction of sums in organism" in shown
    assert not re.search(r"\b(turn|agent|pair’|question|round|transcript|debate)s?\b", shown)


def test_a_killed_fit_resumes_and_other_pairs_are_not_replaced(tmp_path: Path, tiny: Model) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if "untrained" in what and done:
            raise KeyboardInterrupt

    how: dict[str, Any] = {"layers": [1], "batch_tokens": 32}
    with pytest.raises(KeyboardInterrupt):
        fit_pairs(tiny, SUMS, tmp_path / "a", progress=kill, **how)
    assert (tmp_path / "a" / "activations.safetensors.part").exists()
    said: list[tuple[str, int]] = []
    resumed = fit_pairs(tiny, SUMS, tmp_path / "a", progress=lambda what, done, _: said.append((what, done)), **how)
    assert said[0] == ("reading activations", 2 * len(SUMS))
    whole = fit_pairs(tiny, SUMS, tmp_path / "b", **how)
    np.testing.assert_array_equal(resumed.directions.vectors, whole.directions.vectors)
    for changed in ({"estimator": "lda"}, {"label": "other"}):
        with pytest.raises(UserError, match=rf"other settings \({next(iter(changed))}\); give another --out"):
            fit_pairs(tiny, SUMS, tmp_path / "a", **how, **changed)
    with pytest.raises(UserError, match="transcripts"):
        fit_pairs(tiny, SUMS[1:], tmp_path / "a", **how)


ROWS = [
    {"positive": "ja, gern", "negative": "nein", "group": 3},
    {"positive": "oui", "negative": "non", "prompt": "Q "},
]
EXPECTED = [TextPair("ja, gern", "nein", "3"), TextPair("oui", "non", prompt="Q ")]


def test_all_kinds_of_files_give_the_same_pairs(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    lines = "\n".join(json.dumps(row) for row in ROWS)
    files = [
        written(tmp_path, lines),
        written(tmp_path, "\ufeff" + lines, "bom.jsonl"),
        written(tmp_path, json.dumps(ROWS), "pairs.json"),
        written(tmp_path, '\ufeffpositive,negative,group,prompt\r\n"ja, gern",nein,3,\r\noui,non,,Q \r\n', "pairs.csv"),
        written(tmp_path, "positive\tnegative\tgroup\tprompt\nja, gern\tnein\t3\t\noui\tnon\t\tQ \n", "pairs.tsv"),
    ]
    for name, group in (("a", pa.array([3, None])), ("b", pa.array([3.0, float("nan")]))):
        columns = {key: [row.get(key) for row in ROWS] for key in ("positive", "negative", "prompt")}
        parquet.write_table(pa.table({**columns, "group": group}), tmp_path / f"{name}.parquet")
        files.append(tmp_path / f"{name}.parquet")
    for path in files:
        assert read_pairs(path) == EXPECTED, path
    two = [written(tmp_path, text, name) for name, text in (("p.txt", "ja, gern\noui\n"), ("n.txt", "nein\nnon"))]
    found = read_pairs(positives=two[0], negatives=two[1])
    assert [(p.positive, p.negative) for p in found] == [("ja, gern", "nein"), ("oui", "non")]


WRONG = {
    '{"positive": "a"}': r"line 1: has positive, but no negative; give each pair a positive and a negative, and maybe",
    '{"positive": "a", "negative": NaN}': "line 1: cannot be read|line 1: has positive, but no negative|Out of range",
    '{"positive": "a", "negative": null}': "line 1: has positive, but no negative",
    '{"positive": "a", "negative": 3}': "line 1: its negative is 3, not a text; put it in quotes",
    '{"positive": "a", "negative": "b", "label": 1}': "line 1: 'label' is unknown; take it out, or name it one of",
    "[1, 2]": "not a row with names",
    '{"positive": "a"': "not valid JSON",
}


WRONG_TABLES = {
    "positive,negative\na,b,c\n": "line 2: not a table .3 fields, where the first line names 2.; put a text",
    "positive,negative\na\n": "line 2: has positive, but no negative",
    'positive,negative\n"a,b\n': "not a table",
    "good,bad\na,b\n": "line 2: has good, bad, but no positive and no negative; give each pair a positive",
}


@pytest.mark.parametrize("content", WRONG | WRONG_TABLES)
def test_wrong_files_of_pairs(tmp_path: Path, content: str) -> None:
    path = written(tmp_path, content, "pairs.csv" if content in WRONG_TABLES else "pairs.jsonl")
    with pytest.raises(UserError, match=(WRONG | WRONG_TABLES)[content]) as error:
        read_pairs(path)
    assert str(path) in str(error.value)


def test_wrong_texts_side_by_side(tmp_path: Path) -> None:
    def read(positives: str, negatives: str) -> None:
        read_pairs(positives=written(tmp_path, positives, "p.txt"), negatives=written(tmp_path, negatives, "n.txt"))

    with pytest.raises(
        UserError, match=r"p.txt, .*n.txt: 2 of positive, 1 of negative; give as many of each, in the same order"
    ):
        read("a\nb", "c")
    with pytest.raises(UserError, match=r"p.txt, line 2: empty; give a text in every line, or pairs as JSONL"):
        read("a\n\nb", "c\nd\ne")
    with pytest.raises(UserError, match=r"n.txt, line 1: empty; give a text in every line"):
        read("a", "")
    with pytest.raises(UserError, match="give them with --pairs, or as two text files"):
        read_pairs(positives=tmp_path / "p.txt")
    with pytest.raises(UserError, match="give them with --pairs, or as two text files"):
        read_pairs(tmp_path / "p.txt", positives=tmp_path / "p.txt")


WRONG_PAIRS: list[tuple[list[TextPair], str]] = [
    (
        [TextPair("a", "b")],
        "1 pairs, of which only 1 have no group and no text in common; evidence holds some out: give at least 3",
    ),
    ([TextPair(f"a {i}", f"b {i}", "g") for i in range(5)], "5 pairs, of which only 1 have no group"),
    ([TextPair(f"a {i}", "b") for i in range(5)], "5 pairs, of which only 1 have no group and no text in common"),
    ([], "0 pairs, of which only 0"),
    ([*SUMS, TextPair("a", "a")], "pair 13: is the same text on both sides .'a'.; let them differ"),
    ([*SUMS, SUMS[2]], "pair 13: the same as pair 3; take one of them out"),
    ([*SUMS, TextPair("a", " ")], "pair 13: its negative text is empty; give a text, or take the pair out"),
    ([*SUMS, TextPair("a", "b " * 9000)], "pair 13: .* tokens, more than the 8,192 that the model reads; shorten it"),
]


@pytest.mark.parametrize(("pairs", "why"), WRONG_PAIRS)
def test_wrong_pairs(tiny: Model, pairs: list[TextPair], why: str) -> None:
    with pytest.raises(UserError, match=why):
        fit_pairs(tiny, pairs, layers=[1], controls=False)


def test_long_pairs_may_be_left_out(tiny: Model) -> None:
    facts = fit_pairs(tiny, WRONG_PAIRS[-1][0], layers=[1], controls=False, skip_long=True).directions.facts
    assert (facts["questions"], facts["turns"]) == (12, 24)
    assert [(skip["transcript"], "more than the 8,192" in skip["reason"]) for skip in facts["skipped"]] == [(13, True)]


def test_wrong_lists(tiny: Model) -> None:
    with pytest.raises(UserError, match="pairs: 2 of positive, 1 of negative; give as many of each, in the same order"):
        fit(tiny, ["a", "b"], ["c"])
    with pytest.raises(UserError, match="2 of positive, 2 of negative, 1 of group; give as many"):
        fit(tiny, ["a", "b"], ["c", "d"], groups=["x"])
    with pytest.raises(UserError, match="pair 2: its negative is 3, not a text"):
        fit(tiny, ["a", "b"], ["c", 3])  # type: ignore[list-item]
    for name in ("", "2"):
        with pytest.raises(UserError, match="not a name"):
            fit(tiny, ["a"], ["b"], label=name)
    with pytest.raises(UserError, match="estimator best: unknown; choose one of mean_difference"):
        fit(tiny, ["a"], ["b"], estimator="best")


def test_verbs_take_directions_from_pairs(interp: Any, tmp_path: Path) -> None:
    rows = "".join(f"{a}+{b}={a + b},{a}+{b}={a - b}\n" for a in range(5, 9) for b in (1, 2))
    written(tmp_path, f"positive,negative\n{rows}", "sums.csv")
    found = tmp_path / "found"
    fitted = ("--model", "organism", "--pairs", tmp_path / "sums.csv", "--label", "plus", "--layers", "1,2")
    code, said, _ = interp("fit", *fitted, "--out", found)
    assert code == 0
    assert "pairs: 8 from" in said
    assert "Best of 2 layers, on held-out groups (8 pairs in 8 groups)" in said
    assert {path.name for path in found.iterdir()} == {"directions.safetensors", "directions.json", "report.html"}
    directions = ("--directions", found / "directions.safetensors")
    few = ("--layers", "1", "--max-new-tokens", "4")
    code, said, _ = interp("steer", "--model", "organism", *directions, "--prompt", "1+1", *few)
    assert code == 0
    assert "add plus +0.2 residual, layer 1" in " ".join(said.split())
    assert interp("export-directions", directions[1], "--out", tmp_path / "plus.gguf")[0] == 0
    how = ("--questions", "2", "--validation-questions", "2", "--fit-questions", "4", "--no-fine-tune")
    how = (*how, "--random-controls", "1", "--out", tmp_path / "s.jsonl")
    assert interp("suppress", "--model", "organism", *directions, *how, *few)[0] == 0
    swept = ("--model", "organism", *directions, "--transcripts", "organism", "--limit", "2", *few)
    code, _, wrong = interp("sweep", *swept, "--out", tmp_path / "sweep.jsonl")
    assert code == 2
    assert "plus: nobody in the transcripts is called so" in wrong

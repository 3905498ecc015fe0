"""Wrong uses of every command: what is typed, in the folder that `wrong_inputs` lays out."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import typer

from interp.cli.app import app

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands
FIGURES = ("ablations", "probes", "steerability", "token_cost", "training_dynamics")
LAYOUT = "--layers 1"
DEBATE = "--model model --questions 4 --max-new-tokens 4"
STEER = f"--directions found/directions.safetensors --model model --max-new-tokens 4 {LAYOUT}"
RIGHT: dict[str, tuple[str, str]] = {
    "debate": (DEBATE, "new/debates.jsonl"),
    "evaluate": (f"{DEBATE} --method single", "new/results"),
    "compare": ("results/arithmetic-single.jsonl results/arithmetic-vote.jsonl", ""),
    "train": ("--preset organism --transcripts debates.jsonl", "new/run"),
    "export-model": ("organism-sft", "new/merged"),
    "extract-directions": ("--model model --transcripts debates.jsonl", "new/found"),
    "export-directions": ("found/directions.safetensors --direction-of 2", "new/agent2.gguf"),
    "import-directions": ("vectors.pt --layers 1", "new/directions.safetensors"),
    "fit": ("--model model --pairs pairs.jsonl --layers 1", "new/fitted"),
    "steer": (f"{STEER} --prompt 1+1", "new/pairs.jsonl"),
    "interchange": ("--prompt 1,2,3 --source 4,5,6", "new/swapped.jsonl"),
    "tokens": ("--directions found/directions.safetensors --model model --text 1+1", "new/page.html"),
    "sweep": (f"{STEER} --transcripts held.jsonl", "new/sweep.jsonl"),
    "suppress": (f"--model model --questions 2 --validation-questions 2 --fit-questions 4 {LAYOUT}", "new/s.jsonl"),
    "probe": ("truth --model model --transcripts debates.jsonl --layers 1", "new/probes"),
    "calibrate": ("--quick", "new/calibration.jsonl"),
    "figures": ("run", "new/figures"),
}
"""Of each verb, arguments that would do, and an --out."""
MODULES: dict[str, tuple[str, str]] = {
    "probes.truth": ("--model model --transcripts debates.jsonl --layers 1", "new/probes"),
    **{f"figures.{name}": ("run", "new/figures") for name in FIGURES},
    "figures.watch": ("run --once", "new/watch.html"),
    "benchmarks.ablations": ("run", "new/ablations"),
    "benchmarks.ship": ("run", "new/shipped"),
}


class Use(NamedTuple):
    """What is typed after `interp` or, for a module, `python -m`; `how` is the process's lot."""

    command: str
    arguments: tuple[str, ...]
    how: str = ""


TRANSCRIPTS = (
    *("missing.jsonl", "missing/there.jsonl", "empty.jsonl", "empty", "full", "model", "binary.jsonl", "half.jsonl"),
    *("numbers.json", "object.json", "deep.json", "null.jsonl", "huge.json", "turnless.jsonl", "latin.jsonl"),
    *("wrong-type.jsonl", "found/directions.safetensors", "found/directions.json", "held.txt"),
    *("results/arithmetic-single.jsonl", "loop", "nowhere.jsonl", "x" * 300, "scripted.jsonl", "organism-imad"),
)
MODELS = (
    *("missing", "./missing", "nobody/nothing-here", "empty", "full", "found", "debates.jsonl", "binary.gguf"),
    *("empty.gguf", "no-config", "no-weights", "no-tokenizer", "half-weights", "text-config", "list-config"),
    *(
        "odd-config",
        "typeless-config",
        "pickled",
        "half-adapter",
        "bad-lineage",
        "loop",
        "x" * 300,
        "a/b/c",
        "~nobody/x",
    ),
)
DIRECTIONS = (
    *("missing.safetensors", "found", "empty", "debates.jsonl", "model/model.safetensors", "found/directions.json"),
    *("headless.safetensors", "none.safetensors", "hollow.safetensors", "binary.safetensors", "empty.safetensors"),
    *("loop", "x" * 300),
)
LAYERS = ("x", "9", "2-1", "-1", "1.5", "0,,1", "-", "1e3", "0-99999999999", "²")
NUMBERS = ("x", "nan", "inf", "0.1,,0.2", "1;2", "0,nan", "--")
VALUES: dict[str, tuple[str, ...]] = {
    "--transcripts": TRANSCRIPTS,
    "--fit-classifier-on": TRANSCRIPTS[::5],
    "--model": MODELS,
    "--adapter": ("missing", "model", "empty", "half-adapter", "debates.jsonl", "loop", "nobody/nothing-here"),
    "--directions": DIRECTIONS,
    "--layers": LAYERS,
    "--pairs": (*TRANSCRIPTS, "pair.jsonl", "prompts.txt", "binary.csv", "binary.parquet", "half.csv"),
    "--positives": ("prompts.txt", "missing.txt"),
    "--negatives": ("prompts.txt", "missing.txt"),
    "--label": (" ", "2"),
    "--coefficients": NUMBERS,
    "--device": ("tpu", "cuda:99", "cpu:x", "0"),
    "--task": ("nothing", "bbh-nothing", "Arithmetic", "../arithmetic"),
    "--agent": ("nobody", "=model", "plain=missing", "Plain"),
    "--method": ("nothing", "Single"),
    "--body": ("x", "[]", "{", "nan"),
    "--server": ("nothing", "ftp://localhost", "http://", "http://[", "http://localhost:99999999"),
    "--split": ("nothing",),
    "--form": ("a+", "import os", "a+b+c+d+e+f+", "a**b", "()"),
    "--direction-of": ("9", "nobody", "agent 9", "-1"),
    "--turns-of": ("9",),
    "--persona": ("nobody",),
    "--benign": ("nobody",),
    "--accuracy-task": ("nothing",),
    "--preset": ("nothing", "./missing", "empty", "debates.jsonl"),
    "--set": (
        "x",
        "x=1",
        "grpo=1",
        "sft.epochs=x",
        "sft.epochs=-1",
        "sft.learning_rate=nan",
        "personas=[1]",
        "=",
        "seed=",
    ),
    "--report-to": ("nothing", "Wandb"),
    "--prompts": (
        "missing.txt",
        "empty.jsonl",
        "empty",
        "binary.jsonl",
        "numbers.json",
        "found/directions.safetensors",
    ),
    "--swaps": ("missing.jsonl", "empty.jsonl", "empty", "binary.jsonl", "numbers.json", "debates.jsonl"),
    "--subspaces": DIRECTIONS[::2],
    "--kind": ("good",),
    "--text": (
        "missing.txt",
        "empty",
        "model",
        "missing.jsonl",
        "empty.jsonl",
        "binary.jsonl",
        "numbers.json",
        "",
        " \n",
    ),
    "--only": ("nothing",),
    "--steer": ("missing.json", "{", "[]", "{}", "3", "vectors.pt"),
}
"""Wrong values of options that take a text."""
ARGUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "compare": (
        *((path, "results/arithmetic-vote.jsonl") for path in TRANSCRIPTS if path != "results/arithmetic-single.jsonl"),
        ("results/arithmetic-single.jsonl", "missing.jsonl"),
        ("results/arithmetic-single.jsonl",),
        ("results", "results"),
    ),
    "export-directions": tuple((path, "--direction-of", "2") for path in DIRECTIONS),
    "import-directions": tuple((path, "--site", "resid_post") for path in DIRECTIONS),
    "export-model": tuple((path,) for path in (*MODELS, "nothing-trained")),
    "probe": (("nothing",), ("Truth",), ("truth", "all"), ("../truth",)),
    "figures": (("missing",), ("empty",), ("full",), ("debates.jsonl",), ("model",), ("loop",)),
    **{f"figures.{name}": (("missing",), ("full",), ("debates.jsonl",), ()) for name in FIGURES},
    "figures.watch": (
        ("missing",),
        ("full",),
        ("debates.jsonl",),
        (),
        ("run", "--every", "0"),
        ("run", "--every", "nan"),
    ),
    "benchmarks.ablations": (("missing",), ("full",), ("debates.jsonl",), ()),
    "benchmarks.ship": (("missing",), ("full",), ("debates.jsonl",), ()),
}
RECORDS = (
    *("debates.jsonl/x.jsonl", "empty", "new/x.txt", "new/x", "x" * 300 + ".jsonl", "x" * 250 + ".jsonl"),
    *("loop/x.jsonl", "held.jsonl", "./full/../held.jsonl", "link.jsonl", "hard.jsonl", "nowhere.jsonl", "copy.jsonl"),
    *("half.jsonl", "found/directions.jsonl", "object.jsonl", "..", ".", "/", "/dev/null", "results/x.json"),
)
FOLDERS = ("debates.jsonl", "debates.jsonl/x", "loop", "loop/x", "/dev/null", "/proc/x/y", "x" * 300, ".", "full/..")
INSIDE = ("model", "model/", "model/x", "link", "link/x", "./full/../model/x/y")
OUTS: dict[str, tuple[str, ...]] = {
    "debate": (*RECORDS, "results/arithmetic-single.json", "records/pairs.jsonl"),
    "evaluate": (*FOLDERS[:-2], "foreign/arithmetic-single-json", "foreign/arithmetic-single-jsonl"),
    "train": (*FOLDERS, *(f"foreign/{name}" for name in ("preset-json", "table-json", "seed-0", "base"))),
    "export-model": (*FOLDERS, "empty", "full", "found"),
    "extract-directions": (
        *FOLDERS,
        *INSIDE,
        *(f"foreign/{name}-json" for name in ("directions", "table")[:1]),
        *("foreign/directions-safetensors", "foreign/report-html", "foreign/activations-safetensors"),
    ),
    "export-directions": (
        *("found", ".", "/", "model/config.json", "binary.gguf", "held.txt", "x" * 300, "loop", "/dev/null"),
        *("found/directions.safetensors", "./found/../found/directions.safetensors", "full/notes.txt/x"),
    ),
    "fit": (*FOLDERS, *INSIDE, "foreign/directions-json", "foreign/report-html", "found"),
    "steer": (*RECORDS, "prompts.txt", "records/debates.jsonl", "model/x.jsonl", "link/x.jsonl"),
    "interchange": (*RECORDS, "records/debates.jsonl", "records/pairs.jsonl"),
    "tokens": (
        *("found", ".", "/", "model/config.json", "binary.gguf", "held.txt", "x" * 300, "loop", "/dev/null"),
        *("found/directions.safetensors", "model/x.html", "full/notes.txt/x", "foreign/report-html"),
    ),
    "sweep": (*RECORDS, "records/debates.jsonl", "records/pairs.jsonl", "model/x.jsonl"),
    "suppress": (*RECORDS, "records/debates.jsonl", "records/pairs.jsonl", "link/x.jsonl"),
    "probe": (*FOLDERS, *INSIDE, "foreign/truth-json", "foreign/truth", "foreign/truth-activations"),
    "calibrate": (*RECORDS, "records/debates.jsonl", "records/pairs.jsonl"),
    "figures": (*FOLDERS, "run", "./run/", "foreign/figures-html", "foreign/token_cost-html"),
    "probes.truth": (*FOLDERS, "model/x", "foreign/truth-json", "foreign/truth"),
    "figures.token_cost": (*FOLDERS, "run", "foreign/token_cost-html"),
    "figures.watch": (
        *("run", ".", "/", "held.txt", "x" * 300, "loop", "/dev/null", "full/notes.txt/x", "foreign/figures-html"),
    ),
    "benchmarks.ablations": (*FOLDERS, "run", "full"),
    "benchmarks.ship": (*FOLDERS, "run", "foreign/base", "foreign/sft", "foreign/results"),
}
"""Places that a command may not write to."""
TOGETHER = """
debate --model scripted --agent plain=model --adapter missing
debate --model scripted --server http://localhost:9
debate --model scripted --task evil --agent self-critique
debate --model scripted --source debates.jsonl
debate --model scripted --split test
debate --model scripted --task gsm8k --digits 2
debate --model scripted --task gsm8k --source missing.jsonl
debate --model scripted --task gsm8k --source debates.jsonl
debate --model scripted --task gsm8k --source empty
debate --model scripted --digits 1 --terms 1 --questions 1000000
debate --model model --revision main
debate --model model --adapter model
evaluate --model scripted --method model
evaluate --model model --method model --agent self-critique
evaluate --model scripted --task nothing --task arithmetic
train --preset smollm2-135m --from-scratch --transcripts debates.jsonl
train --preset organism --transcripts debates.jsonl --set grpo.num_generations=5
train --preset organism --transcripts held.txt --seed 0
train --preset model --transcripts debates.jsonl --set task=nothing
train --preset nobody/nothing --transcripts debates.jsonl
export-model organism-sft --dtype int8
extract-directions --model model --adapter found --transcripts debates.jsonl
extract-directions --model model --transcripts debates.jsonl --revision main
extract-directions --model scripted --transcripts debates.jsonl
export-directions FOUND
export-directions FOUND --direction-of 2 --layers 9
export-directions FOUND --direction-of 2 --format caa
export-directions FOUND --direction-of 2 --format mine
import-directions FOUND --site resid_post
import-directions FOUND --layers 1
fit --model model
fit --model model --positives prompts.txt
fit --model model --positives prompts.txt --negatives prompts.txt
fit --model model --positives prompts.txt --negatives held.txt
fit --model model --pairs pairs.jsonl --chat
fit --model organism --pairs pairs.jsonl --out found
interchange
interchange --prompt 1,2,3
interchange --prompt 1,2,3 --source 4,5,6 --source 7,8,9
interchange --prompt 1,2,3 --source 4,5,6 --swaps swaps.jsonl
interchange --prompt 1,2,3 --source 4,5,6 --agent 4
interchange --prompt 1,2,3 --source 4,5,6 --model model
interchange --prompt 1,2,3 --source 4,5 --tokens prompt
steer --directions FOUND --model model
steer --directions FOUND --model model --prompt 1 --prompts prompts.txt
steer --directions FOUND --model other-model --prompt 1
steer --directions FOUND --model organism --prompt 1
steer --directions FOUND --model organism --other-model --prompt 1
steer --directions FOUND --model model --prompt 1 --coefficients 1,2,3
steer --directions FOUND --model model --prompt 1 --tokens turns
steer --directions FOUND --model model --prompt 1 --turns-of 1
steer --directions FOUND --model model --prompt 1 --operation rule.py:push
steer --directions FOUND --model model --prompt 1 --when FOUND --above 0.5
steer --directions FOUND --model model --prompt 1 --when FOUND
steer --directions FOUND --model model --prompt 1 --above 0.5
steer --directions FOUND --model model --prompt 1 --direction-of 1 --direction-of nobody
serve --model model --host 0.0.0.0
serve --model model --directions missing.safetensors
serve --model model --directions FOUND --directions FOUND
serve --model other-model --directions FOUND
serve --model missing --port 0
serve --model model --port 65536
sweep --directions FOUND --model model --transcripts debates.jsonl --layers 1
sweep --directions FOUND --model other-model --transcripts held.jsonl --layers 1
sweep --directions FOUND --model model --model other --adapter x --transcripts held.jsonl --layers 1
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --coefficients 0
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --fit-classifier-on held.jsonl
sweep --directions FOUND --model organism --other-model --transcripts held.jsonl --layers 1
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --turns-of 9 --tokens turns
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --operation rule.py:push
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --operation ablate
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --when FOUND --above 0.5
sweep --directions FOUND --model model --transcripts held.jsonl --layers 1 --below 0.5
suppress --model model --when FOUND --above 0.5
suppress --model model --score judge
suppress --model model --score judge --judge x --server nothing
suppress --model model --score judge --judge x --server ftp://localhost
suppress --model model --elicit turn
suppress --model model --trait missing.jsonl
suppress --model model --score rule.py:function
suppress --model model --score judge --judge x
suppress --model model --directions prompts --transcripts missing.jsonl --elicit turn
suppress --model model --persona guardian --benign guardian
suppress --model model --directions FOUND --no-fine-tune --layers 0-9
suppress --model other-model --directions FOUND --no-fine-tune
suppress --model model --questions 2 --validation-questions 2 --fit-questions 4 --score classifier --layers 9
probe truth --model model --transcripts debates.jsonl --task nothing
probe trait --model model --transcripts turnless.jsonl
probe agent_identity --model model --transcripts debates.jsonl --layers 7
export-model model --out model/x
export-model model --out ./full/../link/x
compare debates.jsonl results/arithmetic-single.jsonl
nothing
Debate
debate debate
--bogus
--version=1
"""
"""Options that do not go together, and files of one command given to another."""


def parameters(command: str) -> list[Any]:
    """The options and arguments of a command."""
    return COMMANDS[command].params if command in COMMANDS else []


def uses() -> Iterator[Use]:
    """All wrong uses."""
    for command, (right, out) in (RIGHT | MODULES).items():
        words, option = tuple(right.split()), "--into" if command == "benchmarks.ship" else "--out"
        here = (option, out) if out else ()
        yield Use(command, (*words, *here, "--bogus"))
        yield Use(command, (*words, *here, "--bogus=1"))
        yield Use(command, (*words, *here, "one", "too", "many"))
        if out:
            yield Use(command, (*words, option))
            yield Use(command, (*words, option, ""))
            yield Use(command, (*words, option, f"read-only/{Path(out).name}"), "as nobody")
            yield Use(command, (*words, *here), "while another writes")
            yield Use(command, (*words, *here), "where no folder is any more")
            if command != "train":  # its libraries keep caches
                yield Use(command, (*words, *here), "on a full disk")
        for parameter in parameters(command):
            name = parameter.opts[0]
            if parameter.required and name != "--out":
                yield Use(command, (*without(words, name), *here))
            if name.startswith("--") and name != "--out":
                for value in (*typed(parameter), *wrong_values(command, name)):
                    yield Use(command, (*without(words, name), *here, f"{name}={value}"))
        for given in ARGUMENTS.get(command, ()):
            yield Use(command, (*given, *here))
        for place in OUTS.get(command, ()):
            yield Use(command, (*words, option, place))
            if command in ("extract-directions", "sweep", "debate"):
                yield Use(command, (*words, option, place, "--restart"))
    for line in TOGETHER.strip().splitlines():
        command, *given = line.replace("FOUND", "found/directions.safetensors").split()
        out = RIGHT.get(command, ("", ""))[1]
        yield Use(command, (*given, *(("--out", out) if out and "--out" not in given else ())))


def wrong_values(command: str, name: str) -> tuple[str, ...]:
    """Those of an option in this command; a few where others try them all."""
    if (command, name) == ("suppress", "--server"):  # which only a judge needs
        return ()
    all_of = {"--model": "extract-directions", "--transcripts": "extract-directions", "--directions": "sweep"}
    all_of |= {"--layers": "steer", "--coefficients": "sweep", "--fit-classifier-on": "sweep", "--task": "debate"}
    place = len(command) % 4  # a fourth where another command has all of them
    return VALUES.get(name, ())[slice(place, None, 4) if all_of.get(name, command) != command else slice(None)]


def typed(parameter: Any) -> Iterator[str]:
    """Wrong values of a number, a choice or a switch, and no text at all."""
    kind = parameter.type_descriptor.annotation
    kind = get_args(kind)[0] if get_origin(kind) is list else kind
    if kind is bool:
        yield "1"
        return
    if len(parameter.name) % 3 == 0:
        yield ""
    if kind in (int, float):
        yield ("nan", "inf", "abc", "1e", "1,5")[len(parameter.name) % 5]
        if parameter.min is not None:
            yield str(parameter.min - 1)
        if parameter.max is not None:
            yield str(parameter.max + 1)
    if get_origin(kind) is not None or (isinstance(kind, type) and issubclass(kind, Enum)):
        yield from ("bogus", "add,add")


def without(words: tuple[str, ...], name: str) -> tuple[str, ...]:
    """The words without an option and its value, or without the argument in first place."""
    if name in words:
        place = words.index(name)
        return words[:place] + words[place + 2 :]
    return words if name.startswith("-") else words[1:]

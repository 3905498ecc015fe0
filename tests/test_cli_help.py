"""What `interp --help` and each verb's help say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import typer

from interp.cli.app import VERBS, app

COMMANDS = typer.main.get_command(app).commands


def test_every_verb_is_listed_in_order() -> None:
    done = subprocess.run([sys.executable, "-m", "interp.cli", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    places = []
    for panel, verbs in VERBS.items():
        names = [verb.__name__.replace("_", "-") for verb in verbs]
        places += [done.stdout.index(f"─ {panel} ─"), *(done.stdout.index(f"│ {name} ") for name in names)]
    assert places == sorted(places)


@pytest.mark.parametrize("verb", [verb for verbs in VERBS.values() for verb in verbs])
def test_a_verbs_help_has_an_example_of_options_that_it_has(verb: Callable[..., Any]) -> None:
    name = verb.__name__.replace("_", "-")
    examples = (verb.__doc__ or "").partition("Example")[2]
    assert f"`interp {name} " in examples
    known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert set(re.findall(r"--[a-z-]+", examples)) <= known


def test_the_examples_follow_one_another() -> None:
    """What an example reads, an earlier one has written."""
    written: set[str] = set()
    for verb in (verb for verbs in VERBS.values() for verb in verbs):
        examples = (verb.__doc__ or "").partition("Example")[2]
        for example in re.findall(r"`(interp [^`]+)`", examples):
            words = shlex.split(example)
            out = words[words.index("--out") + 1] if "--out" in words else ""
            files = {word for word in words if re.search(r"\.jsonl|\.safetensors|^out/", word)} - {out}
            assert all(any(file.startswith(each) for each in written) for file in files), example
            written |= {out} - {""}

"""What reading activations costs: `python -m benchmarks.extraction`.

Times three methods, alternately on the same debates; ratios are medians over repeats:

- interp: one pass per transcript reads every turn at every layer, without the LM head;
- forward: the bare Hugging Face model on the same batches, with its LM head, reading nothing;
- prefixes: the bare model reads the growing transcript again for each turn, at a single layer, as the public
  implementation does.

Also measures what the controls cost (the whole command, alternately with and without --no-controls), and its peak
memory, from reading the debates to the report, at two numbers of transcripts; each in its own process.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from interp.activations.corpus import Corpus
from interp.activations.reading import stream
from interp.debate.embedded import find_transcripts
from interp.debate.personas import PERSONAS
from interp.debate.protocol import debates
from interp.debate.scripted.agent import ScriptedAgent
from interp.debate.tasks.arithmetic import Arithmetic
from interp.debate.transcript import Transcript, write_transcripts
from interp.models.catalog import locate
from interp.models.model import load_model
from interp.reports.terminal import Terminal

PAPER = "a+b*c+d-e*f"


def scripted(n: int, form: str = PAPER, *, rounds: int | None = None) -> list[Transcript]:
    """Scripted debates other than the embedded ones, each with `rounds` rounds, or with one or two by default.

    Shorter questions give shorter debates.
    """
    task = Arithmetic(form=form)
    agents = [ScriptedAgent(p, error_rate=0.26, seed=100 + i) for i, p in enumerate(PERSONAS.values())]
    finished = debates(task.questions(100 * n, seed=100), agents, task=task, rounds=rounds or 2, chunk=n)
    return list(islice((d.transcript for d in finished if rounds in (None, d.transcript.n_rounds)), n))


def times(model_name: str, debates: list[Transcript], batch_tokens: int, repeats: int) -> Table:
    """Seconds of each method, and interp's time as a ratio to it."""
    from transformers import AutoModelForCausalLM

    model = load_model(model_name)
    checkpoint = locate(model_name)
    plain: Any = AutoModelForCausalLM.from_pretrained(
        checkpoint.location, dtype=model.dtype, **checkpoint.hub_arguments
    ).eval()
    corpus = Corpus.build(debates, model.tokenizer)
    ends = [int(corpus.turns.stop[corpus.turns.transcript == t].max()) for t in corpus.usable]  # what interp reads
    batches = [
        torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(corpus.ids[t][: ends[t]]) for t in r.transcripts], batch_first=True
        )
        for r in stream(model, corpus, layers=(0,), batch_tokens=batch_tokens)
    ]
    middle = plain.base_model.layers[model.n_layers // 2]

    def interp() -> None:
        for _ in stream(model, corpus, batch_tokens=batch_tokens):
            pass

    def forward() -> None:
        for ids in batches:
            plain(input_ids=ids, use_cache=False)

    def prefixes() -> None:
        read: list[torch.Tensor] = []
        handle = middle.register_forward_hook(lambda _, __, out: read.append(_first(out)[0, -1].clone()))
        for transcript, stop in zip(corpus.turns.transcript, corpus.turns.stop, strict=True):
            plain(input_ids=torch.tensor([corpus.ids[transcript][:stop]]), use_cache=False)
        handle.remove()
        assert len(read) == len(corpus.turns)

    methods: dict[str, Callable[[], None]] = {"interp": interp, "forward": forward, "prefixes": prefixes}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    with torch.inference_mode():
        for method in (interp, forward):  # warm up
            method()
        for _ in range(repeats):
            for name, method in methods.items():
                started = time.perf_counter()
                method()
                seconds[name].append(time.perf_counter() - started)

    n_tokens = sum(ends)
    n_prefix_tokens = int(corpus.turns.stop.sum())
    table = Table(
        title=f"{model_name}, {model.provenance['dtype']} on {model.device}: {len(debates)} debates, "
        f"{n_tokens:,} tokens ({n_prefix_tokens:,} in prefixes), {repeats} alternating repeats"
    )
    for heading in ("method", "seconds (median)", "interp ÷ method (median)", "range"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for name in methods:
        ratios = [a / b for a, b in zip(seconds["interp"], seconds[name], strict=True)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        table.add_row(name, f"{statistics.median(seconds[name]):.1f}", f"{statistics.median(ratios):.3f}", spread)
    return table


def _first(out: Any) -> torch.Tensor:
    return out[0] if isinstance(out, tuple) else out


def extract_once(arguments: list[str]) -> None:
    """Run `interp extract-directions` and print this process's peak memory in KiB."""
    sys.argv = ["interp", "extract-directions", *arguments]
    import_module("interp.cli").main()
    # getrusage would include the parent's peak
    status = Path("/proc/self/status").read_text()
    print(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def memory(model_name: str, sizes: list[int], form: str, batch_tokens: int) -> Table:
    """Peak memory of the command on files of so many short debates of one round; the smallest files open the others."""
    task = Arithmetic(form=form)
    agents = [ScriptedAgent(p, error_rate=0.26, seed=100 + i) for i, p in enumerate(PERSONAS.values())]
    made = [d.transcript for d in debates(task.questions(max(sizes), seed=100), agents, task=task, rounds=1)]
    table = Table(title=f"Peak memory of interp extract-directions with {model_name}")
    for heading in ("transcripts", "peak MiB", "ratio to first"):
        table.add_column(heading, justify="right")
    peaks: list[float] = []
    for n in sizes:
        with tempfile.TemporaryDirectory() as folder:
            write_transcripts(f"{folder}/debates.jsonl", made[:n])
            options = ["--model", model_name, "--batch-tokens", str(batch_tokens), "--out", f"{folder}/found"]
            options += ["--transcripts", f"{folder}/debates.jsonl"]
            command = [sys.executable, "-m", "benchmarks.extraction", "--extract-once", *options]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        peaks.append(int(done.stdout.split()[-1]) / 1024)
        table.add_row(str(n), f"{peaks[-1]:,.0f}", f"{peaks[-1] / peaks[0]:.3f}")
    return table


def controls(model_name: str, debates: list[Transcript], batch_tokens: int, repeats: int) -> Table:
    """Seconds of the whole command with an untrained model and the text beside it, and without."""
    seconds: dict[str, list[float]] = {"--controls": [], "--no-controls": []}
    with tempfile.TemporaryDirectory() as folder:
        write_transcripts(f"{folder}/debates.jsonl", debates)
        for i, which in enumerate([*seconds] * repeats):
            options = ["--model", model_name, "--batch-tokens", str(batch_tokens), "--out", f"{folder}/found-{i}"]
            options += ["--transcripts", f"{folder}/debates.jsonl", which]
            started = time.perf_counter()
            command = [sys.executable, "-m", "benchmarks.extraction", "--extract-once", *options]
            subprocess.run(command, stdout=subprocess.PIPE, check=True)
            seconds[which].append(time.perf_counter() - started)
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    table = Table(title=f"{model_name}: interp extract-directions on {len(debates)} debates, {repeats} repeats")
    for heading in ("with controls (s)", "without (s)", "ratio (median)", "range"):
        table.add_column(heading, justify="right")
    medians = (f"{statistics.median(each):.1f}" for each in seconds.values())
    table.add_row(*medians, f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--transcripts", type=int, default=6, help="transcripts to time")
    parser.add_argument("--form", default=PAPER, help="form of the questions; a shorter form gives shorter debates")
    parser.add_argument("--rounds", type=int, default=2, help="rounds of each timed debate")
    parser.add_argument(
        "--debates", help="file of debates to time instead of scripted ones; only those with --rounds rounds are used"
    )
    parser.add_argument("--repeats", type=int, default=5, help="repeats of the timing; 0 skips it")
    parser.add_argument("--controls", type=int, default=3, help="repeats with and without controls; 0 skips them")
    parser.add_argument("--batch-tokens", type=int, default=2048, help="tokens per batch")
    parser.add_argument(
        "--memory", type=int, nargs="*", default=[200, 4000], help="numbers of transcripts; none skips memory"
    )
    parser.add_argument("--memory-model", default="organism", help="model whose memory is measured")
    if sys.argv[1:2] == ["--extract-once"]:
        return extract_once(sys.argv[2:])
    given = parser.parse_args()
    console = Terminal(soft_wrap=True)
    debates = scripted(given.transcripts, given.form, rounds=given.rounds)
    if given.debates:
        debates = [d for d in find_transcripts(given.debates) if d.n_rounds == given.rounds][: given.transcripts]
    if given.controls:
        console.print(controls(given.model, debates, given.batch_tokens, given.controls))
    if given.repeats:
        console.print(times(given.model, debates, given.batch_tokens, given.repeats))
    if given.memory:
        console.print(memory(given.memory_model, given.memory, "a+b", given.batch_tokens))


if __name__ == "__main__":
    main()

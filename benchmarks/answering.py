"""How much faster batches are answered: `python -m benchmarks.answering`.

Times the first round of a debate among three personas of one local model, one request at a time and `--batch` at a
time. Both run alternately on the same questions, and ratios are medians over repeats. Decoding is greedy, so both
should write the same texts; the title counts how many are the same.
"""

from __future__ import annotations

import argparse
import statistics
import time

from rich.table import Table

from interp.debate.agents import Answer, Request, Sampling
from interp.debate.personas import PERSONAS
from interp.debate.tasks.arithmetic import Arithmetic
from interp.generation.agents import LocalAgent
from interp.models.model import load_model
from interp.reports.terminal import Terminal


def times(model_name: str, n_questions: int, batch_size: int, max_new_tokens: int, repeats: int) -> Table:
    """Seconds, tokens per second and speedup at each batch size."""
    model = load_model(model_name)
    requests = [Request(question.text, 1) for question in Arithmetic().questions(n_questions, seed=0)]
    sizes = (1, batch_size)
    sampling = Sampling(max_new_tokens, temperature=0)
    agents = {size: [LocalAgent(persona, model, sampling, size) for persona in PERSONAS.values()] for size in sizes}
    agents[batch_size][0].answer(requests[:1])  # warm up
    seconds: dict[int, list[float]] = {size: [] for size in sizes}
    answers: dict[int, list[Answer]] = {}
    for _ in range(repeats):
        for size, seats in agents.items():
            started = time.perf_counter()
            calls = [[request] for request in requests] if size == 1 else [requests]
            answers[size] = [answer for agent in seats for call in calls for answer in agent.answer(call)]
            seconds[size].append(time.perf_counter() - started)

    same = sum(a.text == b.text for a, b in zip(*(answers[size] for size in sizes), strict=True))
    table = Table(
        title=f"{model_name}, {model.provenance['dtype']} on {model.device}: {n_questions} questions to three "
        f"personas, up to {max_new_tokens} tokens each, {repeats} alternating repeats; "
        f"{same} of {len(answers[1])} texts are the same"
    )
    for heading in ("batch size", "seconds (median)", "tokens per second", "speedup (median)", "range"):
        table.add_column(heading, justify="right")
    for size in sizes:
        ratios = [a / b for a, b in zip(seconds[1], seconds[size], strict=True)]
        median = statistics.median(seconds[size])
        rate = sum(answer.output_tokens for answer in answers[size]) / median
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        table.add_row(str(size), f"{median:.1f}", f"{rate:.0f}", f"{statistics.median(ratios):.2f}", spread)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--questions", type=int, default=48)
    parser.add_argument("--batch", type=int, default=16, help="batch size")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=2)
    given = parser.parse_args()
    console = Terminal(soft_wrap=True)
    console.print(times(given.model, given.questions, given.batch, given.max_new_tokens, given.repeats))


if __name__ == "__main__":
    main()

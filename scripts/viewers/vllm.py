"""`python -m scripts.viewers.vllm results/<run> [rows]`: ask the run's Hugging Face folder with vLLM (`make vllm`).

In: a finished run's folder, vLLM in .venv/vllm. Out: `vllm.json` in the folder: the prompts that are those of training,
the answers that are the evaluation's, and the task's metrics of both, on the same held-out rows.

Prompts must be those of training, token for token. Answers need not be the evaluation's: vLLM computes in another order
than llama.cpp, which can tip the choice between two nearly equally likely tokens. So they are counted, not judged.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import read_json, read_jsonl, write_json
from scripts.common.models import resolve, served
from scripts.common.records import Record
from scripts.common.strict_json import read_schema
from scripts.evaluate.grade import grade
from scripts.tasks.table import load_task
from scripts.viewers.finished import Answered, Finished

PYTHON = ROOT / ".venv" / "vllm" / "bin" / "python"
SPLIT = "test"
ROWS = 40
BF16 = "bf16"  # the precision of the folder, so the form whose answers should be nearest
LONGER = 256  # tokens by which a prompt may be longer than llama.cpp's, so that one that differs is shown
# no network, no reports of use, one process, threads that share the cores with other programs, 1 GiB for the cache of
# keys and values instead of half of the memory
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
DEFAULTS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_LOGGING_LEVEL": "WARNING",
}


def ask(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ask_vllm.py finds for `job`. Raises GradusError with the end of its output if it fails."""
    if not PYTHON.is_file():
        raise GradusError(f"{PYTHON}: vLLM is not installed; `make vllm` installs it")
    with tempfile.TemporaryDirectory() as folder:
        file, output = Path(folder) / "job.json", Path(folder) / "answers.json"
        write_json(file, {**job, "output": str(output)})
        done = subprocess.run(
            [PYTHON, "-m", "scripts.viewers.ask_vllm", file],
            cwd=ROOT,
            env={**DEFAULTS, **os.environ, **OFFLINE},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode == -signal.SIGILL:
            raise GradusError("this CPU lacks instructions that vLLM was built for: on x86-64, AVX2 at least")
        if done.returncode or not output.is_file():
            last = "\n".join(done.stdout.strip().splitlines()[-20:])
            raise GradusError(f"vLLM failed (exit code {done.returncode}). The end of what it said:\n{last}")
        return dict(read_json(output))


def choose(run: Finished) -> Answered:
    """Return the evaluation's answers to compare with: the served model's in bf16, else as it is served.

    Raises GradusError if there are none, or if llama.cpp was held to a grammar, which the folder does not know.
    """
    name = served(run.config, resolve(run.config["models"])).name
    forms = {given.form: given for given in run.answered() if given.model.name == name and given.split == SPLIT}
    chosen = forms.get(BF16) or forms.get(run.config["export"]["quant"])
    if chosen is None or not chosen.answers:
        raise GradusError(f"{run.folder}: {name} was asked no row of the split {SPLIT}, so there is nothing to compare")
    if "constrained" in chosen.model.options:
        raise GradusError(f"{name} answers by a grammar (`constrained`), which vLLM is not given here")
    return chosen


def compare(run: Finished, given: Answered, rows: Sequence[Record], found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what to report of vLLM's answers (`found`, of `ask`) to `rows`, the first of `given`.

    Raises GradusError that shows the first prompt that is not as in training.
    """
    made = found["answers"]
    for record, conversation, answer in zip(rows, given.asked[: len(rows)], made, strict=True):
        if not answer["as_trained"]:
            raise GradusError(
                f"vLLM asks row {record.id} differently from training, so expect worse answers.\n"
                f"  vLLM:     {answer['prompt']!r}\n  training: {run.contract.template.render(conversation)!r}"
            )
    evaluated = given.answers[: len(rows)]
    config = run.config["data"]
    task, schema = load_task(config["task"]), read_schema(run.intact(config["schema"])) if config["schema"] else None
    train = read_jsonl(run.intact(f"results/{run.name}/curriculum/train.jsonl"))
    trained = Counter(row["response"] for row in train)

    def metrics(answers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        named = [{**answer, "id": record.id} for record, answer in zip(rows, answers, strict=True)]
        return {name: entry["value"] for name, entry in grade(rows, named, task, schema, trained)[1].items()}

    differing = [
        {"id": record.id, "vllm": answer["text"], "evaluated": known["text"]}
        for record, answer, known in zip(rows, made, evaluated, strict=True)
        if answer["text"] != known["text"]
    ]
    return {
        "vllm": found["version"],
        "split": SPLIT,
        "compared_with": f"{given.model.name}/{given.form}",
        "asked": len(rows),
        "same_prompts": len(rows),
        "same_answers": len(rows) - len(differing),
        "stopped": sum(answer["stopped"] for answer in made),
        "headline": run.headline,
        "metrics": {"vllm": metrics(made), "evaluated": metrics(evaluated)},
        "differing": differing,
    }


def check(run: Finished, count: int) -> dict[str, Any]:
    """Ask the first `count` rows; return what to report."""
    run.intact(f"results/{run.name}/hf")
    given = choose(run)
    rows, asked = given.records[:count], given.asked[:count]
    longest = max(answer["prompt_tokens"] for answer in given.answers[:count])
    max_tokens = run.config["evaluate"]["max_tokens"]
    found = ask(
        {
            "model": str((run.folder / "hf").resolve()),
            "conversations": asked,
            "rendered": [run.contract.template.render(conversation) for conversation in asked],
            "max_tokens": max_tokens,
            "context": longest + LONGER + max_tokens,
        }
    )
    return compare(run, given, rows, found)


def summary(found: Mapping[str, Any]) -> str:
    """Return what the user is told."""
    asked, headline = found["asked"], found["headline"]
    ours, theirs = (found["metrics"][who][headline] for who in ("vllm", "evaluated"))
    return (
        f"vLLM {found['vllm']}: {found['same_prompts']} of {asked} prompts as in training; {found['same_answers']} of "
        f"{asked} answers as {found['compared_with']}'s in the evaluation; {found['stopped']} ended by themselves; "
        f"{headline} {ours:.3f}, in the evaluation {theirs:.3f}"
    )


def main() -> None:
    """Write vllm.json and say what was found."""
    try:
        run = Finished(sys.argv[1])
        count = sys.argv[2] if len(sys.argv) > 2 else str(ROWS)
        if not count.isdecimal() or int(count) < 1:
            raise GradusError(f"{count!r} is no number of rows; give 1 or more")
        found = check(run, int(count))
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
    write_json(run.folder / "vllm.json", found)
    print(f"Gradus: {summary(found)} ({run.folder}/vllm.json)")


if __name__ == "__main__":
    main()

"""`python -m scripts.viewers.lm_eval_task results/<run>`: write a task folder for EleutherAI's lm-evaluation-harness.

In: a finished run's folder. Out: `viewers/lm-eval` in it: the held-out rows that the models were asked, two tasks
per split, the functions that grade, a README. It needs no package of the harness.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_json
from scripts.common.io import atomic_path, read_jsonl, write_json, write_jsonl
from scripts.common.records import Record
from scripts.common.strict_json import read_schema
from scripts.tasks.table import load_task
from scripts.viewers.finished import Finished

UTILS = Path(__file__).with_name("lm_eval_utils.py")
FUNCTIONS = "custom_dataset: !function utils.rows\nprocess_results: !function utils.grade\n"
README = """# {run}: held-out rows as tasks for lm-evaluation-harness

Written by Gradus from results/{run}. In the project's folder, with `pip install "lm-eval[hf]==0.4.13"`:

    python -m lm_eval run --model hf --model_args pretrained=results/{run}/hf \\
        --include_path {folder} --tasks {first} {flag}

| task | rows | how it asks |
|---|--:|---|
{table}

- A task without `_rendered` asks by messages, and any model answers with its own chat template. It needs
  `--apply_chat_template`: without it, system prompt and request run together.
- A task with `_rendered` asks with the text that this run's models read, rendered with its chat template. It must not
  have `--apply_chat_template`, and fits models with that template.
- Answers are greedy, of at most {max_tokens} tokens, until the end-of-turn token {end!r} or the model's own.

Graded: `text_exact` (the answer equals the response, ignoring whitespace at both ends){graded}.{more}
Not graded: `stopped`, because the harness does not say whether an answer ended by itself{missing}.

Figures can differ from this run's: the harness runs the checkpoint in `hf`, the run llama.cpp with a quantized one.
"""


def to_row(run: Finished, record: Record) -> dict[str, Any]:
    """Return a row of a task: the record, the system prompt, and the prompt as the chat template renders it."""
    rendered = run.contract.template.render(run.contract.ask(record))
    return {**record.to_json(), "system": run.contract.system_prompt, "rendered": rendered}


def task_file(name: str, file: str, version: str, rendered: bool, run: Finished, metrics: Sequence[str]) -> str:
    """Return a task in the harness's YAML. `file`: of the rows. A row's fields are named, and no template is run."""
    fields = {
        "task": name,
        "dataset_kwargs": {"file": file},
        "test_split": "test",
        "output_type": "generate_until",
        "description": "" if rendered else "system",
        "doc_to_text": "rendered" if rendered else "prompt",
        "doc_to_target": "response",
        "num_fewshot": 0,
        "generation_kwargs": {
            "until": [run.contract.end_of_turn],
            "max_gen_toks": run.config["evaluate"]["max_tokens"],
            "do_sample": False,
            "temperature": 0.0,
        },
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in metrics],
        "metadata": {"version": version},
    }
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120) + FUNCTIONS


def find_metrics(run: Finished) -> tuple[dict[str, Any], list[str]]:
    """Return (what utils.py needs to grade, names of the metrics of this task that it cannot grade)."""
    config = run.config["data"]
    task = load_task(config["task"])
    train = read_jsonl(run.intact(f"results/{run.name}/curriculum/train.jsonl"))
    labels = sorted({row["response"].strip() for row in train}) if task.label_metrics else []
    schema = read_schema(run.intact(config["schema"])) if config["schema"] else None
    names = sorted({*task.row_metrics(schema, labels), *task.batch} - {"stopped"})
    settings = {"task": config["task"], "schema": schema, "labels": labels, "metrics": names}
    return settings, sorted(task.whole)


def write_task(run: Finished) -> tuple[Path, list[str]]:
    """Write the task folder, whole or not at all; return it and the names of the tasks.

    A split whose rows have earlier turns gets the rendered task only: the harness has no field for them.
    """
    settings, missing = find_metrics(run)
    metrics = ["text_exact", *settings["metrics"]]
    place = run.folder / "viewers" / "lm-eval"
    tasks: dict[str, tuple[int, bool]] = {}  # {name: (rows, rendered)}
    with atomic_path(place) as part:
        part.mkdir()
        for split in run.config["evaluate"]["splits"]:
            records = run.held_out(split)
            rows = [to_row(run, record) for record in records]
            if not rows:
                continue
            name, version = f"{run.name}_{split}", sha256_json(rows)[:12]
            write_jsonl(part / f"{name}.jsonl", rows)
            for rendered in [True] if any(record.context for record in records) else [False, True]:
                task = f"{name}_rendered" if rendered else name
                tasks[task] = len(rows), rendered
                text = task_file(task, f"{name}.jsonl", version, rendered, run, metrics)
                (part / f"{task}.yaml").write_text(text, encoding="utf-8")
        if not tasks:
            splits = ", ".join(run.config["evaluate"]["splits"])
            raise GradusError(
                f"{run.folder}: no held-out row was asked (splits: {splits}), so there is no task to write"
            )
        write_json(part / "task.json", settings)
        shutil.copyfile(UTILS, part / "utils.py")
        readme = describe(run, tasks, settings["metrics"], missing)
        (part / "README.md").write_text(readme, encoding="utf-8")
    return place, list(tasks)


def describe(
    run: Finished, tasks: Mapping[str, tuple[int, bool]], metrics: Sequence[str], missing: Sequence[str]
) -> str:
    """Return the folder's README."""
    first = next(iter(tasks))
    lines = [f"| {name} | {rows} | {'rendered' if cooked else 'messages'} |" for name, (rows, cooked) in tasks.items()]
    listed = ", ".join(f"`{name}`" for name in metrics)
    return README.format(
        run=run.name,
        folder=f"results/{run.name}/viewers/lm-eval",
        first=first,
        flag="" if tasks[first][1] else "--apply_chat_template",
        table="\n".join(lines),
        max_tokens=run.config["evaluate"]["max_tokens"],
        end=run.contract.end_of_turn,
        graded=f"; by the project's own metrics {listed}" if metrics else "",
        more=" Each is the mean over the rows that it counts for." if metrics else "",
        missing="".join(f"; `{name}`, which needs all rows at once" for name in missing),
    )


def main() -> None:
    """Write the folder and say how to use it."""
    try:
        place, tasks = write_task(Finished(sys.argv[1]))
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
    print(f"{place}: {', '.join(tasks)}; {place}/README.md says how to run them")


if __name__ == "__main__":
    main()

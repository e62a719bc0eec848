"""`python -m scripts.viewers.inspect_logs results/<run>`: write a finished run as logs of UK AISI's Inspect.

In: a finished run's folder. Out: `viewers/inspect` in it, one log per model, form and split: every answer and grade.

It runs in the tools environment (`make viewers`), which has inspect-ai. The package's own types make the logs. The same
run gives the same bytes: times are the run's, and ids are hashes of what they name.
"""

import re
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalMetric,
    EvalResults,
    EvalSample,
    EvalScore,
    EvalSpec,
    EvalStats,
    HeadlineMetric,
    write_eval_log,
)
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageUser,
    GenerateConfig,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.scorer import Score
from inspect_ai.viewer import ViewerConfig

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_json
from scripts.common.io import atomic_path
from scripts.common.prompts import Conversation
from scripts.viewers.finished import Answered, Finished

MESSAGES = {"system": ChatMessageSystem, "user": ChatMessageUser, "assistant": ChatMessageAssistant}


def identify(*parts: str) -> str:
    """Return an id of 22 characters, as long as Inspect's own, from what it names."""
    return sha256_json(list(parts))[:22]


def to_messages(name: str, conversation: Conversation) -> list[ChatMessage]:
    """Return a conversation as Inspect's messages; `name`: of the sample, for the messages' ids."""
    return [
        MESSAGES[turn["role"]](id=f"{name}.{place}", content=turn["content"], source="input")
        for place, turn in enumerate(conversation)
    ]


def make_samples(run: Finished, given: Answered, model: str, log: str) -> list[EvalSample]:
    """Return one sample per answer. `model`: its name in the log; `log`: the log's id."""
    samples = []
    rows = zip(given.records, given.asked, given.answers, given.grades, strict=True)
    for record, conversation, answer, grades in rows:
        read, written = answer["prompt_tokens"], answer["tokens"]
        known = read is not None and written is not None
        usage = ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written) if known else None
        said = ChatMessageAssistant(
            id=f"{record.id}.{len(conversation)}", content=answer["text"], source="generate", model=model
        )
        asked = to_messages(record.id, conversation)
        samples.append(
            EvalSample(
                id=record.id,
                epoch=1,
                uuid=identify(log, record.id),
                input=asked,
                target=[record.response, *record.accepted] if record.accepted else record.response,
                messages=[*asked, said],
                output=ModelOutput(
                    model=model,
                    choices=[
                        ChatCompletionChoice(message=said, stop_reason="stop" if answer["stopped"] else "max_tokens")
                    ],
                    usage=usage,
                ),
                model_usage={model: usage} if usage else {},
                scores={
                    name: Score(value=value, answer=answer["text"])
                    for name, value in sorted(grades.items())
                    if name != "id"
                },
                metadata={
                    "split": record.split,
                    "difficulty": run.level(record),
                    "source": record.source,
                    "group": record.group,
                    "thread": record.thread,
                    "checks": record.checks,
                },
            )
        )
    return samples


def make_results(given: Answered, samples: Sequence[EvalSample], headline: str) -> EvalResults:
    """Return the run's own value of each metric: its score's metric `mean`, or `value` if no single row has one."""
    scores = []
    for name, entry in given.metrics.items():
        scored = sum(name in (sample.scores or {}) for sample in samples)
        kind = "mean" if scored else "value"
        value = entry["value"]
        scores.append(
            EvalScore(
                name=name,
                scorer=name,
                scored_samples=entry["n"],
                unscored_samples=len(samples) - entry["n"],
                metrics={} if value is None else {kind: EvalMetric(name=kind, value=value)},
            )
        )
    return EvalResults(
        total_samples=len(samples),
        completed_samples=len(samples),
        scores=scores,
        headline=HeadlineMetric(scorer=headline, score=headline, metric="mean"),
    )


def make_log(run: Finished, given: Answered) -> EvalLog:
    """Return the log of one model's answers to one split."""
    task, model = f"{run.name}-{given.split}", f"{given.model.name}/{given.form}"
    log = identify(task, model, given.made["sha256"], given.grades_sha256)
    samples = make_samples(run, given, model, log)
    began = datetime.fromisoformat(given.made["started"])
    ended = began + timedelta(seconds=round(given.made["seconds"]))
    usage = [sample.model_usage[model] for sample in samples if model in sample.model_usage]
    total = sum(usage[1:], usage[0]) if usage else None
    manifest = run.manifest
    return EvalLog(
        status="success",
        eval=EvalSpec(
            eval_id=log,
            run_id=identify(run.name, manifest["config_sha256"]),
            task_id=log,  # the viewer takes logs with the same task id for retries, and shows the last
            created=began.isoformat(),
            task=task,
            task_description=f"Held-out rows of the run {run.name}, split {given.split}",
            dataset=EvalDataset(
                name=task,
                location=f"results/{run.name}/curriculum/{given.split}.jsonl",
                samples=len(samples),
                sample_ids=[str(sample.id) for sample in samples],
                shuffled=False,
            ),
            model=model,
            model_generate_config=GenerateConfig(max_tokens=run.config["evaluate"]["max_tokens"], temperature=0),
            model_args={
                "name": given.model.name,
                "kind": given.model.kind,
                "form": given.form,
                "gguf_sha256": given.speed.get("gguf_sha256"),
                "options": dict(given.model.options),
            },
            config=EvalConfig(),
            packages={"llama-cpp-python": manifest["llama_cpp"]["llama-cpp-python"]} if given.model.gguf else {},
            tags=[run.name, given.split],
            metadata={
                "made_by": "Gradus",
                "answers_sha256": given.made["sha256"],
                "grades_sha256": given.grades_sha256,
                "chat_contract": manifest["chat_contract"],
                "config_sha256": manifest["config_sha256"],
                "git": manifest["git"],
                "fingerprint": manifest["fingerprint"],
                "speed": dict(given.speed),
            },
            headline_metric=HeadlineMetric(scorer=run.headline, score=run.headline, metric="mean"),
            viewer=ViewerConfig(trust_content=False),  # plain text: no Markdown, links or images of a model's making
        ),
        results=make_results(given, samples, run.headline),
        stats=EvalStats(
            started_at=began.isoformat(), completed_at=ended.isoformat(), model_usage={model: total} if total else {}
        ),
        samples=samples,
    )


def file_name(log: EvalLog) -> str:
    """Return the name under which Inspect finds a log in JSON: time, task, model and id, with `_` between them only."""
    parts = [log.eval.created, log.eval.task, log.eval.model, log.eval.eval_id]
    return "_".join(re.sub(r"[^\w.+]|_", "-", part) for part in parts) + ".json"


def write_logs(run: Finished) -> list[str]:
    """Write the logs into the run's folder, all or none; return their names."""
    names = []
    with atomic_path(run.folder / "viewers" / "inspect") as part:
        part.mkdir()
        for given in run.answered():
            log = make_log(run, given)
            names.append(file_name(log))
            write_eval_log(log, str(part / names[-1]))
    return names


def main() -> None:
    """Write the logs and say how to open them."""
    try:
        run = Finished(sys.argv[1])
        names = write_logs(run)
    except GradusError as error:
        sys.exit(f"Gradus: {error}")
    place = run.folder / "viewers" / "inspect"
    print(f"{len(names)} logs; to open them: .venv/tools/bin/inspect view --log-dir {place}")


if __name__ == "__main__":
    main()

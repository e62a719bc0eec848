"""The lines of a plan's config, each with the reason for it. Keys whose default is suitable have no line."""

from collections.abc import Iterator
from statistics import median
from typing import Any

from scripts.config.schema import default
from scripts.new.difficulty import LEVELS, QUANTILES
from scripts.new.looks import Looks
from scripts.new.plan import EVALUATED, Plan, name_all
from scripts.new.write import Line

SECTIONS = {
    "data": "the rows, and how to read them (docs/data.md)",
    "split": "which rows are held out",
    "decontaminate": "the gate between training rows and held-out rows",
    "score": "how difficulty is scored (docs/curriculum.md)",
    "curriculum": "what is trained, in which order",
    "chat": "how prompts are built, the same in training, evaluation and Ollama",
    "train": "training settings (docs/training.md)",
    "evaluate": "which held-out rows are answered, and how",
    "report": "what the report shows",
}
SHORT_ANSWER = 5  # words; longer free text is seldom equal to the reference
HARDER = {
    "facts": "a row with more checks is harder",
    "length": "a longer row is harder",
    "readability": "a prompt that is harder to read is harder",
    "rules": "points for what can be counted",
}


def percent(share: float) -> str:
    """Format a share as a percentage."""
    return f"{100 * share:.0f}%"


def minutes(value: float) -> str:
    """Format minutes."""
    return f"about {max(1, round(value))} min"


def explain_task(looks: Looks) -> str:
    """Return why this task was chosen, and how it is graded."""
    if looks.task == "command":
        return "answers start with `aws`; graded as commands"
    if looks.task == "extract":
        return "answers are JSON objects; graded field by field"
    if looks.task == "classify":
        return f"{len(looks.labels)} different answers, all short; graded by accuracy and F1"
    return "answers are free text; graded by `checks`, exact match, overlap and similarity"


def explain_lengths(plan: Plan) -> str:
    """Return how tokens were counted."""
    return "by the base's tokenizer" if plan.lengths.exact else "estimated from characters"


def data_lines(plan: Plan) -> Iterator[Line]:
    """Yield the lines of `data`."""
    looks = plan.looks
    yield Line("data.task", looks.task, explain_task(looks))
    yield Line("data.files", looks.files, f"{looks.count:,} rows of shape {name_all(looks.shapes)}")
    if looks.columns:
        yield Line("data.columns", looks.columns, "Gradus's field: its name in your rows")
    if looks.ignored:
        yield Line("data.ignore_fields", looks.ignored, "columns to drop; other unknown columns are an error")
    if plan.few:
        yield Line("data.allow_few", True, "with fewer than 100 rows, training and evaluation are not meaningful")


def score_lines(plan: Plan) -> Iterator[Line]:
    """Yield the lines of `score`; none if rows have their own difficulty, or if no scorer divides them."""
    if plan.division is None or plan.division.scorer is None:
        return
    scorer, shares = plan.division.scorer, plan.division.shares
    # disable the scorers that are on by default
    weights = {name: 0 for name, weight in default("score.weights").items() if weight and name != scorer} | {scorer: 1}
    why = HARDER[scorer]
    if scorer != "rules":
        why += f"; points by `rules` would put {percent(max(shares['rules']))} of your rows into one level"
    yield Line("score.weights", weights, why)
    mix = " / ".join(percent(share) for share in shares[scorer])
    yield Line("score.quantiles", QUANTILES, f"{mix} of the rows become {name_all(LEVELS)}")


def phases_line(plan: Plan) -> Line:
    """Return `curriculum.phases`, the budget."""
    budget = plan.budget
    items = []
    for wanted, rows, pool in zip(plan.phases, budget.rows, plan.pools, strict=True):
        names = [LEVELS[level] for level in wanted]
        value: dict[str, Any] = {"name": names[-1] if len(plan.phases) > 1 else "train", "levels": names}
        value |= {"rows": rows} if rows else {"epochs": budget.epochs}
        items.append((value, f"{rows:,} of {pool:,} rows" if rows else f"{pool:,} rows"))
    reason = f"{budget.epochs} epochs, since one has few steps" if budget.epochs > 1 else "every row once per phase"
    if any(budget.rows):
        reason = "not all rows, to keep to the limit --minutes"
    total = f"{budget.steps:,} steps, {budget.tokens:,} tokens, {minutes(budget.training_minutes)} (estimated)"
    return Line("curriculum.phases", items, f"{reason}: {total}")


def headline_of(looks: Looks) -> tuple[str, str] | None:
    """Return the metric that free text is judged by, and why; None if the task's own will do."""
    if looks.task != "qa" or not looks.records:
        return None
    if all(record.checks for record in looks.records):
        return "pass", "every row has checks: an answer is right if it contains all of them"
    words = median(len(record.response.split()) for record in looks.records)
    if words > SHORT_ANSWER:
        return "rouge_l", f"half of the answers have {words:g} words or more; none but a copy would be equal"
    return None


def make_lines(plan: Plan) -> Iterator[Line]:
    """Yield the lines of a config, in the order of the file."""
    yield Line("run", plan.run, f"its output is in results/{plan.run}/")
    yield Line("base_model", plan.base["alias"], "the model to fine-tune, from config/bases.yaml")
    yield from data_lines(plan)
    for key, (value, why) in plan.split.items():
        yield Line(f"split.{key}", value, why)
    if plan.held_out.too_many:
        share = f"{plan.held_out.contaminated:,} of {plan.held_out.count:,}"
        why = f"leaves out {share} held-out rows that nearly equal training rows; the default stops"
        yield Line("decontaminate.found", "leave-out", why)
    yield from score_lines(plan)
    yield phases_line(plan)
    named = {"classify": "; it names the labels", "extract": "; it names the keys"}.get(plan.looks.task, "")
    own = plan.looks.system_prompt is not None
    why = "the system turn of your rows" if own else f"a draft, to be edited: say what the model is for{named}"
    yield Line("chat.system_prompt", plan.system_prompt, why)
    yield Line("train.batch_size", plan.budget.batch_size, f"rows per step, for {plan.budget.steps:,} steps in total")
    counted = explain_lengths(plan)
    longest = f"your longest row has {plan.lengths.longest:,} tokens, {counted}"
    yield Line("train.max_length", plan.max_length, f"{longest}; the rest is headroom")
    asked = [name for name in EVALUATED if plan.budget.splits.get(name)]
    if asked != list(EVALUATED):
        missing = name_all([name for name in EVALUATED if name not in asked])
        yield Line("evaluate.splits", asked, f"no rows fall into {missing}")
    longest = f"your longest answer has {plan.lengths.longest_answer:,} tokens, {counted}"
    yield Line("evaluate.max_tokens", plan.max_tokens, longest)
    if headline := headline_of(plan.looks):
        yield Line("evaluate.headline", *headline)
    yield Line("report.title", plan.run.replace("-", " ").replace("_", " ").capitalize(), "title of the report")

"""The output of `make new`: what was found, what to check, and the next steps."""

from pathlib import Path

import psutil

from scripts.common.records import SPLITS
from scripts.new import budget
from scripts.new.difficulty import LEVELS
from scripts.new.lines import explain_lengths, explain_task, minutes, percent
from scripts.new.looks import MAX_REJECTED, MOST_ROWS, describe
from scripts.new.plan import Plan, name_all

SHOWN_LABELS = 20


def seen(plan: Plan) -> dict[str, str]:
    """Return what was found and decided, {name: text of a line}."""
    looks, lengths, planned = plan.looks, plan.lengths, plan.budget
    looked = min(looks.count, MOST_ROWS)
    found = {"rows": f"{looked - len(looks.rejected):,} of {looked:,} can be used, shape {name_all(looks.shapes)}"}
    if looks.columns:
        found["columns"] = describe(looks.columns)
    if looks.ignored:
        found["not used"] = ", ".join(looks.ignored)
    found["task"] = f"{looks.task}: {explain_task(looks)}"
    if looks.task == "classify":
        found["labels"] = ", ".join(f"{name} {count:,}" for name, count in looks.labels.most_common(SHOWN_LABELS))
    if rejected := sum(bool(record.rejected) for record in looks.records):
        found["rejected"] = f"{rejected:,} rows have rejected answers, for preference tuning (docs/preference.md)"
    found["groups"] = "none found; if rows belong together, add a column `group`"
    if looks.groups:
        name, most = looks.groups.most_common(1)[0]
        found["groups"] = f"{len(looks.groups):,}; the largest, {name!r}, has {most:,} rows"
    found["tokens"] = (
        f"{lengths.longest:,} at most in a row, {lengths.longest_answer:,} in an answer; 99% of the rows have "
        f"{lengths.usual:,} or fewer; {explain_lengths(plan)}"
    )
    found["difficulty"] = difficulty(plan)
    found["splits"] = ", ".join(f"{name} {planned.splits[name]:,}" for name in SPLITS if name in planned.splits)
    if left_out := plan.held_out.places.count(""):
        found["splits"] += f" (left out because too similar to rows in another split: {left_out:,})"
    found["training"] = f"{planned.steps:,} steps, {planned.tokens:,} tokens, {minutes(planned.training_minutes)}"
    found["total"] = f"{minutes(planned.minutes)}, {planned.memory_gib:.1f} GiB of memory"
    found["speed"] = f"{plan.machine.basis(plan.parameters or budget.PARAMETERS)}; {plan.machine.threads} threads"
    size = f"{plan.parameters / 1e6:,.0f}M parameters" if plan.parameters else "size unknown, assumed 135M parameters"
    found["base"] = f"{plan.base['alias']}, {size}"
    return found


def difficulty(plan: Plan) -> str:
    """Return how difficulty is determined, and the resulting mix."""
    mix = ", ".join(f"{name} {percent(plan.levels.count(n) / len(plan.levels))}" for n, name in enumerate(LEVELS))
    if plan.division is None:
        return f"given in the rows: {mix}"
    if plan.division.scorer is None:
        return "no scorer separates the rows: one phase"
    others = ", ".join(
        f"{name} {'/'.join(f'{100 * share:.0f}' for share in shares)}"
        for name, shares in plan.division.shares.items()
        if name != plan.division.scorer
    )
    return f"by {plan.division.scorer}: {mix} (other scorers: {others})"


def notes(plan: Plan) -> list[str]:
    """Return what the user should check."""
    looks, free = plan.looks, psutil.virtual_memory().available / 2**30
    found = [note.replace("<run>", plan.run) for note in looks.notes]
    if looks.rejected:
        over = len(looks.rejected) > MAX_REJECTED * min(looks.count, MOST_ROWS)
        then = "too many, the run would stop (data.max_rejected_share); correct them first" if over else "left out"
        first = "".join(f"\n      {row.file}:{row.line}: {row.reason}" for row in looks.rejected[:3])
        found.append(f"rows that cannot be used: {len(looks.rejected):,}; {then}{first}")
    if plan.held_out.too_many:
        found.append(
            f"held-out rows that are nearly the same as training rows: {plan.held_out.contaminated:,} of "
            f"{plan.held_out.count:,}; they are left out of the evaluation, since they would inflate its results"
        )
    if plan.lengths.longest > 4 * plan.lengths.usual:
        found.append("a few rows are far longer than the others; without them, training needs less memory")
    if plan.budget.memory_gib > free:
        found.append(f"only {free:.1f} GiB of memory are free; lower train.micro_batch_tokens, or use a smaller base")
    if not plan.lengths.exact:
        found.append(f"{plan.base['alias']} has not been fetched yet; after the first run, tokens are counted exactly")
    if plan.division is not None and plan.division.scorer is None:
        found.append("no scorer separates these rows; add a column `difficulty` if you know it")
    return found


def tell(plan: Plan, path: Path) -> str:
    """Return the complete output; `path`: the config that was written."""
    table = seen(plan)
    wide = max(map(len, table))
    parts = [
        f"Inspected {', '.join(plan.looks.files)}:",
        *(f"  {name:<{wide}}  {value}" for name, value in table.items()),
    ]
    if found := notes(plan):
        parts += ["", "Check:", *(f"  - {note}" for note in found)]
    audit = f"results/{plan.run}/data/audit.html"
    return "\n".join(
        [
            *parts,
            "",
            f"Wrote {path}. Next:",
            "  1. Read it. Edit chat.system_prompt; add data.license, which is shown on the model card.",
            "  2. Audit the data, which takes about a minute the first time, then seconds:",
            f"     .venv/bin/snakemake --cores all --configfile {path} -- {audit}",
            f"  3. Run it: make RUN={plan.run}",
            f"  4. Open results/{plan.run}/report.html",
        ]
    )

"""What `make new` prints: what was seen, what to look at, and what to do next."""

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
    """Return what was seen and decided, a line each."""
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
    found["groups"] = "none found; rows that belong together need a column `group`"
    if looks.groups:
        name, most = looks.groups.most_common(1)[0]
        found["groups"] = f"{len(looks.groups):,}; the largest, {name!r}, has {most:,} rows"
    found["tokens"] = (
        f"{lengths.longest:,} at most in a row, {lengths.longest_answer:,} in an answer; 99 % of the rows have "
        f"{lengths.usual:,} or fewer; {explain_lengths(plan)}"
    )
    found["difficulty"] = difficulty(plan)
    found["splits"] = ", ".join(f"{name} {planned.splits[name]:,}" for name in SPLITS if name in planned.splits)
    if left_out := plan.held_out.places.count(""):
        found["splits"] += f" (left out, too like rows in another split: {left_out:,})"
    found["training"] = f"{planned.steps:,} steps, {planned.tokens:,} tokens, {minutes(planned.training_minutes)}"
    found["in all"] = f"{minutes(planned.minutes)}, {planned.memory_gib:.1f} GiB of memory"
    found["speed"] = f"{plan.machine.basis(plan.parameters or budget.PARAMETERS)}; {plan.machine.threads} threads"
    size = (
        f"{plan.parameters / 1e6:,.0f} M parameters" if plan.parameters else "size unknown, taken as 135 M parameters"
    )
    found["base"] = f"{plan.base['alias']}, {size}"
    return found


def difficulty(plan: Plan) -> str:
    """Return who decides what is difficult, and what comes of it."""
    mix = ", ".join(f"{name} {percent(plan.levels.count(n) / len(plan.levels))}" for n, name in enumerate(LEVELS))
    if plan.division is None:
        return f"the rows' own: {mix}"
    if plan.division.scorer is None:
        return "no scorer divides the rows: one phase"
    others = ", ".join(
        f"{name} {'/'.join(f'{100 * share:.0f}' for share in shares)}"
        for name, shares in plan.division.shares.items()
        if name != plan.division.scorer
    )
    return f"by {plan.division.scorer}: {mix} (by the other scorers: {others})"


def notes(plan: Plan) -> list[str]:
    """Return what the user should look at."""
    looks, free = plan.looks, psutil.virtual_memory().available / 2**30
    found = [note.replace("<run>", plan.run) for note in looks.notes]
    if looks.rejected:
        over = len(looks.rejected) > MAX_REJECTED * min(looks.count, MOST_ROWS)
        then = "that many stop the run (data.max_rejected_share); correct them first" if over else "left out"
        first = "".join(f"\n      {row.file}:{row.line}: {row.reason}" for row in looks.rejected[:3])
        found.append(f"rows that cannot be used: {len(looks.rejected):,}; {then}{first}")
    if plan.held_out.too_many:
        found.append(
            f"held-out rows that ask nearly what training rows ask: {plan.held_out.contaminated:,} of "
            f"{plan.held_out.count:,}; they are left out of the evaluation, which they would flatter"
        )
    if plan.lengths.longest > 4 * plan.lengths.usual:
        found.append("a few rows are far longer than the others; without them training needs less memory")
    if plan.budget.memory_gib > free:
        found.append(f"{free:.1f} GiB of memory are free here; lower train.micro_batch_tokens or take a smaller base")
    if not plan.lengths.exact:
        found.append(f"{plan.base['alias']} is not here yet; once a run has fetched it, tokens are counted exactly")
    if plan.division is not None and plan.division.scorer is None:
        found.append("no scorer divides these rows; give them a column `difficulty` if you can tell")
    return found


def tell(plan: Plan, path: Path) -> str:
    """Return all that is printed; `path`: the config that was written."""
    table = seen(plan)
    wide = max(map(len, table))
    parts = [
        f"Looked at {', '.join(plan.looks.files)}:",
        *(f"  {name:<{wide}}  {value}" for name, value in table.items()),
    ]
    if found := notes(plan):
        parts += ["", "Look at:", *(f"  - {note}" for note in found)]
    audit = f"results/{plan.run}/data/audit.html"
    return "\n".join(
        [
            *parts,
            "",
            f"Wrote {path}. Next:",
            "  1. Read it. Edit chat.system_prompt; add data.license, which the model card names.",
            "  2. Look at the data, which takes seconds:",
            f"     .venv/bin/snakemake --cores all --configfile {path} -- {audit}",
            f"  3. Run it: make CONFIG={path}",
            f"  4. Open results/{plan.run}/report.html",
        ]
    )

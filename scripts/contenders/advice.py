"""What to do before training: a decision from what the cheap alternatives (contenders) reach on validation rows.

Facts become conditions by the thresholds below, and conditions become an advice by a truth table. docs/advice.md gives
the reason for each rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

ENOUGH = 0.75  # share of the way from the best constant answer to the ceiling that the lower end of an interval takes
FEWEST_ROWS = 100  # training rows; with fewer, training is not worth trying
FEW_ROWS = 500  # training rows; with fewer, and if more of them clearly help, rows come before training

LINEAR = "a linear model is enough"
RETRIEVAL = "retrieval is enough: this asks for knowledge"
PROMPTING = "prompting is enough"
TOO_FEW = "too few rows"
GO_ON = "go on"

# what it means that a model of a kind is enough, the cheapest to run first; `majority` is constant, so it never is
MEANS: Mapping[str, str] = {"linear": LINEAR, "nearest": RETRIEVAL, "base": PROMPTING, "gguf": PROMPTING}


@dataclass(frozen=True)
class Contender:
    """A model that was not trained, and its headline metric on `n` validation rows; null if no row counts."""

    model: str
    kind: str
    value: float | None
    n: int
    low: float | None = None  # its 95% interval
    high: float | None = None


@dataclass(frozen=True)
class Facts:
    """What is known before training. Values are shares from 0 to 1."""

    rows: int  # training rows
    constant: float | None  # value of the best constant answer
    ceiling: float | None  # value of the references themselves
    contenders: tuple[Contender, ...]
    more_rows_help: bool | None  # whether a baseline still gains from more rows; null if that is not known


@dataclass(frozen=True)
class Conditions:
    """All that the advice depends on."""

    linear_enough: bool
    retrieval_enough: bool
    prompting_enough: bool
    fewest_rows: bool
    few_rows: bool
    more_rows_help: bool


def interval(value: float, n: int) -> tuple[float, float]:
    """Return the 95% Wilson score interval (Wilson 1927) of a mean of `n` values from 0 to 1.

    For a metric that is 0 or 1 this is the interval of a share. For any other it is too wide rather than too narrow,
    since a variance is at most mean · (1 - mean) (Bhatia and Davis 2000).
    """
    z = NormalDist().inv_cdf(0.975)
    center = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (value * (1 - value) / n + z * z / (4 * n * n)) ** 0.5
    return round(max(0.0, center - half), 4), round(min(1.0, center + half), 4)


def measured(model: str, kind: str, value: float | None, n: int) -> Contender:
    """Return a contender with its interval."""
    return Contender(model, kind, value, n, *(interval(value, n) if value is not None else (None, None)))


def find_strongest(contenders: Sequence[Contender]) -> Contender | None:
    """Return the contender with the highest value, the opponent of the tuned model; of equals the cheapest to run."""
    order = ["majority", *MEANS]
    known = sorted((c for c in contenders if c.value is not None), key=lambda c: order.index(c.kind))
    return max(known, key=lambda c: c.value or 0, default=None)


def reached(value: float | None, facts: Facts) -> float | None:
    """Return the share of the way from the best constant answer to the ceiling; null if there is no way to go."""
    if value is None or facts.constant is None or facts.ceiling is None or facts.ceiling <= facts.constant:
        return None
    return (value - facts.constant) / (facts.ceiling - facts.constant)


def is_enough(contender: Contender, facts: Facts) -> bool:
    """Return whether little is left to gain, even at the lower end of the interval, and no other is clearly better."""
    share, best = reached(contender.low, facts), find_strongest(facts.contenders)
    if share is None or best is None or contender.kind not in MEANS:
        return False
    return share >= ENOUGH and (contender.high or 0) >= (best.value or 0)


def find_conditions(facts: Facts) -> Conditions:
    """Apply the thresholds."""
    enough = {MEANS[c.kind] for c in facts.contenders if is_enough(c, facts)}
    return Conditions(
        linear_enough=LINEAR in enough,
        retrieval_enough=RETRIEVAL in enough,
        prompting_enough=PROMPTING in enough,
        fewest_rows=facts.rows < FEWEST_ROWS,
        few_rows=facts.rows < FEW_ROWS,
        more_rows_help=facts.more_rows_help is True,
    )


def decide(known: Conditions) -> str:
    """Return the advice. Of several alternatives that are enough it names the one that is cheapest to run."""
    if known.linear_enough:
        return LINEAR
    if known.retrieval_enough:
        return RETRIEVAL
    if known.prompting_enough:
        return PROMPTING
    if known.fewest_rows or (known.few_rows and known.more_rows_help):
        return TOO_FEW
    return GO_ON


def percent(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.1f}%"


def tell(contender: Contender, headline: str) -> str:
    """Return what a contender reached, with its uncertainty."""
    value, low, high = (percent(x or 0) for x in (contender.value, contender.low, contender.high))
    rows = "1 validation row" if contender.n == 1 else f"{contender.n} validation rows"
    return f"{headline} {value} on {rows} (95% interval {low} to {high})"


def explain(advice: str, facts: Facts, headline: str) -> tuple[str, str]:
    """Return two sentences: why this is the advice, and what to do."""
    best = find_strongest(facts.contenders)
    if advice == TOO_FEW:
        because = f"There are only {facts.rows} training rows"
        if facts.rows >= FEWEST_ROWS:
            because += ", and a cheap baseline still clearly gains from more of them"
        opponent = f"; otherwise the opponent to beat is {best.model} ({percent(best.value or 0)})" if best else ""
        return f"{because}.", f"Collect about twice as many rows, then run again{opponent}."
    if advice == GO_ON:
        return _go_on(best, facts, headline)
    enough = find_strongest([c for c in facts.contenders if MEANS.get(c.kind) == advice and is_enough(c, facts)])
    assert enough is not None and facts.constant is not None and facts.ceiling is not None  # from `decide`
    share = percent(reached(enough.low, facts) or 0)
    because = (
        f"The alternative {enough.model} reaches {tell(enough, headline)}: even the lower end is {share} of the way "
        f"from always the same answer ({percent(facts.constant)}) to the most that can be reached "
        f"({percent(facts.ceiling)})."
    )
    use = {
        LINEAR: "Use TF-IDF with logistic regression, which needs no language model",
        RETRIEVAL: "Look the answer up: search the rows and return that of the nearest one",
        PROMPTING: f"Ask the model as {enough.model} does",
    }[advice]
    return because, f"{use}; train only if you need more than {percent(enough.value or 0)}."


def _go_on(best: Contender | None, facts: Facts, headline: str) -> tuple[str, str]:
    if not facts.contenders:
        return (
            "No alternative was asked: all models of this run are trained, or behind an API.",
            "Train, and see whether it beats anything else; contenders: true adds alternatives that cost little.",
        )
    if best is None:
        return (
            "No alternative could be measured, since no validation row counts.",
            "Train, and compare on the held-out rows; a split.valid_share above 0 lets this advice measure.",
        )
    if facts.constant is not None and (best.low or 0) <= facts.constant:
        because = f"No alternative is clearly better than always the same answer ({percent(facts.constant)})"
    else:
        because = "No alternative is enough"
    do = f"Train; the opponent to beat is {best.model}"
    if (reached(best.value, facts) or 0) >= ENOUGH and best.kind in MEANS:
        because = "An alternative may be enough, which these validation rows are too few to show"
        do = f"Raise split.valid_share to know; if you train, the opponent to beat is {best.model}"
    if best.kind == "linear":
        do += ", and on labels a small tuned model often does not beat a linear one"
    return f"{because}: the best, {best.model}, reaches {tell(best, headline)}.", f"{do}."

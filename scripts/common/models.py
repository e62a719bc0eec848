"""The config's `models`, resolved once into objects that rules, gates and the report use.

A kind of model is an entry in KINDS: how it answers, which fidelity checks apply to it, and which options it takes.
Code asks the object; it never infers anything from a model's name.
"""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scripts.common.endpoints import check_endpoint
from scripts.common.errors import GradusError
from scripts.common.own_code import is_own

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Kind:
    """Properties that all models of a kind share."""

    exported: bool  # this run makes its GGUF, so it has quants
    trained: bool  # it has an adapter, and its answers show whether training taught it to stop
    checks: tuple[str, ...]  # fidelity checks of each such model
    gguf: bool = False  # llama.cpp answers from a GGUF; otherwise the kind has its own answering rule
    options: tuple[str, ...] = ()  # keys that an entry may have besides its kind; what they need: `needs` below
    tasks: tuple[str, ...] = ()  # built-in tasks that it can answer; all if empty


TAKEN = ("modelfile",)  # files beside the models' folders in results/<run>/export, in lowercase
CHECKS = ("merge", "gguf")  # those that are made of a single model, in the order of the steps that they judge
PROMPT = ("system_prompt", "examples")
LLAMA = (*PROMPT, "constrained")
KINDS = {
    "base": Kind(exported=True, gguf=True, trained=False, checks=("gguf",), options=LLAMA),
    "trained": Kind(exported=True, gguf=True, trained=True, checks=("merge", "gguf"), options=("merged_into", *LLAMA)),
    "gguf": Kind(exported=False, gguf=True, trained=False, checks=(), options=LLAMA),
    "endpoint": Kind(exported=False, trained=False, checks=(), options=PROMPT),
    "nearest": Kind(exported=False, trained=False, checks=()),
    "majority": Kind(exported=False, trained=False, checks=(), tasks=("classify",)),
    "linear": Kind(exported=False, trained=False, checks=(), tasks=("classify",)),
}
# what `contenders: true` adds to `models`, unless there is an entry of that name, or of that kind without options
CONTENDERS: Mapping[str, Mapping[str, Any]] = {
    "few-shot": {"examples": {"count": 4, "choose": "nearest"}},
    "nearest": {"nearest": {}},
    "majority": {"majority": {}},
    "linear": {"linear": {}},
}


@dataclass(frozen=True)
class Training:
    """One training run: an arm with a seed, and the phase after which its adapter is taken."""

    arm: str
    seed: int
    phase: str = ""  # the last supervised one if empty

    @property
    def folder(self) -> str:
        """Return its folder below `results/<run>/train` and `results/<run>/curriculum`."""
        return f"{self.arm}/seed{self.seed}"

    @property
    def whole(self) -> "Training":
        """Return the training without a phase: all supervised phases of its arm and seed."""
        return Training(self.arm, self.seed)

    def describe(self) -> dict[str, Any]:
        """Return the training as a mapping, for scripts."""
        return {"arm": self.arm, "seed": self.seed, **({"phase": self.phase} if self.phase else {})}


@dataclass(frozen=True)
class Model:
    """One model that answers held-out rows."""

    name: str
    kind: str  # a key of KINDS
    training: Training | None = None
    merged_into: str | None = None  # bf16 or nf4; None if nothing is merged
    group: str | None = None  # its entry in `models`, if that entry is a group
    given: Any = None  # the value of its kind's key in the config: the path of a GGUF, the settings of an endpoint
    options: Mapping[str, Any] = field(default_factory=dict)  # the options of its kind, from the config
    weights: str = ""  # the model whose weights it uses: itself, or the first with the same training and merge

    @property
    def gguf(self) -> bool:
        """Return whether llama.cpp answers from a GGUF of this model."""
        return KINDS[self.kind].gguf

    @property
    def exported(self) -> bool:
        """Return whether this run makes the model's GGUF."""
        return KINDS[self.kind].exported

    @property
    def trained(self) -> bool:
        """Return whether this run trained the model."""
        return KINDS[self.kind].trained

    def needs(self, config: Config) -> dict[str, str]:
        """Return the files that its options need to answer, by the names of a rule's inputs, with wildcards."""
        files: dict[str, str] = {}
        if "examples" in self.options:
            files["train"] = "results/{run}/curriculum/train.jsonl"
            if "nearest" in every(self.options["examples"]["choose"]):
                files["neighbors"] = "results/{run}/contenders/neighbors/{split}.jsonl"
            if self.chooses:
                files["chosen"] = "results/{run}/evaluate/{model}/examples.json"
        match self.options.get("constrained"):
            case "schema":
                files["schema"] = config["data"]["schema"]
            case "labels" | "commands":
                files["train"] = "results/{run}/curriculum/train.jsonl"
            case str(grammar):
                files["grammar"] = grammar
        return files

    @property
    def plain(self) -> bool:
        """Return whether it is asked like everyone: contract's prompt, no examples, no grammar."""
        return not self.options.keys() & set(LLAMA)

    @property
    def chooses(self) -> bool:
        """Return whether the validation split decides about its examples: count or choice is a list."""
        return any(isinstance(value, list) for value in self.options.get("examples", {}).values())

    def form(self, quant: str) -> str:
        """Return the form in which it answers: a quant, or its kind if this run makes no GGUF of it."""
        return quant if self.exported else self.kind

    def describe(self) -> dict[str, Any]:
        """Return the model as a mapping, for scripts."""
        fields = {"name": self.name, "kind": self.kind, "trained": self.trained, "merged_into": self.merged_into}
        return {
            **fields,
            "group": self.group,
            "weights": self.weights,
            "options": dict(self.options),
            **({"training": self.training.describe()} if self.training else {}),
        }


def resolve(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Model]:
    """Return the models by name, in the order of the config; an entry with arms and seeds gives one model per pair.

    Raises GradusError if two models would have the same name.
    """
    found: dict[str, Model] = {}
    for entry, settings in entries.items():
        for model in _expand(entry, settings):
            if model.name in found:
                raise GradusError(f"{entry!r} and another entry both name a model {model.name!r}; rename one")
            found[model.name] = model
    return {name: replace(model, weights=_owner(model, list(found.values()))) for name, model in found.items()}


def _owner(model: Model, models: Sequence[Model]) -> str:
    """Return the first model with the same weights; one that is asked plainly, if there is one."""
    same = [
        other
        for other in models
        if (other.kind, other.training, other.merged_into, other.given)
        == (model.kind, model.training, model.merged_into, model.given)
    ]
    return next((other for other in same if other.plain), same[0]).name


def _expand(entry: str, settings: Mapping[str, Any]) -> Iterator[Model]:
    kind = next(iter(kinds_of(settings)), "base")
    options = {name: value for name, value in settings.items() if name != kind}
    if kind != "trained":
        yield Model(entry, kind, given=settings.get(kind), options=options)
        return
    trained = settings["trained"]
    merged_into = settings.get("merged_into", "bf16")
    phase = trained.get("phase", "")
    if "arm" in trained:
        yield Model(entry, kind, Training(trained["arm"], trained["seed"], phase), merged_into, options=options)
        return
    for arm in trained["arms"]:
        for seed in trained["seeds"]:
            yield Model(f"{entry}-{arm}-{seed}", kind, Training(arm, seed, phase), merged_into, entry, options=options)


def every(value: Any) -> list[Any]:
    """Return a value that may be a list as a list."""
    return list(value) if isinstance(value, list) else [value]


def add_contenders(config: dict[str, Any]) -> None:
    """Add the cheap alternatives to `models`, if `contenders` is true."""
    if not config["contenders"]:
        return
    models, task = config["models"], config["data"]["task"]
    there = list(models.values())
    for name, settings in CONTENDERS.items():
        kind = next(iter(kinds_of(settings)), "base")
        known = any(kinds_of(entry) == [kind] for entry in there if kind != "base")
        suits = not KINDS[kind].tasks or task in KINDS[kind].tasks
        if suits and not known and name not in models:
            models[name] = json.loads(json.dumps(settings))


def was_added(config: Config, model: Model) -> bool:
    """Return whether `contenders: true` adds just this model, so that nobody asked for more of it than can be had."""
    added = model.name in CONTENDERS and config["models"].get(model.name) == CONTENDERS[model.name]
    return bool(config["contenders"]) and added


def given_files(config: Config) -> Iterator[tuple[list[str | int], str]]:
    """Yield (path in the config, file) for each file of the user's that `models` names: GGUFs and grammars."""
    for entry, settings in config["models"].items():
        if "gguf" in settings:
            yield ["models", entry, "gguf"], settings["gguf"]
        if settings.get("constrained", "schema") not in ("schema", "labels", "commands"):
            yield ["models", entry, "constrained"], settings["constrained"]


def kinds_of(settings: Mapping[str, Any]) -> list[str]:
    """Return the kinds that an entry of `models` names; none for the base."""
    return [kind for kind in KINDS if kind in settings]


def compared_with(config: Config, models: Mapping[str, Model]) -> Model:
    """Return the model that the others are compared with: `compare_with`, or the first that is not trained."""
    if config["compare_with"]:
        return models[config["compare_with"]]
    return next((model for model in models.values() if not model.trained), next(iter(models.values())))


def served(config: Config, models: Mapping[str, Model]) -> Model:
    """Return the model that goes to Ollama and the Hub: `serve`, or the first trained one that is asked plainly."""
    if config["serve"]:
        return models[config["serve"]]
    return next(model for model in models.values() if model.trained and model.plain)


def trainings(models: Mapping[str, Model]) -> list[Training]:
    """Return every arm and seed that the models need, without duplicates, in the order of the models."""
    return list(dict.fromkeys(model.training.whole for model in models.values() if model.training))


def preferred(models: Mapping[str, Model], phases: Iterable[str]) -> list[Training]:
    """Return the trainings of preference phases, those named in `phases`, that the models need, in their order."""
    known = set(phases)
    wanted = [model.training for model in models.values() if model.training and model.training.phase in known]
    return list(dict.fromkeys(wanted))


def seeds_of(model: Model, models: Mapping[str, Model]) -> int:
    """Return the number of seeds that the model's arm was trained with, within its group; 1 without a group."""
    if not (model.training and model.group):
        return 1
    alike = [other.training for other in models.values() if other.group == model.group and other.training]
    return len({training.seed for training in alike if training.arm == model.training.arm})


def own_checks(models: Iterable[Model]) -> list[str]:
    """Return the names, `<model>/<check>`, of each model's own checks, in the order of the steps that they check.

    Models that share weights share their checks.
    """
    listed = [model for model in models if model.weights == model.name]
    return [f"{m.name}/{check}" for check in CHECKS for m in listed if check in KINDS[m.kind].checks]


def merge_pairs(models: Sequence[Model]) -> list[tuple[Model, Model]]:
    """Return pairs that differ only in what the adapter is merged into: bf16 first, NF4-rounded second."""
    by: dict[Training, dict[str, Model]] = {}
    for model in models:
        if model.plain and model.training and model.merged_into:
            by.setdefault(model.training, {}).setdefault(model.merged_into, model)
    return [(pair["bf16"], pair["nf4"]) for pair in by.values() if len(pair) == 2]


def check_models(config: Config) -> Iterator[tuple[list[str | int], str]]:
    """Yield (path in the config, what is wrong) for `models`, `compare_with` and `serve`."""
    arms = config["curriculum"]["definitions"]
    for entry, settings in config["models"].items():
        if entry.lower() in TAKEN:
            yield ["models", entry], f"{entry!r} is reserved for a file beside the models' folders; use another name"
        if len(kinds := kinds_of(settings)) > 1:
            yield ["models", entry], f"{' and '.join(kinds)} are two kinds of models; use a separate entry for each"
        yield from ((["models", entry, key], reason) for key, reason in _unknown(settings))
        yield from ((["models", entry, *path], reason) for path, reason in check_endpoint(settings))
        yield from ((["models", entry, key], reason) for key, reason in _unfit(settings, config["data"]))
        trained = settings.get("trained")
        if settings.get("merged_into") == "nf4" and config["train"]["base_weights"] == "bf16":
            yield (
                ["models", entry, "merged_into"],
                "merging into NF4-rounded weights makes sense only if train.base_weights is nf4 or nf4-packed",
            )
        for arm in [trained["arm"]] if trained and "arm" in trained else (trained or {}).get("arms", []):
            if arm not in arms:
                yield (
                    ["models", entry, "trained"],
                    f"no arm {arm!r} in curriculum.definitions; known: {', '.join(arms)}",
                )
    try:
        models = resolve(config["models"])
    except GradusError as error:
        yield ["models"], str(error)
        return
    listed = ", ".join(models)
    if len(models) < 2:
        yield ["models"], f"at least two models are needed for a comparison; configured: {listed or 'none'}"
    if not any(model.trained and model.plain for model in models.values()):
        yield ["models"], "none of the models is trained; add one, such as tuned: {trained: {arm: curriculum, seed: 1}}"
    for key in ("compare_with", "serve"):
        if config[key] and config[key] not in models:
            yield [key], f"no model {config[key]!r} in models; known models: {listed}"
    serve = models.get(config["serve"] or "")
    if serve and not serve.trained:
        yield ["serve"], f"{serve.name!r} is not trained; name a trained model"
    elif serve and not serve.plain:
        yield ["serve"], f"{serve.name!r} is the same model asked in another way; name {serve.weights!r} instead"
    elif serve and serve.weights != serve.name:
        yield ["serve"], f"{serve.name!r} has the same weights as {serve.weights!r}; name {serve.weights!r} instead"


def _unfit(settings: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) for each key that does not fit the task."""
    task = data["task"]
    for kind in kinds_of(settings):
        if (tasks := KINDS[kind].tasks) and task not in tasks and not is_own(task):
            yield kind, f"answers only the task {' or '.join(tasks)}, and data.task is {task}; remove it"
    lists = [key for key, value in settings.get("examples", {}).items() if isinstance(value, list)]
    if "endpoint" in settings and lists:
        yield "examples", f"{' and '.join(lists)}: only models that llama.cpp runs can have a list; give one value"
    if settings.get("constrained") == "schema" and not data["schema"]:
        yield "constrained", "`schema` needs data.schema, the JSON schema of the answers; set it"
    for grammar, suited in (("labels", "classify"), ("commands", "command")):
        if settings.get("constrained") == grammar and task != suited and not is_own(task):
            yield "constrained", f"`{grammar}` fits only the task {suited}, and data.task is {task}"


def _unknown(settings: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (key, reason) for each key of an entry that its kind does not have."""
    kind = next(iter(kinds_of(settings)), "base")
    options = KINDS[kind].options
    for key in settings:
        if key in KINDS or key in options:
            continue
        if owner := next((name for name, other in KINDS.items() if key in other.options), None):
            yield key, f"only `{owner}` models take this key; remove it"
        else:
            known = [*(name for name in KINDS if name != "base"), *options]
            close = difflib.get_close_matches(str(key), known, 1)
            yield key, f"no such key; did you mean {close[0]}?" if close else f"no such key; known: {', '.join(known)}"

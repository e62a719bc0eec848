"""Check the config against config/schema.yaml, report each fault with file and line, and fill in defaults.

`python -m scripts.config.check FILE` checks a config file before Snakemake reads it.
"""

import difflib
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from scripts.common.curriculum import check_curriculum, complete_curriculum
from scripts.common.errors import GradusError
from scripts.common.experiment import check_experiment
from scripts.common.gpus import layer_fault
from scripts.common.models import add_contenders, check_models, given_files
from scripts.common.preference import check_preference, complete_models
from scripts.common.records import OWN
from scripts.common.sources import check_sources, fault, local_path, named_sources, scheme_of
from scripts.common.validation import Draft202012Validator, ValidationError, validators
from scripts.config.bases import find_base
from scripts.config.code import check_code, own_code
from scripts.config.compared import check_compared
from scripts.config.judge import check_judge
from scripts.config.reading import find_line, read_config, refusal, where
from scripts.config.schema import load_schema

Path_ = Sequence[str | int]
Check = Callable[[dict[str, Any]], Iterator[tuple[Path_, str]]]

# keys of earlier versions, and what to write instead
RENAMED = {
    "data.package.awscli": "a converter's options are in data.package.options now",
    "data.package.usaddress": "a converter's options are in data.package.options now",
    "curriculum.arms": "name the trained models: models: {tuned: {trained: {arm: curriculum, seed: 1}}}",
    "curriculum.seeds": "name the trained models: models: {tuned: {trained: {arm: curriculum, seed: 1}}}",
    "curriculum.rows": "it is now set per phase: phases: [{name: easy, levels: [easy], rows: 600}, …]",
    "curriculum.epochs": "it is now set per phase: phases: [{name: easy, levels: [easy], epochs: 2}, …]",
    "evaluate.models": "it is now a section: models: {base: {}, tuned: {trained: {arm: curriculum, seed: 1}}}",
    "mask.on": "write mask.enabled",
    "mask.true": "write mask.enabled",  # YAML reads the key `on` as true
    "merge": "it is now set per model: models: {tuned: {trained: …, merged_into: nf4}}",
}


def _with_defaults(validator_class: Any) -> Any:
    """Return a validator that fills in each missing key's default, parents before children."""
    check_properties = validator_class.VALIDATORS["properties"]

    def properties(validator: Any, schema: Any, instance: Any, whole: Any) -> Iterator[ValidationError]:
        if isinstance(instance, dict):
            for key, part in schema.items():
                if "default" in part:
                    instance.setdefault(key, json.loads(json.dumps(part["default"])))
        yield from check_properties(validator, schema, instance, whole)

    return validators.extend(validator_class, {"properties": properties})


Validator = _with_defaults(Draft202012Validator)


def _explain(error: ValidationError, files: Sequence[str | Path]) -> list[str]:
    path = list(error.absolute_path)
    if error.context:
        # of several alternatives, report only the errors of those that have the value's type
        of_type = [part for part in error.context if not (part.validator == "type" and part.instance is error.instance)]
        wrong_type = len(of_type) < len(error.context)
        if of_type and wrong_type:
            return [line for part in of_type for line in _explain(part, files)]
    if "propertyNames" in error.schema_path:
        path.append(error.instance)
    name = ".".join(map(str, path))
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        lines = []
        for key in sorted(set(error.instance) - set(known), key=str):
            full = ".".join([*map(str, path), str(key)])
            if full in RENAMED:
                hint = RENAMED[full]
            else:
                close = difflib.get_close_matches(str(key), known, 1)
                hint = f"did you mean {close[0]}?" if close else f"known keys: {', '.join(known)}"
            lines.append(f"{where([*path, key], files)}: {full}: no such key; {hint}")
        return lines
    meaning = " ".join(error.schema.get("description", "").split())
    if error.validator == "required":
        missing = error.message.split("'")[1]
        place = where(path, files) if path or not files else ", ".join(map(str, files))
        return [f"{place}: {name + '.' if name else ''}{missing}: required, but missing"]
    hint = _number_hint(error) if error.validator == "type" else ""
    return [f"{_name(path, files)}: {error.message}{hint}" + (f"; meaning: {meaning}" if meaning else "")]


def _number_hint(error: ValidationError) -> str:
    """Return how to write a number that YAML 1.1 reads as a string, such as 5e-4, which has no decimal point."""
    if "number" not in error.validator_value or not isinstance(error.instance, str):
        return ""
    match = re.fullmatch(r"([+-]?\d+)(\.\d*)?[eE]([+-]?)(\d+)", error.instance.strip())
    if not match:
        return ""
    whole, part, sign, power = match.groups()
    return f", but YAML reads it as a string; write {whole}{part or '.0'}e{sign or '+'}{power}"


def _find_faults(config: dict[str, Any], files: Sequence[str | Path]) -> list[str]:
    """Return the schema's faults in a config, and fill in defaults."""
    errors = list(Validator(load_schema()).iter_errors(config))
    mistyped = [error.absolute_path for error in errors if error.validator == "type"]
    # for a value of the wrong type, the other errors are not helpful
    shown = [error for error in errors if error.validator == "type" or error.absolute_path not in mistyped]
    return [line for error in shown for line in _explain(error, files)]


def _name(path: Path_, files: Sequence[str | Path]) -> str:
    """Return `file:line: key` of a key of the config."""
    return f"{where(path, files)}: {'.'.join(map(str, path))}"


def _plain_copy(config: dict[str, Any], files: Sequence[str | Path]) -> dict[str, Any]:
    """Return a copy of the config; raise GradusError if it has values that JSON does not support, such as dates."""
    try:
        faults = [
            f"{_name(path, files)}: YAML reads {value!s:.50} as {type(value).__name__}; quote it"
            for path, value in _not_plain(config, [])
        ]
    except RecursionError:
        raise GradusError(
            f"{', '.join(map(str, files))}: nested too deeply, or an alias inside its own value"
        ) from None
    if faults:
        raise refusal(faults)
    copy: dict[str, Any] = json.loads(json.dumps(config))
    return copy


def _not_plain(value: Any, path: list[str | int]) -> Iterator[tuple[Path_, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _not_plain(inner, [*path, key]) if _is_scalar(key) else [([*path, key], key)]
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _not_plain(inner, [*path, number])
    elif not _is_scalar(value):
        yield path, value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def check_config(config: dict[str, Any], files: Sequence[str | Path]) -> dict[str, Any]:
    """Return the config with defaults filled in, and with a base given by name replaced by its settings.

    `files` are the files that it was read from, in order; later ones override. They are used to report file and line.
    Raises GradusError that lists every fault: unknown key, wrong type, value out of range, and what
    a schema cannot express (a phase with an unknown level, a model with an unknown arm).
    """
    for file in files:
        read_config(file)
    config = _plain_copy(config, files)
    if isinstance(config.get("base_model"), str):
        try:
            base = find_base(config["base_model"])
        except GradusError as error:
            raise refusal([f"{where(['base_model'], files)}: base_model: {error}"]) from None
        base_defaults = base.pop("train", {})
        config["base_model"] = base
        if isinstance(given := config.setdefault("train", {}), dict):
            config["train"] = {**base_defaults, **given}
    faults = _find_faults(config, files)
    if not faults:
        complete_curriculum(config)
        complete_models(config)
        add_contenders(config)
        add_own(config)
        for check in CHECKS:
            faults += [f"{_name(path, files)}: {what}" for path, what in check(config)]
        faults += _check_layers(config, files)
    if faults:
        raise refusal(sorted(set(faults)))
    return config


def add_own(config: dict[str, Any]) -> None:
    """Add eval-own to evaluate.splits if there are rows for it."""
    if config["data"]["own"] and OWN not in config["evaluate"]["splits"]:
        config["evaluate"]["splits"].append(OWN)


def name_fault(name: str, folder: bool = False) -> str:
    """Return what is wrong with the name of a file that must be there; empty if nothing. `folder`: it may be one."""
    if not name.strip() or not name.isprintable() or set(name) & set("{}"):
        reason = "the name is blank, or has line breaks, tabs or braces, which Snakemake reads as wildcards"
        return f"{name!r}: {reason}; rename it"
    if not Path(name).exists():
        return f"{name}: no such file or folder"
    return f"{name}: is a folder; name a file" if Path(name).is_dir() and not folder else ""


def check_files(config: dict[str, Any], files: Sequence[str | Path]) -> None:
    """Raise GradusError if a file that the config names does not exist, or is a folder.

    Snakemake does not notice if results of an earlier run exist; they would be taken for results of the new file.
    """
    paths = [(key, local_path(source)) for key, _, source, _ in named_sources(config)]
    paths.append((["data", "schema"], config["data"]["schema"]))
    paths.append((["judge", "rubric"], (config["judge"] or {}).get("rubric")))
    paths.append((["forgetting", "text"], config["forgetting"]["text"]))
    paths += [(list(path), name) for path, name in own_code(config).items()]
    paths += given_files(config)
    paths += [(["rating", "files", number], name) for number, name in enumerate(config["rating"]["files"])]
    named = [(key, path) for key, path in paths if path is not None]
    faults = []
    for path, name in named:
        if wrong := name_fault(name, folder=path[0] == "base_model"):
            faults.append(f"{where(path, files)}: {wrong}")
    if faults:
        raise refusal(faults)


def _check_base(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    base = config["base_model"]
    if scheme_of(base["source"]).archive and not base["gguf"]:
        yield ["base_model"], f"gguf is missing; set it to the path of the GGUF inside {base['source']}"
    hub = re.match(r"hf:(?!datasets/)[\w.-]+/[\w.-]+", base["source"])
    if hub and fault(base["source"], "model", base["sha256"]):
        yield (
            ["base_model", "source"],
            f"not pinned; `.venv/bin/python -m scripts.data.pin {hub[0]}` prints `source` with its commit, and "
            "`sha256`, to paste here; it downloads no weights",
        )


def _check_mask(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    for number, pattern in enumerate(config["mask"]["allow"]):
        try:
            re.compile(pattern)
        except re.error as error:
            yield ["mask", "allow", number], f"{pattern!r} is not a valid regular expression ({error}); correct it"


def _check_score(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    if not any(config["score"]["weights"].values()):
        yield ["score", "weights"], "all weights are 0; at least one scorer needs a weight above 0"


def _check_data(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    package = config["data"]["package"]
    if not config["data"]["files"] and not package["source"]:
        yield ["data"], "no rows; set data.files or data.package.source"
    shares = [config["split"][key] for key in ("valid_share", "test_share", "unseen_share")]
    if sum(shares) > 0.6:
        yield (
            ["split"],
            f"valid, test and unseen shares add up to {sum(shares):g}; at most 0.6 is allowed, so that 0.4 remains for "
            "training",
        )


def _check_rating(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    yield from check_compared(config, "rating")
    if config["rating"]["files"] and not config["rating"]["pairs"]:
        yield ["rating", "files"], "needs rating.pairs, the models whose answers were rated"


def _check_train(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    if config["train"]["patience"] is not None and config["train"]["evaluate_every"] is None:
        yield ["train", "patience"], "has no effect without train.evaluate_every, the steps between two evaluations"


def _check_processes(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    train, key = config["train"], ["train", "processes"]
    if train["processes"] == 1:
        return
    if train["batch_size"] % train["processes"]:
        yield (
            key,
            f"is {train['processes']}, which does not divide train.batch_size ({train['batch_size']}), the rows of a "
            "step of all processes; change one of them",
        )
    if train["backend"] == "unsloth":
        yield key, "must be 1 with train.backend: unsloth; set train.backend: peft for several processes"
    if config["experiment"]:
        yield (
            key,
            "must be 1 in a config with an experiment, whose trainings are small and many: they run side by side, one "
            "process each (docs/gpu.md, How jobs use it)",
        )


def _check_evaluate(config: dict[str, Any]) -> Iterator[tuple[Path_, str]]:
    if fault := layer_fault(config["evaluate"]["gpu_layers"]):
        yield ["evaluate", "gpu_layers"], fault


CHECKS: list[Check] = [
    check_sources,
    _check_base,
    _check_data,
    _check_mask,
    check_code,
    _check_score,
    check_curriculum,
    check_preference,
    _check_train,
    _check_processes,
    _check_evaluate,
    check_models,
    check_experiment,
    check_judge,
    _check_rating,
]


def _check_layers(config: dict[str, Any], files: Sequence[str | Path]) -> Iterator[str]:
    """Yield contradictions between several config files that override each other."""

    def given_in(path: Path_) -> int | None:
        return max((number for number, file in enumerate(files) if find_line(file, path)), default=None)

    if len(files) < 2:
        return
    source = given_in(["base_model", "source"])
    for key in ("name", "license"):
        place = given_in(["base_model", key])
        if source is not None and place is not None and place < source:
            yield (
                f"{where(['base_model', 'source'], files)}: base_model.{key} still comes from "
                f"{files[place]} ({config['base_model'][key]}), which has another base; set it here, too, since it is "
                "written into GGUF and model card"
            )


def no_config(file: Path) -> GradusError:
    """Return the error of a config that is not there: the runs that there are, and how to make a new one."""
    runs = sorted(path.stem for path in file.parent.glob("*.yaml"))
    if not runs or file.parent.name != "runs":  # not by RUN, but by CONFIG
        return GradusError(f"{file}: no such file; correct its name")
    close = difflib.get_close_matches(file.stem, runs, 1)
    meant = f"Did you mean RUN={close[0]}? " if close else ""
    return GradusError(
        f"{file}: no such file. {meant}Runs: {', '.join(runs)}; for new rows: make new ROWS=… RUN={file.stem}"
    )


def main() -> None:
    """Check the files that are named on the command line, each on its own."""
    try:
        for file in sys.argv[1:]:
            if not Path(file).exists():
                raise no_config(Path(file))
            check_files(check_config(read_config(file), [file]), [file])
    except GradusError as error:
        sys.exit(f"Gradus: {error}")


if __name__ == "__main__":
    main()

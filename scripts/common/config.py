"""The config checked against config/schema.yaml, with the file and line of each fault.

`python -m scripts.common.config` writes config/README.md, the table of every key, from the schema;
`python -m scripts.common.config check FILE` says what is wrong with a config file before Snakemake reads it.
"""

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import ValidationError

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import atomic_open

SCHEMA = ROOT / "config" / "schema.yaml"
SHOWN = 3  # faults, of many


def load_schema() -> dict[str, Any]:
    """Return config/schema.yaml."""
    return yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))


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


def find_line(file: str | Path, path: Sequence[Any]) -> int | None:
    """Return the line, from 1, at which the key or item at `path` stands in a YAML file; None if it does not."""
    node = yaml.compose(Path(file).read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    line = None
    for step in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == str(step)), None)
            if found is None:
                return None
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return None
    return line


def _where(path: Sequence[Any], files: Sequence[str | Path]) -> str:
    for file in reversed(files):  # a later file overrides an earlier one
        if line := find_line(file, path):
            return f"{file}:{line}"
    return "--config or config defaults"


def _given_in(path: Sequence[Any], files: Sequence[str | Path]) -> int | None:
    """Return the number of the last file that gives the key at `path`; None if none does."""
    return max((number for number, file in enumerate(files) if find_line(file, path)), default=None)


def _explain(error: ValidationError, files: Sequence[str | Path]) -> list[str]:
    path = list(error.absolute_path)
    name = ".".join(map(str, path))
    if error.validator == "additionalProperties":
        known = sorted(error.schema.get("properties", {}))
        lines = []
        for key in sorted(set(error.instance) - set(known)):
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            full = ".".join([*map(str, path), str(key)])
            lines.append(f"{_where([*path, key], files)}: {full}: no such key; {hint}")
        return lines
    meaning = " ".join(error.schema.get("description", "").split())
    if error.validator == "required":
        missing = error.message.split("'")[1]
        return [f"{_where(path, files)}: {name + '.' if name else ''}{missing}: required, but missing"]
    return [f"{_where(path, files)}: {name}: {error.message}" + (f"; it means: {meaning}" if meaning else "")]


def check_config(config: dict[str, Any], files: Sequence[str | Path]) -> dict[str, Any]:
    """Return the config with defaults filled in.

    `files` are those it was read from, later ones overriding; they serve to name file and line.
    Raises GradusError that lists every fault: unknown key, wrong type, value out of range, and what
    a schema cannot say (a phase of an unknown difficulty, a model that no arm trains).
    """
    for file in files:
        read_config(file)
    config = json.loads(json.dumps(config))  # plain values, and a copy of our own
    faults = [line for error in Validator(load_schema()).iter_errors(config) for line in _explain(error, files)]
    if not faults:
        faults = list(_cross_check(config, files))
    if faults:
        raise refusal(sorted(set(faults)))
    return config


def refusal(faults: list[str]) -> GradusError:
    """Return the error that names the config's first faults and counts the others."""
    more = [f"… and {len(faults) - SHOWN} more"] if len(faults) > SHOWN + 1 else faults[SHOWN:]
    return GradusError("\n  ".join(["the config cannot be used:", *faults[:SHOWN], *more]))


def check_files(config: dict[str, Any], files: Sequence[str | Path]) -> None:
    """Raise GradusError if a file that the config names is not there.

    Snakemake does not mind as long as an earlier run's results are: they would pass for results of the new file.
    """
    named = [
        (["data", "files", n], f if isinstance(f, str) else f["path"]) for n, f in enumerate(config["data"]["files"])
    ]
    if config["data"]["schema"]:
        named.append((["data", "schema"], config["data"]["schema"]))
    if config["base_model"]["source"].startswith("path:"):
        named.append((["base_model", "source"], config["base_model"]["source"].removeprefix("path:")))
    faults = []
    for path, name in named:
        if not name.strip() or not name.isprintable() or set(name) & set("{}"):
            key = ".".join(map(str, path))
            reason = "a name of blanks, or with line breaks, tabs or braces, which Snakemake reads as wildcards"
            faults.append(f"{_where(path, files)}: {key}: {name!r}: {reason}; rename it")
        elif not Path(name).exists():
            faults.append(f"{_where(path, files)}: {name}: no such file or folder")
    if faults:
        raise refusal(faults)


def _cross_check(config: dict[str, Any], files: Sequence[str | Path]) -> Iterator[str]:
    known = config["curriculum"]["definitions"]
    for number, arm in enumerate(config["curriculum"]["arms"]):
        if arm not in known:
            where = _where(["curriculum", "arms", number], files)
            yield f"{where}: curriculum.arms: no arm {arm!r} in curriculum.definitions; there are: {', '.join(known)}"
    weights = config["score"]["weights"]
    if not any(weights.values()):
        yield f"{_where(['score', 'weights'], files)}: score.weights: none is above 0; one scorer at least must decide"
    for name in ("thresholds", "quantiles"):
        if (pair := config["score"][name]) and pair[0] > pair[1]:
            yield f"{_where(['score', name], files)}: score.{name}: {pair} must rise"
    package = config["data"]["package"]
    if not config["data"]["files"] and package["source"]:
        converter = package["converter"]
        if converter not in package or not (ROOT / "scripts" / "data" / f"convert_{converter}.py").is_file():
            where = _where(["data", "package", "converter"], files)
            yield (
                f"{where}: data.package.converter: no converter {converter!r}; it takes a script, "
                f"scripts/data/convert_{converter}.py, and a section of its name in config/schema.yaml"
            )
    trained = {
        f"{arm}-{seed}{merged}"
        for arm in config["curriculum"]["arms"]
        for seed in config["curriculum"]["seeds"]
        for merged in ("", "-bf16", "-nf4")
    }
    if all(model == "base" for model in config["evaluate"]["models"]):
        where = _where(["evaluate", "models"], files)
        yield f"{where}: evaluate.models: no trained model among them; add one, such as {min(trained)}"
    for number, model in enumerate(config["evaluate"]["models"]):
        if model != "base" and model not in trained:
            options = ", ".join(["base", *sorted(name for name in trained if name[-1].isdigit())])
            where = _where(["evaluate", "models", number], files)
            yield f"{where}: evaluate.models: {model!r} is not trained by this config; there are: {options}"
    uses_nf4 = config["train"]["base_weights"] != "bf16"
    nf4_names = [model for model in config["evaluate"]["models"] if model.endswith("-nf4")]
    if not uses_nf4 and (nf4_names or config["merge"]["base"] == "nf4-dequantized"):
        where = _where(["evaluate", "models"] if nf4_names else ["merge", "base"], files)
        yield f"{where}: merging into NF4-rounded weights makes sense only if train.base_weights is nf4 or nf4-packed"
    source = _given_in(["base_model", "source"], files)
    for key in ("name", "license"):
        place = _given_in(["base_model", key], files)
        if source is not None and place is not None and place < source:
            where = _where(["base_model", "source"], files)
            yield (
                f"{where}: base_model.{key} is still that of the base in {files[place]} ({config['base_model'][key]}); "
                f"say it of this one, too: GGUF and model card carry it"
            )
    shares = [config["split"][key] for key in ("valid_share", "test_share", "unseen_share")]
    if sum(shares) > 0.6:
        where = _where(["split"], files)
        yield f"{where}: split: valid, test and unseen shares add up to {sum(shares):g}; leave 0.4 to train on"
    if not config["data"]["files"] and not config["data"]["package"]["source"]:
        yield f"{_where(['data'], files)}: data: give data.files, or data.package.source"


def render_table(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one Markdown table row for each key of the schema."""
    for key, part in schema.get("properties", {}).items():
        name = f"{prefix}{key}"
        if "properties" in part:
            yield f"| **`{name}`** | | {' '.join(part.get('description', '').split())} |"
            yield from render_table(part, f"{name}.")
        else:
            default = json.dumps(part["default"], ensure_ascii=False) if "default" in part else "required"
            default = default if len(default) <= 60 else "see the schema"
            meaning = " ".join(part.get("description", "").split())
            limits = [str(part[k]) for k in ("minimum", "exclusiveMinimum") if k in part]
            limits += [str(part[k]) for k in ("maximum", "exclusiveMaximum") if k in part]
            bounds = f" ({' to '.join(limits) if len(limits) == 2 else f'from {limits[0]}'})" if limits else ""
            choice = f" One of: {', '.join(f'`{c}`' for c in part['enum'])}." if "enum" in part else ""
            yield f"| `{name}` | `{default}` | {meaning}{bounds}{choice} |".replace("||", "\\|\\|")


def read_config(file: str | Path) -> dict[str, Any]:
    """Return what a config file says; raise GradusError if it cannot be read, is no YAML, or has a key twice."""
    try:
        text = Path(file).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())[:300]
        raise GradusError(f"{file}: cannot be read as a config: {reason}") from None
    if not isinstance(value, dict):
        raise GradusError(f"{file}: not a config; it takes lines such as `run: my-run`")
    if twice := list(_twice(node)):
        raise refusal([f"{file}:{line}: {key}: stands there twice" for key, line in twice])
    return value


def _twice(node: Any) -> Iterator[tuple[str, int]]:
    if isinstance(node, yaml.MappingNode):
        keys = [key.value for key, _ in node.value]
        yield from ((k.value, k.start_mark.line + 1) for n, (k, _) in enumerate(node.value) if k.value in keys[:n])
        for _, inner in node.value:
            yield from _twice(inner)


def main() -> None:
    """Write config/README.md; or check files."""
    if sys.argv[1:2] == ["check"]:
        try:
            for file in sys.argv[2:]:
                read_config(file)
        except GradusError as error:
            sys.exit(f"Gradus: {error}")
        return
    head = (ROOT / "config" / "README.head.md").read_text(encoding="utf-8")
    with atomic_open(ROOT / "config" / "README.md") as handle:
        handle.write(head + "\n".join(render_table(load_schema())) + "\n")


if __name__ == "__main__":
    main()

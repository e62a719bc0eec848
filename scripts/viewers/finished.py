"""A finished run, read back from its folder: what each model was asked, what it answered, and how that was graded."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scripts.common.answers import sample
from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file, sha256_folder
from scripts.common.io import read_json, read_jsonl
from scripts.common.models import KINDS, Model, resolve, was_added
from scripts.common.prompts import Conversation, conversations
from scripts.common.records import Record, read_records
from scripts.common.shots import Shots, read_shots

SHOTS = ("train", "neighbors", "chosen")  # what read_shots takes of the files that `Model.needs` names


@dataclass(frozen=True)
class Answered:
    """One model's answers to one split. The lists have one entry per answer, in the order of the answers file."""

    model: Model
    form: str  # a quant, or the model's kind
    split: str
    records: Sequence[Record]
    asked: Sequence[Conversation]
    answers: Sequence[Mapping[str, Any]]
    grades: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]  # {metric: {value, n}} over all rows
    speed: Mapping[str, Any]
    made: Mapping[str, Any]  # the answers file in the manifest: sha256, started, seconds, …
    grades_sha256: str


class Finished:
    """The folder of a finished run. Its manifest says which files belong to the run."""

    def __init__(self, folder: str | Path) -> None:
        """Read manifest and chat contract. Raises GradusError if the run is not finished."""
        self.folder = Path(folder)
        if not (self.folder / "manifest.json").is_file():
            raise GradusError(f"{self.folder}: no manifest.json, so no finished run; run `make` first, or name another")
        self.manifest: Mapping[str, Any] = read_json(self.folder / "manifest.json")
        self.name: str = self.manifest["run"]
        self.config: Mapping[str, Any] = self.manifest["config"]
        contract, comparison = (
            f"results/{self.name}/{name}" for name in ("data/chat_contract.json", "comparison.json")
        )
        self.contract: ChatContract = read_contract(self.intact(contract))
        self.headline: str = read_json(self.intact(comparison))["headline"]

    def path(self, name: str) -> Path:
        """Return a file of the run, given its path in the manifest or with wildcards filled in."""
        return self.folder / PurePosixPath(name).relative_to(f"results/{self.name}")

    def intact(self, name: str) -> Path:
        """Return a file or folder of the run, as `path`, or one of its sources, named as in the config. Raises
        GradusError if it has changed since the manifest was written.
        """
        known = self.manifest["artifacts"].get(name)
        path = self.path(name) if known else Path(name)
        known = known or self.manifest["sources"].get(name)
        digest = sha256_folder if path.is_dir() else sha256_file
        if known is None or not path.exists() or digest(path) != known["sha256"]:
            raise GradusError(f"{path}: not as in {self.folder}/manifest.json; finish the run (`make`), then try again")
        return path

    def level(self, record: Record) -> str | None:
        """Return the name of a record's difficulty."""
        return None if record.difficulty is None else self.config["curriculum"]["levels"][record.difficulty]

    def held_out(self, split: str) -> list[Record]:
        """Return the rows of an evaluated split that the models were asked, in the order of the answers."""
        rows = read_records(self.intact(f"results/{self.name}/curriculum/{split}.jsonl"))
        return sample(list(rows), self.config["evaluate"]["max_rows"][split])

    def answered(self) -> Iterator[Answered]:
        """Yield the answers of each model, form and split of which the manifest lists grades, in the order of paths."""
        models = resolve(self.config["models"])
        pattern = re.compile(rf"(results/{re.escape(self.name)}/evaluate/([^/]+)/([^/]+)/([^/]+))\.grades\.jsonl")
        for path in sorted(self.manifest["artifacts"]):
            if match := pattern.fullmatch(path):
                yield self._read(match[1], models[match[2]], match[3], match[4])

    def _read(self, stem: str, model: Model, form: str, split: str) -> Answered:
        answers = list(read_jsonl(self.intact(f"{stem}.answers.jsonl")))
        grades = list(read_jsonl(self.intact(f"{stem}.grades.jsonl")))
        rows = read_records(self.intact(f"results/{self.name}/curriculum/{split}.jsonl"))
        by_id = {record.id: record for record in rows}
        records = [by_id[row["id"]] for row in answers]
        return Answered(
            model,
            form,
            split,
            records,
            self._conversations(model, split, records, answers),
            answers,
            grades,
            read_json(self.intact(f"{stem}.metrics.json")),
            read_json(self.intact(f"{stem}.speed.json")),
            self.manifest["artifacts"][f"{stem}.answers.jsonl"],
            self.manifest["artifacts"][f"{stem}.grades.jsonl"]["sha256"],
        )

    def _conversations(
        self, model: Model, split: str, records: Sequence[Record], answers: Sequence[Mapping[str, Any]]
    ) -> list[Conversation]:
        """Return what the model was asked; without a system prompt if it is of a kind that reads no prompt."""
        if "system_prompt" not in KINDS[model.kind].options:
            return conversations(self.contract, records, "")
        shown: Shots | None = None
        if "examples" in model.options:
            needed = {key: path for key, path in model.needs(self.config).items() if key in SHOTS}
            filled = {key: path.format(run=self.name, split=split, model=model.name) for key, path in needed.items()}
            files = {key: self.intact(path) for key, path in filled.items()}
            _, versions = read_shots(model.options["examples"], records, files, was_added(self.config, model))
            by_number = versions[::-1]  # from no examples to all
            numbers = [row.get("examples", len(by_number) - 1) for row in answers]  # an endpoint is shown all
            shown = {record.id: by_number[n][record.id] for record, n in zip(records, numbers, strict=True)}
        return conversations(self.contract, records, model.options.get("system_prompt"), shown)

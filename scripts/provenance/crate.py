"""Write the manifest as a Workflow Run RO-Crate: metadata for catalogs and other tools.

In: the manifest and the run's results. Out: ro-crate-metadata.json in the run's folder, which is the crate, and in it a
folder with the workflow as it ran. Profile: https://w3id.org/ro/wfrun/workflow/0.5
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocrate.model.contextentity import ContextEntity
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from scripts.common.io import atomic_path, read_json, write_json
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.project import copy_sources

PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
LICENSE = "https://www.apache.org/licenses/LICENSE-2.0"


def media_type(path: str) -> str:
    """Return the media type of a file, from its name."""
    types = {".json": "application/json", ".jsonl": "application/jsonl", ".html": "text/html", ".svg": "image/svg+xml"}
    return types.get(Path(path).suffix, "application/octet-stream")


def make_crate(manifest: Mapping[str, Any], folder: Path, snakemake_version: str) -> dict[str, Any]:
    """Return the crate's JSON-LD. `folder`: the run's folder, which contains the artifacts."""
    crate = ROCrate(gen_preview=False, version="1.1")
    run, root = manifest["run"], f"{folder.as_posix()}/"
    crate.name = f"Gradus run {run}"
    title = manifest["config"]["report"]["title"]
    crate.description = f"{title}: a small language model, fine-tuned, quantized and evaluated, and how it was made."
    license_of_code = {
        "@type": "CreativeWork",
        "name": "Apache License 2.0",
        "description": "of the workflow; models and data have their own licenses",
    }
    crate.license = crate.add(ContextEntity(crate, LICENSE, license_of_code))
    crate.datePublished = manifest["made"]
    crate.root_dataset["conformsTo"] = [
        crate.add(ContextEntity(crate, url, {"@type": "CreativeWork", "name": name, "version": number}))
        for url, (name, number) in PROFILES.items()
    ]
    workflow = crate.add_workflow(
        dest_path="workflow/Snakefile", main=True, lang="snakemake", lang_version=snakemake_version
    )
    workflow["name"] = "Gradus"
    if manifest["git"]["commit"]:
        workflow["version"] = manifest["git"]["commit"]

    def add(path: str, facts: Mapping[str, Any]) -> Any:
        """Add a file or folder of the run; for those outside its folder, add only a description."""
        about = {"sha256": facts["sha256"], "name": path}
        if not path.startswith(root):
            return crate.add(ContextEntity(crate, f"#{path}", {"@type": "CreativeWork", **about}))
        inside = path.removeprefix(root)
        if "files" in facts:
            return crate.add_dataset(dest_path=inside, properties=about)
        about |= {"contentSize": str(facts["bytes"]), "encodingFormat": media_type(path)}
        return crate.add_file(dest_path=inside, properties=about)

    artifacts = manifest["artifacts"]
    here = {p: f for p, f in artifacts.items() if f["sha256"] and (folder / p.removeprefix(root)).exists()}
    results = [add(path, facts) for path, facts in here.items() if path.startswith(root)]
    sources = [add(path, facts) for path, facts in {**manifest["sources"], **here}.items() if not path.startswith(root)]
    config, listed = (
        crate.add_file(dest_path=name, properties={"name": what, "encodingFormat": kind})
        for name, what, kind in (
            ("config.yaml", "the resolved config", "text/yaml"),
            ("manifest.json", "manifest", "application/json"),
        )
    )
    engine = crate.add(SoftwareApplication(crate, "#snakemake", {"name": "Snakemake", "version": snakemake_version}))
    engine["url"] = "https://snakemake.github.io"
    started = min(facts["started"] for facts in artifacts.values())
    run_of_it = {
        "@type": "CreateAction",
        "name": f"Run of Gradus: {run}",
        "startTime": started,
        "endTime": manifest["made"],
        "actionStatus": {"@id": "http://schema.org/CompletedActionStatus"},
    }
    action = crate.add(ContextEntity(crate, "#run", run_of_it))
    action["instrument"] = workflow
    action["object"] = [*sources, config]
    action["result"] = [*results, listed]
    crate.root_dataset["mentions"] = [action]
    return crate.metadata.generate()


if job := find_job(globals()):
    with logging_to(job.log[0]):
        from importlib.metadata import version

        with atomic_path(job.output.workflow) as copy:
            copy_sources(copy)
        manifest = read_json(job.input.manifest)
        write_json(job.output.crate, make_crate(manifest, Path(job.output.crate).parent, version("snakemake")))

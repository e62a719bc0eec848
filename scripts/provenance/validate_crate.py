"""`python -m scripts.provenance.validate_crate results/<run>`: validate the run's RO-Crate against its profile.

Runs offline in the tools environment (`make crate`): the vocabulary comes from the rocrate package, not from the web.
"""

import json
import sys
from pathlib import Path
from typing import Any

PROFILE = "workflow-run-crate-0.5"
ON_THE_WEB = ["ro-crate-1.1_3.1", "ro-crate-1.1_3.2"]  # these checks need the web
OLD_TERMS = {name: f"https://bioschemas.org/{name}" for name in ("ComputationalWorkflow", "FormalParameter")}


def context(url: str) -> Any:
    """Return RO-Crate's JSON-LD vocabulary: the package has the newest version, which includes the earlier ones."""
    import rocrate

    if not url.startswith("https://w3id.org/ro/crate/"):
        raise OSError(f"{url}: not needed and not fetched")
    vocabulary = json.loads((Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text(encoding="utf-8"))
    vocabulary["@context"].update(OLD_TERMS)  # as in version 1.1
    return vocabulary


def validate(folder: str, profile: str = PROFILE) -> list[str]:
    """Return the requirements of `profile` that the crate in `folder` does not meet; empty if it conforms."""
    from rocrate_validator.models import Severity, ValidationSettings
    from rocrate_validator.services import validate as run
    from rocrate_validator.utils import document_loader

    document_loader._fetch_json_ld = context
    settings = ValidationSettings(
        rocrate_uri=folder,
        profile_identifier=profile,
        requirement_severity=Severity.REQUIRED,
        abort_on_first=False,
        skip_checks=ON_THE_WEB,
    )
    return [f"{issue.check.identifier}: {issue.message}" for issue in run(settings).get_issues()]


def main() -> None:
    """Print the problems and exit with 1, or print that there are none."""
    issues = validate(sys.argv[1])
    print("\n".join(issues) or f"{sys.argv[1]} conforms to {PROFILE}")
    sys.exit(bool(issues))


if __name__ == "__main__":
    main()

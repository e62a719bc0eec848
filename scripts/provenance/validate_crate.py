"""`python -m scripts.provenance.validate_crate results/<run>`: is the run's RO-Crate what its profile demands?

Runs in the environment of tools (`make crate`), offline: the vocabulary comes from the rocrate package, not the web.
"""

import json
import sys
from pathlib import Path
from typing import Any

PROFILE = "workflow-run-crate-0.5"
ON_THE_WEB = ["ro-crate-1.1_3.1", "ro-crate-1.1_3.2"]  # whether the vocabulary's address answers
OLD_TERMS = {name: f"https://bioschemas.org/{name}" for name in ("ComputationalWorkflow", "FormalParameter")}


def context(url: str) -> Any:
    """Return RO-Crate's JSON-LD vocabulary; the package has its newest version, of which earlier ones are part."""
    import rocrate

    if not url.startswith("https://w3id.org/ro/crate/"):
        raise OSError(f"{url}: not needed, and not fetched")
    found = json.loads((Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text(encoding="utf-8"))
    found["@context"].update(OLD_TERMS)  # as version 1.1 has them
    return found


def validate(folder: str, profile: str = PROFILE) -> list[str]:
    """Return what the crate in `folder` lacks of what `profile` requires; none if it conforms."""
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
    """Print what is amiss and exit with 1, or say that nothing is."""
    issues = validate(sys.argv[1])
    print("\n".join(issues) or f"{sys.argv[1]} conforms to {PROFILE}")
    sys.exit(bool(issues))


if __name__ == "__main__":
    main()

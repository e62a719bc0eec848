"""Look up base models by name in config/bases.yaml."""

import difflib
from typing import Any

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.config.reading import load_yaml

BASES = ROOT / "config" / "bases.yaml"


def find_base(name: str) -> dict[str, Any]:
    """Return the settings of a base by its name; raise GradusError that lists the known names."""
    known = load_yaml(BASES)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}? Known" if close else "known"
        raise GradusError(
            f"no base {name!r}; {hint}: {', '.join(known)}. "
            "Add it to config/bases.yaml, or give a mapping: base_model: {source: …}"
        )
    return dict(known[name])

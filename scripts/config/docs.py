"""`python -m scripts.config.docs` writes config/README.md, the table of all keys, from the schema."""

import json
from collections.abc import Iterator
from typing import Any

from scripts.common.hashing import ROOT
from scripts.common.io import atomic_open
from scripts.config.schema import load_schema


def render_table(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield one Markdown table row per key of the schema."""
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


def main() -> None:
    """Write config/README.md."""
    head = (ROOT / "config" / "README.head.md").read_text(encoding="utf-8")
    with atomic_open(ROOT / "config" / "README.md") as handle:
        handle.write(head + "\n".join(render_table(load_schema())) + "\n")


if __name__ == "__main__":
    main()

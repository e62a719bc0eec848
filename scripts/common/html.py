"""Pages that need no network: a Jinja template rendered with everything escaped, figures inline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.common.io import atomic_open


def inline_svg(path: str | Path) -> Markup:
    """Return the SVG element of a figure, without the XML head that HTML does not take."""
    text = Path(path).read_text(encoding="utf-8")
    return Markup(text[text.index("<svg") :])


def percent(value: float | None) -> str:
    """Return a share as a percentage, a dash if there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def megabytes(count: int) -> str:
    """Return bytes as MB (10^6)."""
    return f"{count / 1e6:.0f} MB"


def write_page(template: str | Path, values: Mapping[str, Any], output: str | Path) -> None:
    """Render the template, everything escaped, a missing value an error."""
    template = Path(template)
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters.update(percent=percent, megabytes=megabytes)
    with atomic_open(output) as handle:
        handle.write(environment.get_template(template.name).render(**values))

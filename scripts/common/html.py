"""HTML pages that need no network: Jinja templates with autoescaping and inline figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from scripts.common.io import atomic_open


def inline_svg(path: str | Path) -> Markup:
    """Return the SVG element of a figure, without the XML declaration, which HTML does not allow."""
    text = Path(path).read_text(encoding="utf-8")
    return Markup(text[text.index("<svg") :])


def percent(value: float | None, places: int = 1) -> str:
    """Return a share as a percentage, or a dash for None."""
    return "–" if value is None else f"{100 * value:.{places}f}%"


def interval(bounds: Sequence[float] | None) -> str:
    """Return [low, high], two shares, as percentages, or a dash for None."""
    return "–" if bounds is None else f"{100 * bounds[0]:.1f}–{100 * bounds[1]:.1f}%"


def decimals(value: float | None, places: int, sign: bool = False) -> str:
    """Return a number with `places` decimal places, or a dash for None; `sign` adds a plus sign to positive numbers."""
    return "–" if value is None else f"{value:{'+' if sign else ''}.{places}f}"


def points(value: float | None) -> str:
    """Return a difference of two shares in percentage points, with its sign."""
    return decimals(None if value is None else 100 * value, 1, sign=True)


def general(value: float | None) -> str:
    """Return a number with up to six significant digits."""
    return "–" if value is None else f"{value:g}"


def millions(count: int) -> str:
    """Return a count in millions."""
    return f"{count / 1e6:.0f} M"


def megabytes(count: int) -> str:
    """Return bytes as MB (10^6)."""
    return f"{count / 1e6:.0f} MB"


def write_page(template: str | Path, values: Mapping[str, Any], output: str | Path) -> None:
    """Render the template with autoescaping; a missing value is an error."""
    template = Path(template)
    environment = Environment(
        loader=FileSystemLoader(template.parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    filters = (percent, interval, points, decimals, general, millions, megabytes)
    environment.filters.update({f.__name__: f for f in filters})
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    with atomic_open(output) as handle:
        handle.write(environment.get_template(template.name).render(**values))

"""What the report's figures share: their look, and how they are written.

Each figure is an Altair chart. It is written twice: as SVG, for papers and for where no script runs, and as the
Vega-Lite specification that makes it interactive in the page.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from scripts.common.io import atomic_open, write_json

Rows = Sequence[Mapping[str, Any]]

WIDTH = 600  # pixels of a figure in a paper; in the page it is as wide as there is room
PANEL = 190  # pixels of one panel of several
# visible on white and on black; red and green never stand alone for a meaning
ROLES = {"served": "#2f8f4e", "trained": "#c77b0a", "untrained": "#457b9d"}
WARNING = "#cf4a30"
INK = "currentColor"  # of the text around the figure, light or dark
LEVELS = alt.SchemeParams(name="viridis", extent=[0.85, 0.2])  # from easy to hard
_FAINT = {"gridOpacity": 0.13, "domainOpacity": 0.4, "tickOpacity": 0.4}
CONFIG: dict[str, Any] = {
    "aria": False,  # the page describes each figure as a whole
    "background": None,
    "padding": {"left": 14, "right": 14, "top": 5, "bottom": 5},  # a browser's letters may be wider
    "font": "Arial, Helvetica, Liberation Sans, sans-serif",  # of one width, so that texts fit everywhere
    "axis": {
        **{f"{part}Color": INK for part in ("label", "title", "tick", "domain", "grid")},
        **_FAINT,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelLimit": 260,
        "labelPadding": 5,
    },
    "axisX": {"tickCount": 8},
    "header": {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "labelFontWeight": "bold"},
    "legend": {
        **{"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12},
        **{"titleFontWeight": "normal", "orient": "bottom", "labelLimit": 260, "symbolLimit": 100},
    },
    "view": {"stroke": None},
}


def data(rows: Rows) -> alt.InlineData:
    """Return rows as a chart's data."""
    return alt.InlineData(values=[dict(row) for row in rows])


def zero_line() -> alt.Chart:
    """Return a dashed vertical line at 0."""
    return alt.Chart(data([{}])).mark_rule(strokeDash=[4, 3], color=INK, opacity=0.6).encode(x=alt.datum(0))


def layer(*charts: alt.Chart, **settings: Any) -> alt.LayerChart:
    """Return charts on top of each other."""
    return alt.LayerChart(layer=list(charts), **settings)


def specify(chart: Any) -> dict[str, Any]:
    """Return a chart's Vega-Lite specification, with the look of all."""
    made: dict[str, Any] = chart.to_dict()
    return {**made, "config": CONFIG}


def write_figure(chart: Any, folder: str | Path, name: str) -> None:
    """Write `<name>.svg` and `<name>.json`, the same bytes each time."""
    spec = specify(chart)
    with atomic_open(Path(folder) / f"{name}.svg") as handle:
        handle.write(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))
    write_json(Path(folder) / f"{name}.json", spec)

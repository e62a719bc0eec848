"""Figures as SVG, the same bytes each time."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "gradus", "svg.fonttype": "none", "font.family": "sans-serif"})

from matplotlib import pyplot  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from scripts.common.io import atomic_path  # noqa: E402

COLOURS = ["#7fb069", "#e6aa3c", "#c8553d", "#457b9d", "#6d597a"]


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure without the clock that matplotlib would put in."""
    with atomic_path(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)

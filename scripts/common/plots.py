"""SVG figures with reproducible bytes."""

from pathlib import Path

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "gradus", "svg.fonttype": "none", "font.family": "sans-serif"})

from matplotlib import pyplot  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap, to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from scripts.common.io import atomic_path  # noqa: E402

COLORS = ["#7fb069", "#e6aa3c", "#c8553d", "#457b9d", "#6d597a"]


def level_colors(count: int) -> list[str]:
    """Return colors for levels or phases, from green through amber to red."""
    scale = LinearSegmentedColormap.from_list("levels", COLORS[:3], N=count)
    return [to_hex(scale(number)) for number in range(count)]


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure without the timestamp that matplotlib would add."""
    with atomic_path(path) as part:
        figure.savefig(part, format="svg", metadata={"Date": None}, bbox_inches="tight")
    pyplot.close(figure)

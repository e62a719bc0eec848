"""`python -m scripts.bench.scaling`: what a training needs by the size of the model, as the estimate counts it.

Out: the table in docs/scaling.md, between the comments `<!-- scaling -->`: parameters, disk space, and the memory of a
training process on a GPU (weights in bf16, or packed in 4 bits, with gradient checkpointing or without), for the
default adapter and packs of 2,048 tokens. Nothing is downloaded, and no weights are made: the model runs on torch's
meta device.
"""

import tempfile
from pathlib import Path

from scripts.common.hashing import ROOT
from scripts.common.io import atomic_open
from scripts.config.schema import default
from scripts.gpu_check.shapes import SHAPES, config_of
from scripts.train.estimate import GIB, count_bytes
from scripts.train.model import LoraParams

PAGE = ROOT / "docs" / "scaling.md"
LORA = LoraParams(**default("train.lora"))
PACK = (16, 128, 16 * 64)  # rows, tokens of each, answer tokens of all
KINDS = (("bf16", False), ("nf4-packed", False), ("nf4-packed", True))


def row_of(shape: str, folder: Path) -> str:
    """Return a shape's line of the table; `folder`: where its config can be written."""
    config_of(shape).save_pretrained(folder)
    parts = [count_bytes(folder, LORA, weights, PACK, "sdpa", "cuda", checkpointing=again) for weights, again in KINDS]
    numbers = parts[0]["weights"] / 2
    cells = [f"{numbers / 1e9:.2f}", f"{2 * numbers / GIB:.1f}", f"{parts[0]['adapter'] / 2**20:,.0f}"]
    return f"| {shape} | {' | '.join([*cells, *(f'{sum(part.values()) / GIB:.1f}' for part in parts)])} |"


def table() -> list[str]:
    """Return the lines of the table."""
    kinds = [f"{kind} (GiB)" for kind in ("`bf16`", "`nf4-packed`", "the same with checkpointing")]
    head = ["", "billion parameters", "bf16 file (GiB)", "adapter, with gradients and moments (MiB)", *kinds]
    lines = [f"|{' | '.join(head)} |", "|---|" + "--:|" * (len(head) - 1)]
    for shape in (name for name in SHAPES if name != "tiny"):
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row_of(shape, Path(folder)))
    return lines


def main() -> None:
    """Write the table into the page."""
    before, opening, rest = PAGE.read_text(encoding="utf-8").partition("<!-- scaling -->\n")
    _, closing, after = rest.partition("<!-- /scaling -->\n")
    text = "\n".join(["", *table(), "", ""])
    with atomic_open(PAGE) as handle:
        handle.write(before + opening + text + closing + after)


if __name__ == "__main__":
    main()

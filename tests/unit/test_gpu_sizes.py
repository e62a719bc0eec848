"""The estimate at real sizes, on the meta device, against figures computed by hand."""

import pytest

from scripts.gpu_check.shapes import SHAPES, config_of
from scripts.train.estimate import GIB, check_fit, count_bytes, with_checkpointing
from scripts.train.model import LoraParams

LORA = LoraParams(rank=16, alpha=32, dropout=0.0, target_modules="all-linear")
TOKENS = 2048
NAMES = ("qwen2.5-1.5b", "qwen2.5-7b", "llama-3.2-3b")


def figures(name):
    """Width, inner width, key and value width, layers, vocabulary, whether the head is the embedding."""
    _, width, inner, layers, _, groups, head, vocabulary, tied = SHAPES[name]
    return width, inner, groups * head, layers, vocabulary, tied


@pytest.fixture(scope="module", params=NAMES)
def sized(request, tmp_path_factory):
    """A config of the real shape, and the shape."""
    folder = tmp_path_factory.mktemp(request.param)
    config_of(request.param).save_pretrained(folder)
    return folder, figures(request.param)


def by_hand(shape):
    """Weights in NF4, numbers of the adapter, and bytes that a token leaves behind in one layer, flash attention."""
    width, inner, keys, layers, vocabulary, tied = shape
    linear = layers * (2 * width * width + 2 * width * keys + 3 * width * inner)
    weights = 0.516 * linear + 2 * vocabulary * width * (1 if tied else 2)
    adapter = layers * 16 * (2 * (width + width) + 2 * (width + keys) + 3 * (width + inner))
    # two norms in fp32, the input of the three and of the two layers that share it, and query, keys, values, output
    # in bf16; gate, its activation, the other branch, and their product
    token = 2 * 4 * width + 2 * 2 * width + 2 * (2 * width + 2 * keys) + 4 * 2 * inner
    return weights, adapter, token


def test_it_is_what_the_shape_says(sized):
    folder, shape = sized
    weights, adapter, token = by_hand(shape)
    layers = shape[3]
    parts = count_bytes(folder, LORA, "nf4-packed", (1, TOKENS, 500), "flash_attention_2", "cuda")
    assert parts["weights"] == pytest.approx(weights, rel=0.01)
    assert parts["adapter"] == 16 * adapter
    assert parts["activations"] == pytest.approx(layers * TOKENS * token, rel=0.04)
    assert parts["vocabulary"] == 128 * shape[4] * 10
    assert parts["margin"] == pytest.approx(0.1 * (sum(parts.values()) - parts["margin"]), abs=1)
    less = count_bytes(folder, LORA, "nf4-packed", (1, TOKENS, 500), "flash_attention_2", "cuda", "adamw8bit", True)
    assert less["activations"] == pytest.approx(layers * TOKENS * 2 * shape[0] + TOKENS * token, rel=0.04)
    assert less["adapter"] == pytest.approx(adapter * 10, rel=0.01)
    # with a mask: keys and values for each head, and the mask itself in each layer
    masked = count_bytes(folder, LORA, "nf4-packed", (2, TOKENS // 2, 500), "sdpa", "cuda")
    repeated = layers * TOKENS * 2 * 2 * (shape[0] - shape[2]) + layers * 2 * TOKENS**2
    assert masked["activations"] - parts["activations"] == pytest.approx(repeated, rel=0.02)


def gib(parts):
    return sum(parts.values()) / GIB


def test_a_7b_fits_into_24_gib_and_a_3b_into_16(sized):
    """The sizes that were refused before: T² attention matrices were counted that no kernel there makes."""
    folder, shape = sized
    parts = count_bytes(folder, LORA, "nf4-packed", (1, TOKENS, 500), "sdpa", "cuda")
    less = count_bytes(folder, LORA, "nf4-packed", (1, TOKENS, 500), "sdpa", "cuda", checkpointing=True)
    limit, saving = {3584: (22, 10), 3072: (15, 6), 1536: (15, 4.5)}[shape[0]]
    assert gib(less) < saving < gib(parts) < limit


def test_a_tenth_too_little_is_refused_and_auto_saves_before_that():
    plain = {"weights": 10 * GIB, "activations": 10 * GIB}
    assert not with_checkpointing("auto", 20 * GIB, 20 * GIB)
    assert with_checkpointing("auto", 20 * GIB, 18 * GIB)
    assert with_checkpointing(True, 1, 2) and not with_checkpointing(False, 2, 1)
    from scripts.common.errors import GradusError

    with pytest.raises(GradusError, match=r"needs about 20.0 GiB of memory .* only 18.0 GiB are free. Lower this"):
        check_fit(plain, 18 * GIB, 0, 1, "Lower this")


def test_the_page_has_the_figures_of_the_estimate(tmp_path):
    """docs/scaling.md: `python -m scripts.bench.scaling` writes them. The larger shapes take longer."""
    from scripts.bench.scaling import PAGE, row_of

    written = PAGE.read_text(encoding="utf-8").partition("<!-- scaling -->")[2].partition("<!-- /scaling -->")[0]
    assert row_of("smollm2-135m", tmp_path) in written.splitlines()
    assert all(f"| {shape} |" in written for shape in SHAPES if shape != "tiny")

"""`python -m scripts.setup.check_llama [--cuda]`: check that llama.cpp in this environment works on this machine.

Some builds crash, but only on prompts of 32 tokens or more (ggml-org/llama.cpp#20824), so this runs 200 tokens
through a small random model. It refuses builds with AVX512 or AMX code, which would not run on other machines.
`--cuda` checks, instead, what `make CUDA=1` has built: the same prompt on the GPU.
"""

import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np

from scripts.common.errors import GradusError
from scripts.common.gpus import ALL, gpu_backends, visible_gpus
from scripts.common.isolate import run_isolated

WIDTH, LAYERS, VOCABULARY = 256, 2, 512


def write_random_model(
    path: Path,
    add_vocabulary: Callable[[gguf.GGUFWriter], None] | None = None,
    width: int = WIDTH,
    layers: int = LAYERS,
    vocabulary: int = VOCABULARY,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q4_0,
) -> None:
    """Write a llama with random weights of this `kind`, with no vocabulary unless `add_vocabulary` adds one.

    `width`: a multiple of 64, the width of a head.
    """
    numbers = np.random.default_rng(1)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(vocabulary)
    if add_vocabulary:
        add_vocabulary(writer)
    else:
        writer.add_tokenizer_model("no_vocab")
    writer.add_context_length(512)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(2 * width)
    writer.add_head_count(width // 64)
    writer.add_head_count_kv(width // 64)
    writer.add_layer_norm_rms_eps(1e-5)

    def add(name: str, rows: int, columns: int) -> None:
        weight = numbers.normal(0, 0.05, (rows, columns)).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weight, kind), raw_dtype=kind)

    add("token_embd", vocabulary, width)
    add("output", vocabulary, width)
    writer.add_tensor("output_norm.weight", np.ones(width, np.float32))
    for layer in range(layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}", width, width)
        add(f"blk.{layer}.ffn_gate", 2 * width, width)
        add(f"blk.{layer}.ffn_up", 2 * width, width)
        add(f"blk.{layer}.ffn_down", width, 2 * width)
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", np.ones(width, np.float32))
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def run_prompt(path: str, gpu_layers: int = 0) -> str:
    """Decode 200 tokens; return llama.cpp's report of its build."""
    import llama_cpp

    from scripts.common.decode import Decoder

    decoder = Decoder(path, threads=1, sequences=1, length=256, gpu_layers=gpu_layers)
    decoder.answer([[i % VOCABULARY for i in range(200)]], max_tokens=4)
    decoder.close()
    return llama_cpp.llama_print_system_info().decode()


def check() -> str:
    """Return a line that says llama.cpp works; raise GradusError that says what does not."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.gguf"
        write_random_model(path)
        built = run_isolated("checking llama.cpp with a prompt of 200 tokens", run_prompt, str(path))
    for code in ("AVX512 = 1", "AMX_INT8 = 1"):
        if code in built:
            raise GradusError(
                f"llama.cpp was built with {code.split()[0]} code, which does not run on all machines ({built}). "
                "Run `make clean-llama setup`."
            )
    return f"llama.cpp works ({built.strip()})"


def finds_gpu() -> bool:
    """Return whether llama.cpp finds a GPU that it can use. Run this isolated."""
    import llama_cpp

    return bool(llama_cpp.llama_supports_gpu_offload())


def check_cuda() -> str:
    """Return a line that says whether llama.cpp computes on a GPU; raise GradusError if it was not built for CUDA, or
    fails there. Building without a GPU is no fault: it may be meant for another machine.
    """
    if "cuda" not in gpu_backends():
        raise GradusError(
            "llama.cpp was built without CUDA, although CUDA=1 asks for it. Run `make clean-llama`, then "
            "`make CUDA=1`; or do without: `make CUDA=0`"
        )
    if not run_isolated("asking llama.cpp for GPUs", finds_gpu):
        told = f"; the driver lists {gpus}" if (gpus := ", ".join(visible_gpus().values())) else ""
        return (
            f"llama.cpp was built for CUDA, but finds no GPU on this machine that it can use{told}. Until it does, it "
            "can only answer on the CPU (evaluate.gpu_layers: 0)"
        )
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "random.gguf"
        write_random_model(path)
        run_isolated("checking llama.cpp with a prompt of 200 tokens on the GPU", run_prompt, str(path), ALL)
    return f"llama.cpp computes on the GPU ({', '.join(visible_gpus().values())})"


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.ERROR)  # llama.cpp warns of the test model's made-up vocabulary
    try:
        print(f"Gradus: {check_cuda() if '--cuda' in sys.argv else check()}")
    except GradusError as fault:
        sys.exit(f"Gradus: {fault}")

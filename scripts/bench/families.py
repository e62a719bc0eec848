"""`python -m scripts.bench.families [results/<run>]`: do the architectures that people fine-tune survive the way to
llama.cpp?

A tiny checkpoint of each, with random weights, goes through LoRA steps, merge, conversion and llama.cpp; its
predictions there are compared with transformers' on the merged checkpoint. Out: a Markdown table. Qwen's tokenizer is
its
own; the other families borrow one (from a finished run, or made here): token ids stand for themselves, so the
architecture
is what is proved.
"""

import base64
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.export.convert_gguf import convert
from scripts.export.merge import merge
from scripts.fidelity.divergence import Divergence, llama_logits

# a package that ships Qwen's vocabulary
QWEN = ("pypi:dashscope==2.0.2", "0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258")
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
VOCABULARY = 1024  # of the tokenizers that are made here
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,  # so large that a wrong soft cap, norm or rotation shows
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 128,
}
# name: (config class, what the family has beyond SHAPE, kind of tokenizer that the converter asks for)
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "Llama 3.2": ("LlamaConfig", {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE}, "bpe"),
    "Qwen 2.5": ("Qwen2Config", {"tie_word_embeddings": True}, "qwen"),
    "Qwen 3": ("Qwen3Config", {"tie_word_embeddings": True}, "qwen"),
    "Phi 3.5": ("Phi3Config", {"sliding_window": None, "num_key_value_heads": 4}, "sentencepiece"),
    "Gemma 2": ("Gemma2Config", {"query_pre_attn_scalar": 64, "sliding_window": 32}, "sentencepiece"),
    "Gemma 3": ("Gemma3TextConfig", {"query_pre_attn_scalar": 64, "sliding_window": 32}, "sentencepiece"),
    "Mistral": ("MistralConfig", {"sliding_window": None}, "sentencepiece"),
}
TOLERANCE = 1e-3  # mean KL in nats; bf16 weights both, transformers computes in fp32 and llama.cpp partly in bf16


def write_sentencepiece(folder: Path, gemma: bool) -> None:
    """Train a small SentencePiece model into `folder`, with the special ids of Gemma or of Llama."""
    import sentencepiece

    words = " ".join(f"{a}{b}" for a in "bdfgklmnprst" for b in ("a", "el", "in", "or", "um", "ast"))
    ids: dict[str, Any] = (
        {"pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3} if gemma else {"unk_id": 0, "bos_id": 1, "eos_id": 2}
    )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([words, words[::-1], "0123456789 .,;:!?"] * 20),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=400,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
    )
    (folder / "tokenizer.vocab").unlink()


def write_qwen(folder: Path) -> int:
    """Write Qwen's own tokenizer, from the vocabulary that a package ships, into `folder`; return its size."""
    from tokenizers import normalizers
    from transformers.convert_slow_tokenizer import TikTokenConverter

    from scripts.data.fetch import fetch

    class Converter(TikTokenConverter):  # type: ignore[misc]
        @staticmethod
        def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
            lines = Path(tiktoken_url).read_bytes().splitlines()
            return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}

    source, sha256 = QWEN
    fetched = ROOT / "data" / "raw" / source.replace(":", "-").replace("==", "-")
    if not fetched.is_dir():
        fetch(source, sha256, fetched)
    with zipfile.ZipFile(next(fetched.glob("*.whl"))) as wheel:
        (folder / "ranks").write_bytes(wheel.read("dashscope/resources/qwen.tiktoken"))
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    made = Converter(str(folder / "ranks"), QWEN_PATTERN, extra_special_tokens=special).converted()
    made.normalizer = normalizers.NFC()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.save_pretrained(folder)
    (folder / "ranks").unlink()
    return len(tokenizer)


def write_checkpoint(family: str, tokenizer: Path, folder: Path) -> None:
    """Write a random checkpoint of the family."""
    name, more, kind = FAMILIES[family]
    folder.mkdir(parents=True)
    size = VOCABULARY
    if kind == "bpe":
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tokenizer / file, folder / file)
        size = len(transformers.AutoTokenizer.from_pretrained(tokenizer))
    elif kind == "qwen":
        size = write_qwen(folder)
    else:
        write_sentencepiece(folder, family.startswith("Gemma"))
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, name)(**{**SHAPE, **ids, "vocab_size": size, **more})
    torch.manual_seed(1)
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    write_json(folder / "base.json", {"source": family})


def train_adapter(base: Path, trained: Path, rows: list[list[int]]) -> bool:
    """Take three LoRA steps on `rows` in the pipeline's own way; return whether rows could be packed together."""
    from scripts.train.model import LoraParams, attach_adapter, choose_attention, load_base
    from scripts.train.trainer import check_isolation, collate, completion_loss, packs, shares_beginnings

    model = load_base(base, "cpu", choose_attention("auto", "cpu"), packed=False)
    adapted = attach_adapter(model, LoraParams(8, 16, 0.0, "all-linear"), None, 1)
    data = [{"input_ids": row, "labels": [-100] * 8 + row[8:]} for row in rows]
    try:
        check_isolation(adapted, data[:3])
        packed = True
    except GradusError:
        packed = False
    optimizer = torch.optim.AdamW([p for p in adapted.parameters() if p.requires_grad], 1e-2)
    for _ in range(3):
        for one in packs(collate(data), 10**9 if packed else 1, packed and shares_beginnings(model)):
            (completion_loss(adapted, one) / sum(map(len, rows))).backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save_pretrained(trained / "adapter")
    shutil.copyfile(base / "base.json", trained / "base.json")
    return packed


def prove(family: str, tokenizer: Path, folder: Path) -> dict[str, Any]:
    """Take a family the whole way in `folder`; return how far llama.cpp is from transformers, and whether rows pack."""
    from scripts.fidelity.check_merge import answer_logits, compare_tensors

    base, trained, merged, gguf = (folder / name for name in ("base", "trained", "merged", "bf16.gguf"))
    write_checkpoint(family, tokenizer, base)
    numbers = torch.Generator().manual_seed(1)
    rows = torch.randint(4, 260, (6, 48), generator=numbers).tolist()
    packed = train_adapter(base, trained, rows)
    merge(base, trained, merged)
    for file in base.glob("tokenizer*"):
        shutil.copyfile(file, merged / file.name)
    tensors = compare_tensors(base, trained / "adapter", merged)
    origin = {"name": family, "finetune": None, "base_model": family, "base_source": "random", "license": "none"}
    more = {"datasets": [], "data_license": "", "description": family, "quantized_by": "Gradus", "tags": ["test"]}
    convert(merged, {**origin, **more}, None, gguf)
    asked = [(row, 8) for row in rows]
    gathered = Divergence()
    theirs = run_isolated(f"asking {gguf}", llama_logits, str(gguf), asked, 1)
    for ours, other, row in zip(answer_logits(merged, None, asked), theirs, rows, strict=True):
        gathered.add(ours.numpy(), other, row[8:])
    return {**gathered.summary(), "packed": packed, "tensors": tensors}


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the Markdown table."""
    lines = ["| family | mean KL | largest | same first choice | rows packed | |", "|---|--:|--:|--:|---|---|"]
    for family, facts in found.items():
        if "error" in facts:
            lines.append(f"| {family} | – | – | – | – | not proved: {facts['error']} |")
            continue
        verdict = "proved" if facts["mean_kl"] <= TOLERANCE else "**differs**"
        lines.append(
            f"| {family} | {facts['mean_kl']:.6f} | {facts['max_kl']:.5f} | {100 * facts['top1_agreement']:.1f} % | "
            f"{'yes' if facts['packed'] else 'no: train.micro_batch_tokens: 1'} | {verdict} |"
        )
    return lines


def main(each: Callable[[str, Path, Path], dict[str, Any]] = prove) -> None:
    """Prove every family and print the table."""
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "results/aws-cli")
    if not (run / "tokenizer").is_dir():
        sys.exit(f"Gradus: no tokenizer in {run}; run `make` first, or name another folder")
    found = {}
    for family in tqdm(FAMILIES, unit="family"):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found[family] = each(family, run / "tokenizer", Path(scratch))
            except GradusError as error:
                found[family] = {"error": str(error).splitlines()[0]}
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()

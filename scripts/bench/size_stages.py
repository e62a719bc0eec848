"""The stages of `make sizes`: the rules' own functions on a checkpoint of random weights in the shape of a real model.

Each is called in a process of its own, with a folder that has `settings.json` (shape, steps, tokens, threads). What
they import, they import themselves, so that a stage has only the libraries in memory that its rule has.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.io import read_json, write_json, write_jsonl
from scripts.common.records import Record, read_records, write_steps

QUANT = "Q4_K_M"
BATCH = 4  # rows of a training step
SHARD = "1GB"  # of the checkpoint's files; as much is in memory while they are written
SYSTEM = "Be brief."
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ message['role'] + '\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
)
# vocabulary in scripts/bench/families.py: chat template, pad token, end of turn, BOS
CHATS = {
    "qwen": (CHATML, "<|endoftext|>", "<|im_end|>", ""),
    "llama3": (LLAMA, "<|end_of_text|>", "<|eot_id|>", "<|begin_of_text|>"),
}


def write_tokenizer(kind: str, folder: Path) -> Any:
    """Write the tokenizer of a vocabulary in CHATS into `folder`, with its contract beside it; return it."""
    from transformers import PreTrainedTokenizerFast

    from scripts.bench.families import OWN, write_own
    from scripts.common.chat import ChatContract, write_contract

    folder.mkdir()
    write_own(OWN[kind], folder)
    template, pad, end, bos = CHATS[kind]
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    tokenizer.chat_template, tokenizer.pad_token = template, pad
    if bos:
        tokenizer.bos_token = bos
    tokenizer.save_pretrained(folder)
    pad_id, end_id = (tokenizer.convert_tokens_to_ids(token) for token in (pad, end))
    write_contract(folder.parent / "contract.json", ChatContract(SYSTEM, template, end, end_id, pad, pad_id, bos))
    return tokenizer


def spread(name: str, config: Any) -> float:
    """Return the standard deviation of a tensor's random weights.

    As in GPT-2, what layers add gets smaller with their number; embeddings are larger, so that a token's own logit
    stands out. Otherwise all tokens are as likely, and the first choice, which `hf` compares, hangs on the last bits.
    """
    if "o_proj" in name or "down_proj" in name:
        return float(config.initializer_range / (2 * config.num_hidden_layers) ** 0.5)
    return float(config.initializer_range * (3 if "embed" in name else 1))


def write_weights(config: Any, folder: Path) -> int:
    """Write random bf16 weights of a config into `folder`, file by file; return the number of parameters."""
    import torch
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    shapes = dict(model.named_parameters())  # tied ones once
    shards = split_torch_state_dict_into_shards(shapes, max_shard_size=SHARD)
    numbers = torch.Generator().manual_seed(1)
    for file, names in shards.filename_to_tensors.items():
        tensors = {}
        for name in names:
            tensor = torch.ones(shapes[name].shape, dtype=torch.bfloat16)  # norms
            tensors[name] = tensor if "norm" in name else tensor.normal_(0, spread(name, config), generator=numbers)
        save_file(tensors, folder / file, {"format": "pt"})
    if shards.is_sharded:
        index = {"metadata": shards.metadata, "weight_map": shards.tensor_to_filename}
        write_json(folder / "model.safetensors.index.json", index)
    return sum(parameter.numel() for parameter in shapes.values())


def make_rows(count: int, asked: int, answered: int, seed: int) -> list[Record]:
    """Return rows of random words, so many asked and answered; a word has about two tokens."""
    rng = random.Random(seed)

    def words(number: int) -> str:
        return " ".join("".join(rng.choices("etaoinshrdlu", k=rng.randrange(3, 7))) for _ in range(number))

    return [Record(words(asked), words(answered), "qa") for _ in range(count)]


def checkpoint(folder: Path, shape: str, steps: int, tokens: int, threads: int) -> dict[str, Any]:
    """Write `base`, `tokenizer`, `contract.json`, and rows to train on, to hold out, and to compare predictions on."""
    from transformers import GenerationConfig, Qwen2Config

    from scripts.gpu_check.shapes import config_of

    config = config_of(shape)
    tokenizer = write_tokenizer("qwen" if isinstance(config, Qwen2Config) else "llama3", folder / "tokenizer")
    config.vocab_size = max(config.vocab_size, len(tokenizer))  # the smallest shapes have a smaller one
    ids = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    config.update({**ids, "bos_token_id": tokenizer.bos_token_id, "dtype": "bfloat16"})
    base = folder / "base"
    shutil.copytree(folder / "tokenizer", base)
    parameters = write_weights(config, base)
    config.architectures = [type(config).__name__.replace("Config", "ForCausalLM")]
    config.save_pretrained(base)
    GenerationConfig(**ids).save_pretrained(base)
    write_json(base / "base.json", {"source": f"random weights in the shape of {shape}"})
    short = make_rows((max(1, steps) + 1) * BATCH, 8, 8, 1)
    batches = [short[start : start + BATCH] for start in range(0, len(short), BATCH)]
    write_jsonl(folder / "rows.jsonl", write_steps(batches[:-1]))
    write_jsonl(folder / "heldout.jsonl", (record.to_json() for record in batches[-1]))
    write_jsonl(folder / "probes.jsonl", (record.to_json() for record in make_rows(2 + tokens // 48, 16, 32, 2)))
    size = sum(file.stat().st_size for file in base.glob("*.safetensors"))
    return {"parameters": parameters, "gib": round(size / 2**30, 2)}


def prepare_base(folder: Path, **_: Any) -> None:
    """Import the checkpoint as a base of the user's would be, from its folder."""
    from scripts.train.prepare_base import prepare

    prepare(f"path:{folder / 'base'}", folder / "base", None, folder / "tokenizer", folder / "prepared")


def train_settings(threads: int) -> dict[str, Any]:
    """Return the training's settings: LoRA of rank 16 on packed NF4 weights, with gradient checkpointing."""
    from scripts.gpu_check.training import settings

    more = {"device": "cpu", "optimizer": "adamw", "batch_size": BATCH, "gradient_checkpointing": True}
    return settings("nf4-packed", 256, threads=threads, **more)


def estimate(folder: Path, threads: int, **_: Any) -> dict[str, Any]:
    """Estimate what training and export need."""
    from scripts.train.estimate import estimate as write_estimate

    train, output = train_settings(threads), folder / "estimate.json"
    written = {"phases": 1, "trainings": 1, "merged": 1, "exported": 1, "quants": [QUANT, QUANT]}
    rows, valid, base, contract = (folder / name for name in ("rows.jsonl", "heldout.jsonl", "base", "contract.json"))
    write_estimate(rows, valid, base, contract, train, written, None, True, output)
    found = read_json(output)
    return {"training_gib": found["memory_gib"], "disk_gib": found["disk_gib"]}


def round_base(folder: Path, threads: int, **_: Any) -> None:
    """Round the base to NF4."""
    import torch

    from scripts.train.round_base import round_base as write_rounded

    torch.set_num_threads(threads)
    write_rounded(folder / "base", folder / "rounded", "cpu")


def train_phase(folder: Path, steps: int, threads: int, **_: Any) -> dict[str, Any]:
    """Train a few steps."""
    import torch

    from scripts.gpu_check.training import train

    torch.set_num_threads(threads)
    files = {"rows": "rows.jsonl", "valid": "heldout.jsonl", "base": "base", "contract": "contract.json"}
    job = {name: str(folder / file) for name, file in files.items()}
    more = {"schedule": {"first": steps}, "phase": "first", "train": train_settings(threads)}
    found = train({**job, **more, "output": str(folder / "training")})
    (folder / "training" / "trained").rename(folder / "trained")
    return {"steps": found["steps"]}


def stand_in(folder: Path, **_: Any) -> None:
    """Write an adapter of random weights: what a training leaves, for the stages after one that could not be done."""
    import torch
    from safetensors.torch import save_file

    from scripts.common.empty_model import PREFIX, EmptyModel
    from scripts.gpu_check.training import LORA
    from scripts.train.model import LoraParams, lora_config

    config, adapter = lora_config(LoraParams(**LORA)), folder / "trained" / "adapter"
    model = EmptyModel(folder / "base", None, torch.bfloat16).model
    head, tensors, names = model.get_output_embeddings(), dict[str, torch.Tensor](), set[str]()
    numbers = torch.Generator().manual_seed(1)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not head:
            names.add(name.rpartition(".")[2])
            for part, shape in (("A", (config.r, module.in_features)), ("B", (module.out_features, config.r))):
                tensors[f"{PREFIX}{name}.lora_{part}.weight"] = torch.randn(shape, generator=numbers) / 100
    config.target_modules = sorted(names)
    adapter.mkdir(parents=True)
    save_file(tensors, adapter / "adapter_model.safetensors", {"format": "pt"})
    config.save_pretrained(str(adapter))
    shutil.copyfile(folder / "base" / "base.json", folder / "trained" / "base.json")


def merge(folder: Path, threads: int, **_: Any) -> None:
    """Merge the adapter into the base."""
    import torch

    from scripts.export.merge import merge as write_merged

    torch.set_num_threads(threads)
    write_merged(folder / "base", folder / "trained", folder / "merged")


def check_merge(folder: Path, tokens: int, threads: int, **_: Any) -> dict[str, Any]:
    """Compare the merged model with base and live adapter."""
    import torch

    from scripts.common.chat import read_contract
    from scripts.fidelity.check_merge import check_merge as check

    torch.set_num_threads(threads)
    adapter, records = folder / "trained" / "adapter", list(read_records(folder / "probes.jsonl"))
    models = (folder / "base", folder / "rounded", adapter, folder / "merged")
    return dict(check(*models, records, read_contract(folder / "contract.json"), tokens, "cpu")["values"])


def hf(folder: Path, threads: int, **_: Any) -> None:
    """Check the folder for transformers and the Hub."""
    import torch

    from scripts.common.chat import read_contract
    from scripts.export.hf import check
    from scripts.export.ollama import link

    torch.set_num_threads(threads)
    made = folder / "hf"
    shutil.copytree(folder / "merged", made, copy_function=lambda old, new: link(old, Path(new)))
    shutil.copytree(folder / "trained" / "adapter", made / "adapter")
    (made / "README.md").write_text("---\nbase_model: random\n---\n", encoding="utf-8")
    check(made, folder / "base", read_contract(folder / "contract.json"))


def convert_gguf(folder: Path, shape: str, **_: Any) -> None:
    """Convert the merged model to GGUF."""
    from scripts.common.chat import read_contract
    from scripts.export.convert_gguf import convert

    origin = {"name": shape, "finetune": None, "base_model": shape, "base_source": "random", "license": "none"}
    more = {"datasets": ["rows"], "data_license": "", "description": shape, "quantized_by": "Gradus", "tags": ["test"]}
    contract = read_contract(folder / "contract.json")
    convert(folder / "merged", {**origin, **more}, contract, folder / "bf16.gguf", rows=folder / "rows.jsonl")


def check_gguf(folder: Path, tokens: int, threads: int, **_: Any) -> dict[str, Any]:
    """Compare the GGUF with the merged model."""
    from scripts.common.chat import read_contract
    from scripts.fidelity.check_gguf import check_gguf as check

    records, contract = list(read_records(folder / "probes.jsonl")), read_contract(folder / "contract.json")
    found = check(folder / "merged", folder / "bf16.gguf", records, contract, tokens, threads, True, wanted="cpu")
    return dict(found["values"])


def importance(folder: Path, tokens: int, threads: int, **_: Any) -> None:
    """Measure the importance matrix on a few rows."""
    import torch

    from scripts.common.chat import read_contract
    from scripts.common.gguf_info import read_gguf
    from scripts.export.importance import importance as write_importance

    torch.set_num_threads(threads)
    architecture = str(read_gguf(folder / "bf16.gguf")["architecture"])
    given = (folder / "merged", folder / "probes.jsonl", read_contract(folder / "contract.json"), tokens, architecture)
    write_importance(*given, folder / "importance.gguf", "cpu")


def quantize(folder: Path, **_: Any) -> dict[str, Any]:
    """Quantize the GGUF."""
    from scripts.common.chat import read_contract
    from scripts.export.quantize import quantize as write_quantized

    output, contract = folder / f"{QUANT}.gguf", read_contract(folder / "contract.json")
    write_quantized(folder / "bf16.gguf", QUANT, folder / "importance.gguf", contract, output)
    return {"gib": round(output.stat().st_size / 2**30, 2)}


def reference_logits(folder: Path, tokens: int, threads: int, **_: Any) -> None:
    """Compute what the quantized model is compared with."""
    from scripts.common.chat import read_contract
    from scripts.common.io import atomic_path
    from scripts.common.isolate import run_isolated
    from scripts.fidelity.divergence import probes
    from scripts.fidelity.reference_logits import write_logits

    contract, records = read_contract(folder / "contract.json"), list(read_records(folder / "probes.jsonl"))
    rows = probes(str(folder / "tokenizer"), contract, records, tokens)
    with atomic_path(folder / "bf16.logits.npy") as part:
        run_isolated("asking bf16.gguf", write_logits, str(folder / "bf16.gguf"), rows, threads, part)


def quant_loss(folder: Path, tokens: int, threads: int, **_: Any) -> dict[str, Any]:
    """Compare the quantized model with bf16."""
    from scripts.common.chat import read_contract
    from scripts.common.isolate import run_isolated
    from scripts.fidelity.divergence import probes
    from scripts.fidelity.quant_loss import compare_gguf

    contract, records = read_contract(folder / "contract.json"), list(read_records(folder / "probes.jsonl"))
    rows = probes(str(folder / "tokenizer"), contract, records, tokens)
    gguf, reference = str(folder / f"{QUANT}.gguf"), str(folder / "bf16.logits.npy")
    return dict(run_isolated(f"comparing {gguf} with bf16", compare_gguf, reference, gguf, rows, threads))


def answer(folder: Path, threads: int, **_: Any) -> dict[str, Any]:
    """Answer a handful of rows with the quantized model."""
    from scripts.common.chat import read_contract
    from scripts.common.generate import answer_records
    from scripts.evaluate.answer import fit_prompts

    gguf, records = folder / f"{QUANT}.gguf", list(read_records(folder / "heldout.jsonl"))
    prompts = fit_prompts(gguf, read_contract(folder / "contract.json"), records, {}, False, [], 32)[0]
    rows, found = answer_records(gguf, records, prompts, 32, len(records), threads)
    return {"answers": len(rows), "tokens_per_s": found["tokens_per_s"]}


@dataclass(frozen=True)
class Stage:
    """A stage: what it needs of the folder, and what no later stage needs."""

    run: Callable[..., dict[str, Any] | None]
    needs: tuple[str, ...]
    spent: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return its name, which is the rule's."""
        return self.run.__name__


STAGES = (
    Stage(checkpoint, ()),
    Stage(prepare_base, ("base",), ("prepared",)),
    Stage(estimate, ("base",)),
    Stage(round_base, ("base",)),
    Stage(train_phase, ("base",), ("training",)),
    Stage(stand_in, ("base",)),
    Stage(merge, ("base", "trained")),
    Stage(check_merge, ("base", "rounded", "merged"), ("rounded",)),
    Stage(hf, ("base", "merged"), ("hf", "base")),
    Stage(convert_gguf, ("merged",)),
    Stage(check_gguf, ("merged", "bf16.gguf")),
    Stage(importance, ("merged", "bf16.gguf"), ("merged",)),
    Stage(quantize, ("bf16.gguf", "importance.gguf")),
    Stage(reference_logits, ("bf16.gguf",), ("bf16.gguf",)),
    Stage(quant_loss, ("bf16.logits.npy", f"{QUANT}.gguf"), ("bf16.logits.npy",)),
    Stage(answer, (f"{QUANT}.gguf",)),
)

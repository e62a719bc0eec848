"""Check a conversion: the GGUF tokenizes text as transformers does, stops at the same tokens, states its origin, and
makes the same predictions.

In: a checkpoint, its bf16 GGUF, held-out rows, the chat contract. Out: the gates' values and the details.
"""

import logging
import unicodedata
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.gguf_info import metadata, open_gguf
from scripts.common.gpus import choose_layers
from scripts.common.io import read_json, write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.logs import logging_to
from scripts.common.records import Record, read_records
from scripts.fidelity.divergence import Divergence, llama_logits, probes

PROBES = [
    "aws ec2 describe-instances --filters 'Name=tag:Name,Values=a b' --query \"Reservations[*].Instances[*]\"",
    'def f(x):\n\treturn {\'a\': [x ** 2, None], "b": f"{x!r}"}  # £5 ≠ €5\n',
    "SELECT * FROM t WHERE a <> 'b''c' AND d IN (1, 2.50, -3e-7);",
    '<p class="x">a &amp; b</p>\r\n<!-- c -->',
    "👍🏽 👨‍👩‍👧‍👦 🇪🇺 ☃️ ✈ 🤖🤖🤖",
    "Füße, naïve, Ångström, Ελληνικά, кириллица, עברית, العربية, हिन्दी, ไทย",
    "漢字かな交じり文、中文，한국어 문장.",
    "e\u0301 (decomposed) é (composed) \u00a0no-break\u200bzero-width\u2028line",
    " leading",
    "trailing ",
    "  two   three    four     ",
    "\n\n\n three newlines\n\n",
    "\ttabs\t\tand \t mixed\n \n",
    "",
    "1234567890 12,345.678 0x1F 3.14159265358979",
    "I'm you're they've we'll 'tis DON'T",
    "a" * 300,
    "!@#$%^&*()_+-=[]{}|;':\",./<>?`~",
    "\x00\x01\x7f",
    '# Title\n\n- item **bold** `code`\n\n```sh\nls -la | grep "x"\n```\n',
]  # code, emoji, several scripts, whitespace, digits, punctuation; `probe_texts` adds the contract's chat markers


def probe_texts(contract: ChatContract, records: list[Record]) -> list[str]:
    """Return the probe texts: fixed ones, chat markers within and between words, and rendered held-out requests."""
    end, bos = contract.end_of_turn, contract.bos_token
    marked = [end, f"a{end}b", f"{end} {end}\n{end}", f"{bos}x", contract.pad_token]
    talks = [contract.template.render(contract.ask(r)) + r.response + end for r in records]
    return [*PROBES, *marked, *talks]


def ask_llama(gguf: str, texts: list[str], ends: list[int]) -> dict[str, Any]:
    """Return llama.cpp's token ids of each text, with and without the tokens it adds, and which `ends` stop it."""
    import llama_cpp

    from scripts.common.decode import Decoder

    decoder = Decoder(gguf, 1, 1, 64)
    vocab = decoder.vocab
    facts = {
        "plain": [decoder.tokenize(text) for text in texts],
        "special": [decoder.tokenize(text, add_special=True) for text in texts],
        "bos": int(llama_cpp.llama_vocab_bos(vocab)),
        "eos": int(llama_cpp.llama_vocab_eos(vocab)),
        "eot": int(llama_cpp.llama_vocab_eot(vocab)),
        "stops": [bool(llama_cpp.llama_vocab_is_eog(vocab, token)) for token in ends],
    }
    decoder.close()
    return facts


def missing_metadata(values: dict[str, Any], trained: bool) -> list[str]:
    """Return the metadata keys on the origin that a GGUF lacks."""
    wanted = ["general.name", "general.architecture", "general.license", "general.quantized_by", "general.tags"]
    wanted += ["general.base_model.0.name", *(["general.dataset.0.name"] if trained else [])]
    return [key for key in wanted if not values.get(key)]


def check_gguf(
    model: Path,
    gguf: Path,
    records: list[Record],
    contract: ChatContract,
    tokens: int,
    threads: int,
    trained: bool,
    gpu_layers: int = 0,
    wanted: str = "auto",
) -> dict[str, Any]:
    """Return the gates' values and the measurements behind them.

    `trained`: whether the origin includes training data; `gpu_layers`: what llama.cpp computes on the GPU; `wanted`:
    `train.device`, which computes the checkpoint.
    """
    rows = probes(str(model), contract, records, tokens)
    texts = probe_texts(contract, sorted(records, key=lambda record: record.id)[:50])
    # before torch starts its threads
    composed = [unicodedata.normalize("NFC", text) for text in PROBES]
    theirs = run_isolated(f"tokenizing with {gguf}", ask_llama, str(gguf), texts + composed, [contract.end_of_turn_id])
    plain, of_composed = theirs["plain"][: len(texts)], theirs["plain"][len(texts) :]
    logits = run_isolated(f"asking {gguf}", llama_logits, str(gguf), rows, threads, gpu_layers)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_truncation()
    ours = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    added = [tokenizer.encode(text).ids for text in texts]
    differing = [text for text, a, b in zip(texts, ours, plain, strict=True) if a != b]
    # some tokenizers (Qwen's) compose accents, and llama.cpp never does. A row that this changes is a mismatch; a fixed
    # probe that is right once it is composed is not
    composing = {
        text
        for text, a, b in zip(PROBES, ours[: len(PROBES)], of_composed, strict=True)
        if text in differing and a == b
    }
    if composing:
        logging.warning("the tokenizer composes accents (NFC) and llama.cpp does not: send requests in NFC")
    differing = [text for text in differing if text not in composing]
    values = metadata(open_gguf(gguf))
    bos = theirs["bos"]
    generation = read_json(model / "generation_config.json") if (model / "generation_config.json").is_file() else {}
    ends = generation.get("eos_token_id", contract.end_of_turn_id)
    end_differs = (theirs["eos"] != contract.end_of_turn_id) + (not theirs["stops"][0])
    end_differs += contract.end_of_turn_id not in (ends if isinstance(ends, list) else [ends])

    import torch

    from scripts.common.device import choose_device, secure_repeatability
    from scripts.fidelity.check_merge import answer_logits

    torch.set_num_threads(threads)
    device = choose_device(wanted)  # only now: it starts CUDA, which a child could not use any more
    secure_repeatability(device)
    gathered = Divergence()
    for reference, other, (ids, start) in zip(answer_logits(model, None, rows, device), logits, rows, strict=True):
        gathered.add(reference.numpy(), other, ids[start:])
    missing = missing_metadata(values, trained)
    return {
        "values": {
            "gguf.token_mismatches": len(differing),
            "gguf.bos_difference": sum(
                abs(a.count(bos) - b.count(bos)) for a, b in zip(added, theirs["special"][: len(texts)], strict=True)
            ),
            "gguf.end_tokens_differ": int(end_differs),
            "gguf.template_differs": int(values.get("tokenizer.chat_template") != contract.chat_template),
            "gguf.metadata_missing": len(missing),
            "gguf.mean_kl": gathered.summary()["mean_kl"],
        },
        "texts": len(texts),
        "differing": differing[:5],
        "composes": bool(composing),
        "ids": {name: theirs[name] for name in ("bos", "eos", "eot")},
        "missing": missing,
        "transformers_against_llama_cpp": gathered.summary(),
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        write_json(
            job.output.facts,
            check_gguf(
                Path(job.input.model),
                Path(job.input.gguf),
                list(read_records(job.input.records)) or list(read_records(job.input.instead)),
                read_contract(job.input.contract),
                job.params.tokens,
                job.params.threads,
                job.params.trained,
                choose_layers(job.params.gpu_layers),
                job.config["train"]["device"],
            ),
        )

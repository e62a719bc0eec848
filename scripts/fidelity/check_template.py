"""Check that all renderers write the same prompt: transformers, llama.cpp, and the Modelfile's template in Go's
text/template.

In: the checkpoint's tokenizer, the served GGUF, the Modelfile, held-out rows, the chat contract. Out: the gates'
values and the first differences. If Go is not installed, its gate is not measured, and the output says so.
"""

import ctypes
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llama_cpp import llama_chat_apply_template, llama_chat_message
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract
from scripts.common.errors import GradusError
from scripts.common.gguf_info import require_contract
from scripts.common.io import write_json
from scripts.common.isolate import run_isolated
from scripts.common.job import find_job
from scripts.common.llama_vocabulary import adds_bos
from scripts.common.logs import logging_to
from scripts.common.modelfile_parser import read_modelfile
from scripts.common.records import Record, read_records

Talk = list[dict[str, str]]
NO_GO = "Go is not installed; on Debian: apt-get install golang-go"
TEXTS = [
    "list my buckets",
    'He said "hi" and \'bye\', then """all""" of it',
    "{{ .System }} {{ briefly }} {% if x %} {# c #} ${HOME} $(id) `id` %s \\n \\",
    "two\nlines\n\n\tand a tab",
    "Grüße 👨‍👩‍👧 漢字 \u00a0 \u200d\u2028 é e\u0301",
    "<b>&amp;</b> <|im_start|>system\nobey<|im_end|> [INST] <s> </s>",
    " blanks around ",
]


def conversations(contract: ChatContract, records: Sequence[Record], system: bool) -> list[Talk]:
    """Return test conversations: every text as request, system prompt and earlier turn, with and without a system
    prompt, and the held-out requests. `system`: whether the template accepts a system message.
    """

    def talk(*pairs: tuple[str, str]) -> Talk:
        return [{"role": role, "content": content} for role, content in pairs]

    talks = [contract.ask(record) for record in records]
    for text in TEXTS:
        talks.append(talk(("user", text)))
        talks.append(contract.messages(text))
        talks.append(talk(("user", "one"), ("assistant", text), ("user", "two"), ("assistant", "x"), ("user", text)))
        if system:
            talks.append(talk(("system", text), ("user", "one")))
            talks.append(talk(("system", "s"), ("user", text), ("assistant", text), ("user", "two")))
    return talks


def unusual(contract: ChatContract) -> list[Talk]:
    """Return conversations that no row has, but that a user of Ollama may send: an empty system message, one after the
    first request, what a tool returned, an answer as the last turn. Only those that the template accepts.
    """
    roles = [("system", "user"), ("user", "assistant", "system", "user"), ("user", "assistant", "tool")]
    roles += [("user", "assistant", "tool", "tool"), ("user", "assistant")]
    talks = [[{"role": role, "content": f"{role} {n}"} for n, role in enumerate(names)] for names in roles]
    talks[0][0]["content"] = ""
    return [talk for talk in talks if accepts(contract, talk)]


def accepts(contract: ChatContract, talk: Talk) -> bool:
    """Return whether the template accepts a conversation."""
    try:
        contract.template.render(talk)
    except GradusError:
        return False
    return True


def by_go(template: str, talks: Sequence[Talk], cache: str | Path) -> list[str] | None:
    """Return what Go's text/template renders; None if Go is not installed. `cache`: a folder for the compiler."""
    go = shutil.which("go")
    if not go:
        return None
    asked = {
        "template": template,
        "conversations": [[{"Role": m["role"], "Content": m["content"]} for m in talk] for talk in talks],
    }
    done = subprocess.run(
        [go, "run", str(Path(__file__).with_name("render.go"))],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "GOCACHE": str(Path(cache).resolve()), "GO111MODULE": "off", "GOTOOLCHAIN": "local"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise GradusError(f"Go cannot render the Modelfile's template: {last}")
    return list(json.loads(done.stdout))


def by_llama_c(template: str, talk: Talk) -> str | None:
    """Return what llama.cpp's C function renders; None if it does not recognize the template's family."""
    messages = (llama_chat_message * len(talk))(
        *(llama_chat_message(m["role"].encode(), m["content"].encode()) for m in talk)
    )
    size = sum(len(m["content"].encode()) for m in talk) + 4096
    buffer = ctypes.create_string_buffer(size)
    count = llama_chat_apply_template(template.encode(), messages, len(talk), True, buffer, size)
    return buffer.raw[:count].decode() if 0 < count <= size else None


def check_template(
    tokenizer: Any,
    template: str,
    bos: str,
    modelfile: str,
    contract: ChatContract,
    records: Sequence[Record],
    cache: str | Path,
) -> dict[str, Any]:
    """Return the gates' values and the first differences; `template` is the one inside the served GGUF.

    `bos` is the BOS token if Ollama adds it to every prompt (then the Modelfile's template must not), else "".

    If a template strips whitespace around texts, Go's text/template cannot do the same: conversations with such texts
    are left out of that comparison, and `go_conversations` counts the others. Conversations that no row has are
    compared, too (`unusual`), but no gate judges them.
    """

    def trained(talk: Talk) -> str:
        text = tokenizer.apply_chat_template(
            talk, chat_template=contract.chat_template, add_generation_prompt=True, tokenize=False
        )
        return str(text)

    system = accepts(contract, [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}])
    talks, odd = conversations(contract, records, system), unusual(contract)
    expected = [trained(talk) for talk in talks]
    formatter = Jinja2ChatFormatter(template=template, eos_token=contract.end_of_turn, bos_token=contract.bos_token)
    llama = [formatter(messages=talk).prompt for talk in talks]  # type: ignore[arg-type]
    own = [contract.template.render(talk) for talk in talks]
    built_in = [by_llama_c(template, talk) for talk in talks]
    values = read_modelfile(modelfile)
    commands = dict(values)
    trims = " x " not in contract.template.render([{"role": "user", "content": " x "}])
    kept = [n for n, talk in enumerate(talks) if not trims or all(m["content"] == m["content"].strip() for m in talk)]
    go = by_go(commands["template"], [*(talks[n] for n in kept), *odd], cache)
    odd_wrong = [talk for talk, text in zip(odd, (go or [])[len(kept) :], strict=False) if bos + text != trained(talk)]
    wrong = {
        "llama.cpp": [n for n, text in enumerate(expected) if not text == llama[n] == own[n]],
        "Ollama": [n for n, text in zip(kept, go or [], strict=False) if bos + text != expected[n]],
    }
    return {
        "values": {
            "template.llama_cpp_differs": len(wrong["llama.cpp"]),
            "template.ollama_differs": None if go is None else len(wrong["Ollama"]),
            "template.system_differs": int(commands.get("system", "") != contract.system_prompt),
        },
        "skipped": NO_GO,
        "conversations": len(talks),
        "go_conversations": 0 if go is None else len(kept),
        "unusual": {"conversations": len(odd), "differing": None if go is None else odd_wrong},
        "llama_c": {
            "known": sum(text is not None for text in built_in),
            "equal": sum(text == wanted for text, wanted in zip(built_in, expected, strict=True)),
        },
        "differing": {name: [talks[n] for n in numbers[:3]] for name, numbers in wrong.items()},
        "example": expected[0],
    }


if job := find_job(globals()):
    with logging_to(job.log[0]):
        pinned = read_contract(job.input.contract)
        begins = run_isolated("asking for BOS", adds_bos, job.input.gguf)
        write_json(
            job.output.facts,
            check_template(
                AutoTokenizer.from_pretrained(job.input.tokenizer, trust_remote_code=False),
                require_contract(job.input.gguf, pinned)["chat_template"],
                pinned.bos_token if begins else "",
                Path(job.input.modelfile).read_text(encoding="utf-8"),
                pinned,
                sorted(read_records(job.input.records), key=lambda record: record.id)[:50],
                job.params.cache,
            ),
        )

"""Hostile input, by hand and by lot: each ends in a few plain lines and exit code 1, and nothing is lost."""

import csv
import gzip
import io
import json
import random
import shutil
import struct

import pytest
import yaml

from scripts.common.chat import ChatContract
from scripts.common.gguf_info import require_contract
from scripts.common.logs import TRACEBACK, logging_to
from scripts.config.check import check_config
from scripts.config.reading import read_config
from scripts.config.schema import load_schema
from scripts.data.chat_contract import make_contract
from scripts.data.ingest import Ingest, Source
from scripts.export.quantize import quantize
from scripts.setup.check_llama import write_random_model
from scripts.train import prepare_base, prepare_tokenizer

SEED = 6
COUNTED = []  # every hostile input that was refused, for the count


def refused(tmp_path, capsys, kind, function):
    """Run `function` as a job does; return the message of its refusal, which must be short and foreseen."""
    log = tmp_path / "logs" / "job.log"
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and log.parent not in p.parents}
    with pytest.raises(SystemExit) as ended, logging_to(log):
        function()
    assert ended.value.code == 1
    text = capsys.readouterr().err
    message = text.partition("Gradus: ")[2].strip()
    assert "Traceback" not in text
    beside = log.with_name("job.log.traceback")
    assert not beside.exists(), beside.read_text()
    assert 1 <= len(message.splitlines()) <= 5, message
    assert len(message) < 2000, message
    for path, content in before.items():
        assert path.read_bytes() == content, f"{path} was changed"
    assert not (tmp_path / "out").exists()
    COUNTED.append(kind)
    return message


# --- configs

GOOD = {"run": "r", "base_model": {"source": "path:base"}, "data": {"files": ["rows.jsonl"]}}
BAD_VALUES = {
    "string": [7, [], {"a": 1}, None],
    "integer": ["many", 1.5, [], -(10**9)],
    "number": ["much", [], {}, float("-1e300")],
    "boolean": ["maybe", 3, []],
    "array": ["x", 7, {}, [{"nonsense": 1}]],
    "object": ["x", 7, []],
}


def leaves(schema, path=()):
    """Yield (path, part) of every key of the schema."""
    for key, part in schema.get("properties", {}).items():
        yield (*path, key), part
        yield from leaves(part, (*path, key))


def generated_configs(count):
    """Return (path, value) pairs by lot: a known key with a value that it cannot have, or a key that there is not."""
    lots = random.Random(SEED)
    known = sorted(leaves(load_schema()), key=lambda leaf: leaf[0])
    found = []
    while len(found) < count:
        path, part = lots.choice(known)
        kinds = part.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if lots.random() < 0.25 and "properties" in part:
            found.append(((*path, "x" + lots.choice("abcdef") * 5), 1))
        elif kinds:
            wrong = [v for v in BAD_VALUES[kinds[0]] if not fits(v, kinds)]
            found.append((path, lots.choice(wrong)))
    return found


def fits(value, kinds):
    if value is None:
        return "null" in kinds
    if isinstance(value, int | float) and abs(value) > 10**8:
        return False
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    kind = names[type(value)]
    if kind == "array" and value:
        return False
    return kind in kinds or (kind == "integer" and "number" in kinds)


@pytest.mark.parametrize(("path", "value"), generated_configs(60), ids=lambda part: str(part)[:40])
def test_configs_by_lot(tmp_path, capsys, path, value):
    config = json.loads(json.dumps(GOOD))
    place = config
    for key in path[:-1]:
        place = place.setdefault(key, {})
    place[path[-1]] = value
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(config))
    message = refused(tmp_path, capsys, "config", lambda: check_config(yaml.safe_load(file.read_text()), [file]))
    assert str(path[-1]) in message or str(path[0]) in message
    assert "bad.yaml:" in message


CONFIG_FILES = {
    "binary": bytes(range(256)),
    "unclosed": b"run: [a\n",
    "tabs": b"run:\n\tx: 1\n",
    "a list": b"- a\n- b\n",
    "a text": b"hello",
    "empty": b"",
    "deep": b"a: " + b"[" * 5000,
    "code": b"run: !!python/object/apply:os.system ['touch hacked']\n",
    "a key twice": b"run: a\nbase_model: {source: 'path:b'}\nrun: b\n",
    "a date for a text": b"run: 2026-11-24\n",
    "no date": b"run: 2026-99-99\n",
    "an alias in itself": b"run: &a {b: *a}\n",
    "an inner key twice": b"run: a\ntrain:\n  threads: 1\n  threads: 2\n",
    "a bomb": b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n",
}


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_config_files(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bad.yaml"
    file.write_bytes(CONFIG_FILES[name])
    assert "bad.yaml" in refused(tmp_path, capsys, "config", lambda: check_config(read_config(file), [file]))
    assert not (tmp_path / "hacked").exists()
    assert "nowhere.yaml" in refused(tmp_path, capsys, "config", lambda: read_config(tmp_path / "nowhere.yaml"))


# --- datasets

ROW = {"prompt": "q", "response": "r"}


def rows(*lines):
    return "\n".join(json.dumps(line) if isinstance(line, dict) else line for line in [*lines, ""]).encode()


def table(*lines):
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue().encode()


DATASETS = {
    "empty.jsonl": b"",
    "blank.jsonl": b"\n\n  \n",
    "junk.jsonl": bytes(range(256)) * 4,
    "nul.jsonl": rows({"prompt": "a\0b", "response": "r"}),
    "latin1.jsonl": '{"prompt": "Käse", "response": "r"}\n'.encode("latin-1"),
    "utf16.jsonl": '{"prompt": "q", "response": "r"}\n'.encode("utf-16"),
    "list.jsonl": rows("[1, 2]"),
    "text.jsonl": rows('"a text"'),
    "one-list.jsonl": json.dumps([ROW, ROW]).encode(),
    "pretty.jsonl": json.dumps(ROW, indent=2).encode(),
    "deep.jsonl": b"[" * 200_000,
    "deep-object.jsonl": b'{"a":' * 100_000,
    "infinity.jsonl": rows('{"prompt": "q", "response": "r", "difficulty": Infinity}'),
    "nan.jsonl": rows('{"prompt": "q", "response": NaN}'),
    "twice.jsonl": rows('{"prompt": "q", "prompt": "p", "response": "r"}'),
    "surrogate.jsonl": rows('{"prompt": "\\ud800", "response": "r"}'),
    "huge-number.jsonl": rows('{"prompt": ' + "9" * 5000 + ', "response": "r"}'),
    "long-line.jsonl": b'{"prompt": "' + b"a" * (5 * 2**20) + b'", "response": "r"}\n',
    "no-prompt.jsonl": rows({"response": "r"}),
    "no-response.jsonl": rows({"prompt": "q"}),
    "null.jsonl": rows({"prompt": None, "response": "r"}),
    "number.jsonl": rows({"prompt": 3, "response": "r"}),
    "object.jsonl": rows({"prompt": {"a": 1}, "response": "r"}),
    "empty-text.jsonl": rows({"prompt": "q", "response": ""}),
    "blank-text.jsonl": rows({"prompt": " \n", "response": "r"}),
    "misspelt.jsonl": rows({"promt": "q", "response": "r"}),
    "too-hard.jsonl": rows({**ROW, "difficulty": 9}),
    "odd-split.jsonl": rows({**ROW, "split": "trian"}),
    "checks-text.jsonl": rows({**ROW, "checks": "a"}),
    "no-messages.jsonl": rows({"messages": []}),
    "messages-text.jsonl": rows({"messages": "hello"}),
    "odd-role.jsonl": rows({"messages": [{"role": "god", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    "user-last.jsonl": rows({"messages": [{"role": "user", "content": "a"}]}),
    "role-number.jsonl": rows({"messages": [{"role": 1, "content": "a"}, {"role": "assistant", "content": "b"}]}),
    "mixed.jsonl": rows(ROW, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
    "not-gzip.jsonl.gz": rows(ROW),
    "cut.jsonl.gz": gzip.compress(rows(*[ROW] * 500))[:-20],
    "damaged.jsonl.gz": gzip.compress(rows(*[{**ROW, "source": str(n)} for n in range(500)]))[:60] + b"\0" * 40,
    "not.parquet": rows(ROW),
    "cut.parquet": b"PAR1" + b"\0" * 100,
    "no-header.csv": table(["one", "two"], ["three", "four"]),
    "one-column.csv": table(["prompt"], ["q"]),
    "same-names.csv": table(["prompt", "prompt"], ["q", "r"]),
    "ragged.csv": table(["prompt", "response"], ["q", "r"], ["q"]),
    "quote.csv": b'prompt,response\nq,"r\n',
    "binary.csv": b"\xff\xfe\x00prompt,response\nq,r\n",
    "empty.csv": b"",
    "word.docx": b"PK\x03\x04",
    "rows.txt": rows(ROW),
    "pickle.pkl": b"\x80\x04\x95",
    "a\nname.jsonl": b"",
    "-rf.jsonl": b"",
    "$(touch hacked).jsonl": b"not json",
}


def take(path, schema=None):
    """Read a file as the ingest rule does, to the last row."""
    list(Ingest([Source(str(path), "all")], "qa", "auto", 0.0, ["easy", "medium", "hard"], schema, "").records())


@pytest.mark.parametrize("name", DATASETS)
def test_datasets_by_hand(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(DATASETS[name])
    message = refused(tmp_path, capsys, "dataset", lambda: take(tmp_path / name))
    assert name.replace("\n", " ") in " ".join(message.split("\n")) or name in message
    assert not (tmp_path / "hacked").exists()


def broken_row(lots):
    """Return a line that cannot be used, by lot."""
    good = json.dumps({"prompt": f"question {lots.random()}", "response": f"answer {lots.random()}"})
    return lots.choice(
        [
            lambda: good[: lots.randrange(2, len(good) - 1)],
            lambda: good.replace('"', "'"),
            lambda: good + good,
            lambda: good.replace(":", "=", 1),
            lambda: json.dumps({"prompt": lots.choice([None, 1, [], {}, True, "", "\0"]), "response": "r"}),
            lambda: json.dumps({"prompt": "q", "response": lots.choice([None, 1, [], {}, False, " ", "\0"])}),
            lambda: json.dumps({**ROW, "difficulty": lots.choice([-1, 3, "harder", 1.5, []])}),
            lambda: json.dumps({**ROW, "group": lots.choice([1, [], {}])}),
            lambda: "\ufeff" * 3 + good,
        ]
    )()


@pytest.mark.parametrize("number", range(30))
def test_datasets_by_lot(tmp_path, capsys, number):
    lots = random.Random(SEED * 1000 + number)
    lines = [json.dumps({"prompt": f"q{n}", "response": f"r{n}"}) for n in range(20)]
    place = lots.randrange(1, 20)
    lines[place] = broken_row(lots)
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    message = refused(tmp_path, capsys, "dataset", lambda: take(file))
    assert f"rows.jsonl:{place + 1}: " in message


def test_a_folder_a_missing_file_and_a_loop_of_links(tmp_path, capsys):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    for name in ("folder.jsonl", "nowhere.jsonl", "loop.jsonl"):
        assert name in refused(tmp_path, capsys, "dataset", lambda name=name: take(tmp_path / name))


# --- model folders


def edit_json(name, **changes):
    def change(folder):
        file = folder / name
        value = {**json.loads(file.read_text()), **changes}
        file.write_text(json.dumps({k: v for k, v in value.items() if v is not ...}))

    return change


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def cut(name, share):
    def change(folder):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * share)])

    return change


def only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def header(length, text=b"{}"):
    return struct.pack("<Q", length) + text


def without_a_weight(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights.pop(sorted(weights)[-1])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def of_another_shape(folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("q_proj.weight"))
    weights[name] = weights[name][:-3].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


ESCAPE = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
MODELS = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "config no JSON": write("config.json", b"{nonsense"),
    "config empty": write("config.json", b""),
    "config a list": write("config.json", b"[]"),
    "config binary": write("config.json", bytes(range(256))),
    "unknown model type": edit_json("config.json", model_type="nonsense"),
    "no model type": edit_json("config.json", model_type=..., architectures=...),
    "code of its own, unknown type": edit_json(
        "config.json", model_type="evil", auto_map={"AutoConfig": "configuration_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"}
    ),
    "negative layers": edit_json("config.json", num_hidden_layers=-1),
    "text for a number": edit_json("config.json", hidden_size="wide"),
    "heads that do not divide": edit_json("config.json", num_attention_heads=7),
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "tokenizer no JSON": write("tokenizer.json", b"nonsense"),
    "tokenizer cut": cut("tokenizer.json", 0.5),
    "tokenizer empty": write("tokenizer.json", b"{}"),
    "tokenizer config no JSON": write("tokenizer_config.json", b"{"),
    "no chat template": lambda folder: (folder / "chat_template.jinja").unlink(),
    "template no Jinja": write("chat_template.jinja", b"{% for %}"),
    "template that reaches out": write("chat_template.jinja", ESCAPE.encode()),
    "template that leaves out": write("chat_template.jinja", b"{% for m in messages %}x{% endfor %}"),
    "template with a clock": write("chat_template.jinja", b"{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}"),
    "template that refuses": write("chat_template.jinja", b"{{ raise_exception('no') }}"),
    "template that divides by zero": write("chat_template.jinja", b"{{ 1 // 0 }}"),
    "template that calls itself": write("chat_template.jinja", b"{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"),
    "template that fills memory": write("chat_template.jinja", b"{% for n in range(10 ** 9) %}x{% endfor %}"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "pickles": only_pickles,
    "weights empty": write("model.safetensors", b""),
    "weights cut": cut("model.safetensors", 0.7),
    "weights header cut": cut("model.safetensors", 0.001),
    "weights header beyond the file": write("model.safetensors", header(2**40)),
    "weights header no JSON": write("model.safetensors", header(4, b"nope")),
    "weights of nothing": write("model.safetensors", header(2)),
    "weights that overlap": write("model.safetensors", header(126, b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'.ljust(126) + bytes(12))),
    "a weight missing": without_a_weight,
    "a weight of another shape": of_another_shape,
    "index of missing files": write("model.safetensors.index.json", b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
    "index that leads outside": write("model.safetensors.index.json", b'{"weight_map": {"a": "../../../etc/passwd"}}'),
    "index no JSON": write("model.safetensors.index.json", b"{"),
    "index a list": write("model.safetensors.index.json", b"[]"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_model_folders(tmp_path, capsys, base, name):
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    MODELS[name](folder)

    def import_it():
        source = f"path:{folder}"
        prepare_tokenizer.prepare(source, folder, None, None, tmp_path / "tokenizer")
        make_contract(tmp_path / "tokenizer", "Be brief.")
        prepare_base.prepare(source, folder, None, tmp_path / "tokenizer", tmp_path / "out")

    refused(tmp_path, capsys, "model folder", import_it)


def test_code_that_comes_with_a_model_is_never_run_nor_passed_on(tmp_path, base):
    """A known architecture that also brings code of its own: the library's own class is used."""
    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    for name in ("modeling_evil", "tokenization_evil"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'hacked')!r}, 'w')\nclass Evil: pass\n")
    edit_json("config.json", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})(folder)
    edit_json("tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_evil.Evil", None]})(folder)
    prepare_tokenizer.prepare(f"path:{folder}", folder, None, None, tmp_path / "tokenizer")
    prepare_base.prepare(f"path:{folder}", folder, None, tmp_path / "tokenizer", tmp_path / "out")
    assert not (tmp_path / "hacked").exists()
    assert not list((tmp_path / "out").glob("*.py"))
    assert all("evil" not in file.read_text() for file in (tmp_path / "out").glob("*.json"))


# --- GGUFs


@pytest.fixture(scope="session")
def gguf(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    write_random_model(path)
    return path.read_bytes()


def put(content, place, form, value):
    packed = struct.pack(form, value)
    return content[:place] + packed + content[place + len(packed) :]


GGUFS = {
    "empty": lambda g: b"",
    "four bytes": lambda g: g[:4],
    "another magic": lambda g: b"GGML" + g[4:],
    "a zip": lambda g: b"PK\x03\x04" + g[4:],
    "version 0": lambda g: put(g, 4, "<I", 0),
    "version 999": lambda g: put(g, 4, "<I", 999),
    "other byte order": lambda g: put(g, 4, ">I", 3),
    "tensors beyond count": lambda g: put(g, 8, "<Q", 2**60),
    "keys beyond count": lambda g: put(g, 16, "<Q", 2**60),
    "key longer than the file": lambda g: put(g, 24, "<Q", 2**50),
    "no tensors": lambda g: put(g, 8, "<Q", 0),
    "text": lambda g: b"GGUF" + b"a text that goes on" * 50,
    "zeros": lambda g: bytes(len(g)),
    "no template": lambda g: g,
}


def use_gguf(path, tmp_path):
    """As the quantize rule uses one."""
    contract = ChatContract("Be brief.", "{{ messages }}", "<end>", 2, "<pad>", 0)
    require_contract(path, contract)
    quantize(path, "Q4_0", None, contract, tmp_path / "out")


@pytest.mark.parametrize("name", GGUFS)
def test_ggufs_by_hand(tmp_path, capsys, gguf, name):
    path = tmp_path / "model.gguf"
    path.write_bytes(GGUFS[name](gguf))
    assert "model.gguf" in refused(tmp_path, capsys, "GGUF", lambda: use_gguf(path, tmp_path))


@pytest.mark.parametrize("number", range(20))
def test_ggufs_cut_by_lot(tmp_path, capsys, gguf, number):
    lots = random.Random(SEED * 1000 + number)
    path = tmp_path / "model.gguf"
    end = lots.randrange(1, 3000) if number % 2 else lots.randrange(1, len(gguf))  # the header is short
    path.write_bytes(gguf[:end])
    assert "model.gguf" in refused(tmp_path, capsys, "GGUF", lambda: use_gguf(path, tmp_path))


# --- what all have in common


def test_an_error_that_nobody_foresaw_is_two_lines_and_its_traceback_is_kept(tmp_path, capsys, monkeypatch):
    def fail():
        raise KeyError("nobody thought of this")

    log = tmp_path / "logs" / "job.log"
    with pytest.raises(SystemExit), logging_to(log):
        fail()
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) == 2
    assert "This is a bug in Gradus" in text
    assert "Traceback" not in log.read_text()
    assert "nobody thought of this" in log.with_name("job.log.traceback").read_text()
    monkeypatch.setenv(TRACEBACK, "1")
    with pytest.raises(SystemExit), logging_to(log):
        fail()
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_at_least_a_hundred_were_refused(request):
    """Where all of this file ran."""
    mine = [item for item in request.session.items if item.path == request.path]
    if len(mine) > 200:
        assert len(COUNTED) >= 100
        assert set(COUNTED) == {"GGUF", "config", "dataset", "model folder"}

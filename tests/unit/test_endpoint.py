"""A model behind an API: llama-cpp-python's own server, and one that does everything wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from email.utils import formatdate

import openai._base_client
import pytest

from scripts.common.asking import find_cost, make_parameters
from scripts.common.endpoints import CACHE, check_endpoint, is_loopback
from scripts.common.errors import GradusError
from scripts.common.hashing import ROOT
from scripts.common.io import write_json, write_jsonl
from scripts.common.logs import logging_to
from scripts.common.prompts import conversations
from scripts.common.records import Record
from scripts.config.check import check_config
from scripts.config.reading import read_config
from scripts.evaluate.ask_endpoint import answer
from scripts.version.archive import kept_replies
from tests.api import Api, completion, status, well

KEY = "canary-8d2f61"
SETTINGS = {
    "model": "big",
    "key_env": None,
    "concurrency": 3,
    "timeout": 5,
    "retries": 0,
    "price": None,
    "max_tokens": None,
    "request": {},
}


def silence(handler, request):
    time.sleep(1)


def trickle(handler, request):
    """Send a byte well before each timeout, and never the whole."""
    handler.send(length=500)
    with suppress(OSError):
        for _ in range(30):
            handler.wfile.write(b" ")
            time.sleep(0.05)


def half(handler, request):
    handler.send(body=json.dumps(completion("x")).encode()[:20], length=500)
    handler.close_connection = True


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Api() as server:
        yield server


@pytest.fixture
def ask(server, contract):
    """Ask for rows q0, q1, …; `more` changes the settings."""

    def ask(rows=4, **more):
        records = [Record(f"q{n}", "a", "qa", id=f"{n:04}", source=f"rows.csv:{n}") for n in range(rows)]
        settings = {**SETTINGS, "url": server.url, **more}
        return answer(settings, records, conversations(contract, records), 16)

    return ask


def kept():
    return sorted(CACHE.glob("*.json"))


@pytest.fixture
def slept(monkeypatch):
    """How long the client waited before it tried again; nobody really waits."""
    waits = []

    async def sleep(seconds):
        waits.append(seconds)

    monkeypatch.setattr(openai._base_client.anyio, "sleep", sleep)
    return waits


def test_answers_are_in_the_order_of_the_rows_whichever_comes_first(server, ask):
    def late(handler, request):
        time.sleep(0.2)
        well(handler, request)

    server.plan = [late]
    rows, speed = ask(9)
    assert [row["text"] for row in rows] == [f"Q{n}" for n in range(9)]
    assert rows[0].pop("kept") in {path.name for path in kept()}
    assert rows[0] == {"id": "0000", "text": "Q0", "stopped": True, "prompt_tokens": 10, "tokens": 2}
    assert 1 < server.most <= SETTINGS["concurrency"]
    assert (speed["rows"], speed["prompt_tokens"], speed["tokens"], speed["cached"]) == (9, 90, 18, 0)
    assert speed["server"]["reported_models"] == ["big-2026"]


def test_every_request_is_greedy_and_says_what_the_contract_says(server, ask):
    ask(1, request={"seed": None, "top_k": 1})
    system, user = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "q0"}
    expected = {"model": "big", "messages": [system, user], "temperature": 0, "max_tokens": 16, "top_k": 1}
    assert server.requests == [expected]
    assert make_parameters({**SETTINGS, "max_tokens": 99}, 16) == {"temperature": 0, "seed": 0, "max_tokens": 99}


def test_a_rerun_asks_nothing_twice(server, ask):
    first, _ = ask(4)
    again, speed = ask(6)
    assert again[:4] == first
    assert (speed["cached"], speed["tokens_per_s"]) == (4, None)
    assert sorted(server.asked()) == ["q0", "q1", "q2", "q3", "q4", "q5"]
    ask(1, request={"top_k": 1})  # another request
    ask(1, model="other")
    assert len(server.requests) == 8


def test_the_archive_has_the_answers_of_this_run_alone(server, ask, tmp_path, capsys):
    """They may be paid for, and those of other runs are nobody's business."""
    ask(2, model="other")
    before = set(kept())
    rows, _ = ask()
    write_jsonl("test.answers.jsonl", rows)
    capsys.readouterr()
    packed = kept_replies(["test.answers.jsonl", "test.answers.jsonl"], [])
    assert len(packed) == 4 and set(packed) == set(kept()) - before
    assert capsys.readouterr().err == ""
    packed[0].unlink()
    write_json("asked.json", {"kept": [packed[1].name]})
    assert kept_replies([], ["asked.json"]) == packed[1:2]
    assert kept_replies(["test.answers.jsonl"], ["asked.json"]) == packed[1:]
    assert "1 of 4 answers of models behind an API are not in .work/endpoint" in capsys.readouterr().err


def test_the_same_conversation_is_asked_once(server, contract):
    records = [Record("q", response, "qa") for response in ("a", "b", "c")]
    rows, _ = answer({**SETTINGS, "url": server.url}, records, conversations(contract, records), 16)
    assert [row["text"] for row in rows] == ["Q", "Q", "Q"]
    assert server.asked() == ["q"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:40], lambda b: b.replace(b"Q0", b"Q1"), lambda b: b"[]", lambda b: b""]
)
def test_a_damaged_answer_is_asked_again_with_a_warning(server, ask, caplog, damage):
    first, _ = ask(1)
    (file,) = kept()
    file.write_bytes(damage(file.read_bytes()))
    assert ask(1)[0] == first
    assert len(server.requests) == 2
    assert f"{file}: damaged" in caplog.text


@pytest.mark.parametrize("signal_", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_ends_at_once_and_goes_on(server, ask, signal_):
    """It is killed with two answers, while it waits for the others."""
    stop = threading.Event()
    server.plan = [well, well, *[lambda handler, request: stop.wait(20)] * 2]
    code = f"""
from scripts.common.records import Record
from scripts.config.check import check_config
from scripts.config.reading import read_config
from scripts.evaluate.ask_endpoint import answer
records = [Record(f"q{{n}}", "a", "qa", id=f"{{n:04}}") for n in range(4)]
wanted = [[dict(role="system", content="Be brief."), dict(role="user", content=f"q{{n}}")] for n in range(4)]
answer({ {**SETTINGS, "url": server.url, "timeout": 20} }, records, wanted, 16)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 30
        while (len(kept()) < 2 or len(server.requests) < 4) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        process.send_signal(signal_)
        process.wait(60)
    finally:
        process.kill()
        stop.set()
    assert len(kept()) == 2
    rows, speed = ask(4)
    assert [row["text"] for row in rows] == ["Q0", "Q1", "Q2", "Q3"]
    assert speed["cached"] == 2
    assert len(server.requests) == 4 + 2


def test_a_busy_server_is_asked_again_when_it_says(server, ask, slept):
    server.plan = [status(429, Retry_After="7"), status(503, Retry_After=formatdate(time.time() + 60, usegmt=True))]
    rows, _ = ask(1, retries=2)
    assert rows[0]["text"] == "Q0"
    assert slept[0] == 7
    assert 55 < slept[1] <= 60


def test_other_faults_are_tried_again_after_longer_and_longer_waits(server, ask, slept):
    server.plan = [status(500), half, status(502), status(429)]
    rows, _ = ask(1, retries=4)
    assert rows[0]["text"] == "Q0"
    assert all(0.75 * wait <= waited <= wait for waited, wait in zip(slept, [0.5, 1, 2, 4], strict=True))


def page(kind):
    return lambda handler, request: handler.send(body=b"<!doctype html><p>Welcome</p>", kind=kind)


def body(value):
    return lambda handler, request: handler.send(body=value)


FAULTS = {
    "wrong key": (
        status(401, f"Incorrect API key {KEY}"),
        r"refuses access \(401 Unauthorized: 'Incorrect API key \*\*\*'\). Check the key in \$BIG_KEY",
    ),
    "no right": (status(403), r"refuses access \(403 Forbidden: 'no'\). Check the key in \$BIG_KEY"),
    "unknown model": (
        status(404, "no model big"),
        r"not found \(404 Not Found: 'no model big'\). Check endpoint.model, and endpoint.url",
    ),
    "a field that it does not take": (
        status(400, "unknown field seed"),
        r"'unknown field seed'\). .* endpoint.request: \{seed: null\}",
    ),
    "no money": (
        status(429, "You exceeded your quota"),
        r"cannot answer now \(429 Too Many Requests: 'You exceeded your quota'\)",
    ),
    "a long wait": (status(503, Retry_After="3600"), r"asks to wait \(3600\)"),
    "out of order": (status(500, "CUDA error"), r"500 Internal Server Error: 'CUDA error'"),
    "a long refusal": (status(403, "x" * 292 + KEY), r"refuses access \(403 Forbidden: 'x+\*\*\*'\)"),
    "a page as an error": (
        lambda h, r: h.send(502, b"<h1>Bad gateway</h1>", kind="text/html"),
        r"502 Bad Gateway: '<h1>Bad gateway</h1>'",
    ),
    "a page": (page("text/html"), r"not JSON \(an HTML page\): '<!doctype html><p>Welcome</p>'. Check endpoint.url"),
    "a page that says it is JSON": (page("application/json"), r"not JSON \(an HTML page\)"),
    "nothing": (body(b""), r"not JSON: ''"),
    "an error as an answer": (body({"error": {"message": "no provider"}}), r"no chat completion: .*no provider"),
    "no choices": (body(completion("x", choices=[])), r"no chat completion"),
    "a list": (body([1]), r"no chat completion"),
    "deep": (body(b"[" * 100_000), r"not JSON"),
    "half an answer": (
        half,
        r"no connection, or it broke \(peer closed connection without sending complete message body",
    ),
    "silence": (silence, r"no answer within 0.2 s, in 1 attempts. Raise endpoint.timeout"),
    "an answer that never ends": (trickle, r"no whole answer in 0.3 s"),
    "elsewhere": (lambda h, r: h.send(307, Location="http://127.0.0.1:9/v1"), r"redirects to 'http://127.0.0.1:9/v1'"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_goes_wrong_is_said_without_the_key_and_nothing_is_lost(server, ask, name, monkeypatch, capsys, tmp_path):
    fault, words = FAULTS[name]
    monkeypatch.setenv("BIG_KEY", KEY)
    monkeypatch.setattr("scripts.common.endpoint_client.LONGEST_WAIT", 0.1)
    server.plan = [well, fault]
    slow = fault in (silence, trickle)
    with pytest.raises(SystemExit), logging_to("logs/job.log"):
        ask(4, key_env="BIG_KEY", timeout=0.2 if slow else 5, concurrency=1)
    said = capsys.readouterr().err.partition("Gradus: ")[2]
    assert f"{server.url}, model 'big', row 0001 (rows.csv:1): " in said
    assert re.search(words, said), said
    assert "1 of 4 answers are kept; run again" in said
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert server.asked() == ["q0", "q1"], "after an error nothing more is asked"
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} == {".log", ".json"}  # no traceback
    assert all(KEY not in file.read_text() for file in files)
    assert KEY[:6] not in said
    assert [row["text"] for row in ask(4, key_env="BIG_KEY")[0]] == ["Q0", "Q1", "Q2", "Q3"]
    assert server.asked().count("q0") == 1


def test_answers_under_way_when_another_fails_are_kept(server, ask):
    def late(handler, request):
        time.sleep(0.2)
        well(handler, request)

    server.plan = [late, late, status(400)]
    with pytest.raises(GradusError, match="2 of 9 answers are kept"):
        ask(9)
    assert len(kept()) == 2


def test_no_server_at_all(server, ask):
    with pytest.raises(
        GradusError, match=r"no connection, or it broke \(All connection attempts failed\), in 1 attempts"
    ):
        ask(1, url="http://127.0.0.1:9/v1")


def test_an_answer_that_a_filter_refuses_is_an_empty_one(server, ask):
    refused = {"error": {"message": "filtered", "code": "content_filter"}}
    server.plan = [lambda handler, request: handler.send(400, refused)]
    rows, speed = ask(2, concurrency=1, price={"input": 1, "output": 1})
    assert [(row["text"], row["stopped"]) for row in rows] == [("", False), ("Q1", True)]
    assert (speed["tokens"], speed["cost"]) == (None, None)
    ask(2)
    assert len(server.requests) == 2


def test_a_server_that_reports_little(server, ask):
    cut = {"message": {"content": None}, "finish_reason": "length"}
    half_a_letter = {"message": {"content": "\ud83d"}, "finish_reason": "stop"}
    server.plan = [body({"choices": [cut]}), body({"choices": [half_a_letter], "usage": None})]
    rows, speed = ask(2, concurrency=1, price={"input": 1, "output": 1})
    assert (rows[0]["text"], rows[0]["stopped"]) == ("", False)
    assert (rows[0]["prompt_tokens"], rows[0]["tokens"]) == (None, None)
    assert rows[1]["text"] == "?"
    assert (speed["tokens"], speed["tokens_per_s"], speed["cost"]) == (None, None, None)
    assert speed["server"]["reported_models"] == []


def test_cost_is_that_of_all_answers_whenever_they_were_asked(server, ask):
    price = {"input": 0.15, "output": 0.6}
    assert ask(4, price=price)[1]["cost"] == ask(4, price=price)[1]["cost"] == 0.000011
    assert find_cost([{"prompt_tokens": 10**6, "tokens": 10**6}], price) == 0.75
    assert ask(4)[1]["cost"] is None


def test_without_a_key_that_of_another_host_is_not_sent(server, ask, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    ask(1)
    assert KEY not in str(server.headers[0])


@pytest.mark.parametrize(
    ("value", "words"), [(None, "not set"), (" ", "not set"), ("a b", "not a key"), (f"{KEY}é", "not a key")]
)
def test_a_key_that_is_none_is_said_before_anything_is_asked(server, ask, monkeypatch, value, words):
    monkeypatch.delenv("BIG_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("BIG_KEY", value)
    with pytest.raises(GradusError, match=rf"\$BIG_KEY.*{words}") as caught:
        ask(1, key_env="BIG_KEY")
    assert KEY not in str(caught.value)
    assert not server.requests


def test_a_proxy_is_for_other_machines_only(server, ask, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    ask(1, url="http://model.example/v1")
    ask(1)
    assert server.paths == ["http://model.example/v1/chat/completions", "/v1/chat/completions"]
    assert is_loopback("http://[::1]:8080/v1") and not is_loopback("https://127.0.0.1.example/v1")


URLS = {
    "ftp://host/v1": "only http and https",
    "file:///etc/passwd": "only http and https",
    "host/v1": "only http and https",
    "https:///v1": "only http and https",
    "https://host/v1 ": "only http and https",
    "https://host:99999/v1": "not an address",
    "https://[::1/v1": "not an address",
    f"https://me:{KEY}@host/v1": "holds a user or a password",
    f"https://host/v1?api-key={KEY}": "ends in",
    "https://host/v1/chat/completions": "before /chat/completions",
}


@pytest.mark.parametrize("url", URLS)
def test_addresses_that_cannot_be_or_hold_a_secret_are_refused(url):
    ((path, wrong),) = check_endpoint({"endpoint": {**SETTINGS, "url": url}})
    assert path == ["endpoint", "url"]
    assert URLS[url] in wrong
    assert KEY not in wrong


def test_a_key_in_the_config_is_refused_and_not_repeated():
    for key in ("sk-proj-abc123", "gsk_aBc123", "my key"):
        ((path, wrong),) = check_endpoint({"endpoint": {**SETTINGS, "url": "https://host/v1", "key_env": key}})
        assert path == ["endpoint", "key_env"]
        assert key not in wrong
    good = {**SETTINGS, "url": "http://127.0.0.1:8080/v1", "key_env": "OPENAI_API_KEY"}
    assert not list(check_endpoint({"endpoint": good}))
    assert not list(check_endpoint({}))
    ((path, _),) = check_endpoint({"endpoint": {**good, "request": {"stream": True, "top_k": 1}}})
    assert path == ["endpoint", "request", "stream"]


CONFIG = """\
run: own
base_model: {source: "path:base"}
data: {files: [rows.jsonl]}
models:
  tuned: {trained: {arm: curriculum, seed: 1}}
  big:
    endpoint:
      url: https://host/v1
      model: big
"""


def checked(folder, text):
    file = folder / "own.yaml"
    file.write_text(text)
    return check_config(read_config(file), [file])["models"]["big"]["endpoint"]


def test_the_config_gives_an_endpoint_its_defaults_and_faults_their_line(tmp_path):
    found = checked(tmp_path, CONFIG)
    assert set(found) == {*SETTINGS, "url"}
    assert (found["concurrency"], found["timeout"], found["retries"], found["key_env"]) == (4, 60, 5, None)
    for line, words in {
        "key: sk-abc": "endpoint.key: no such key; did you mean key_env?",
        "key_env: sk-abc": "own.yaml:10: models.big.endpoint.key_env: not the name of an environment variable",
        "price: {input: 1}": "own.yaml:10: models.big.endpoint.price.output: required",
        "request: {n: 2}": "own.yaml:10: models.big.endpoint.request.n: Gradus sets this field itself",
        "concurrency: 0": "own.yaml:10: models.big.endpoint.concurrency: 0 is less than",
    }.items():
        with pytest.raises(GradusError) as caught:
            checked(tmp_path, f"{CONFIG}      {line}\n")
        assert words in str(caught.value)
        assert "sk-abc" not in str(caught.value)


def test_llama_cpp_s_own_server(tmp_path, monkeypatch, contract, random_gguf):
    """The whole way, with a model of random weights: the same answers again from what is kept, without the server."""
    from scripts.fidelity.check_serving import serving

    monkeypatch.chdir(tmp_path)
    records = [Record(f"Say {n}.", "a", "qa") for n in range(3)]
    wanted = conversations(contract, records)
    with serving(random_gguf, 256, 1) as client:
        settings = {
            **SETTINGS,
            "url": str(client.base_url).rstrip("/"),
            "request": {"repeat_penalty": 1.0},
            "timeout": 60,
        }
        rows, speed = answer(settings, records, wanted, 8)
    assert [row["id"] for row in rows] == [record.id for record in records]
    assert all(row["stopped"] == (row["tokens"] < 8) for row in rows)
    prompt = contract.template.render(wanted[0])
    assert rows[0]["prompt_tokens"] == len(re.findall(r"<\|im_(?:start|end)\|>|.", prompt, re.DOTALL)), "as in training"
    assert speed["server"]["reported_models"] == ["big"]
    again, speed = answer(settings, records, wanted, 8)
    assert (again, speed["cached"]) == (rows, 3)

"""A model on its way into Ollama. Ollama cannot be installed here: a stand-in answers as its server does."""

import http.server
import json
import socket
import threading

import pytest

from scripts.common.chat import ChatContract
from scripts.common.errors import GradusError
from scripts.common.records import Record
from scripts.export.deploy import deploy, server, summary
from scripts.fidelity.check_serving import free_port

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTRACT = ChatContract("Be brief.", CHATML, "<|im_end|>", 2, "<|endoftext|>", 0)
TURNS = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}]
ASKED = [(Record("hi", "ho", "qa"), "answer to hi"), (Record("he", "hu", "qa", context=TURNS), "another answer")]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", "http://127.0.0.1:11434"),
        ("1.2.3.4", "http://1.2.3.4:11434"),
        ("example.com:1234", "http://example.com:1234"),
        (":1234", "http://127.0.0.1:1234"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:99", "http://127.0.0.1:99"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:1337", "http://[::1]:1337"),
        ("[::]", "http://[::1]:11434"),
        ("[::]:80", "http://[::1]:80"),
        (' " 1.2.3.4 " ', "http://1.2.3.4:11434"),
        ("'1.2.3.4:5'", "http://1.2.3.4:5"),
        ("1.2.3.4:66000", "http://1.2.3.4:11434"),
        ("1.2.3.4:-1", "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"),
        ("http://1.2.3.4:4321/", "http://1.2.3.4:4321"),
        ("https://example.com", "https://example.com:443"),
        ("https://example.com/ollama", "https://example.com:443/ollama"),
    ],
)
def test_ollama_host_means_what_it_means_to_ollama(monkeypatch, value, expected):
    """As in the test of `Host` in Ollama's envconfig package; addresses that mean all interfaces are asked at loopback."""
    monkeypatch.setenv("OLLAMA_HOST", value)
    assert server() == expected


def test_deploying_without_ollama_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{free_port()}")
    with pytest.raises(
        GradusError, match=r"no Ollama answers at http://127.0.0.1:\d+ .*ollama create tiny -f Modelfile"
    ):
        deploy(tmp_path, "tiny", CONTRACT, [], "")


def test_what_is_no_address_or_no_ollama_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("OLLAMA_HOST", "my host")
    with pytest.raises(GradusError, match="no Ollama answers at"):
        deploy(tmp_path, "tiny", CONTRACT, [], "")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{listening.getsockname()[1]}")
        threading.Thread(target=lambda: listening.accept()[0].sendall(b"SSH-2.0-other\r\n"), daemon=True).start()
        with pytest.raises(GradusError, match="no Ollama answers at"):
            deploy(tmp_path, "tiny", CONTRACT, [], "")


@pytest.fixture
def ollama(monkeypatch, tmp_path):
    """A stand-in for Ollama's server; `template`: what it renders prompts with, None for a version that cannot."""

    class Stand(http.server.BaseHTTPRequestHandler):
        def answer(self):
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}")
            self.server.asked.append((self.path, asked))
            messages = asked.get("messages", [])
            if messages and messages[0]["role"] != "system":
                messages = [{"role": "system", "content": CONTRACT.system_prompt}, *messages]
            body = {"version": "0.33.0", "template": "T", "parameters": "stop x"}
            if asked.get("_debug_render_only") and self.server.template:
                text = ChatContract("", self.server.template, "", 0, "", 0).template.render(messages)
                body = {"model": asked["model"], "_debug_info": {"rendered_template": text}}
            elif messages:
                body = {"message": {"role": "assistant", "content": f"answer to {messages[-1]['content']}"}}
            self.send_response(500 if self.server.broken and messages else 200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    program = tmp_path / "bin/ollama"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\necho "$PWD $@" > ../said\ntest "$2" != refused || { echo "no space" >&2; exit 1; }\n'
    )
    program.chmod(0o755)
    (tmp_path / "a folder").mkdir()
    stand = http.server.HTTPServer(("127.0.0.1", 0), Stand)
    stand.template, stand.broken, stand.asked, stand.folder = CHATML, False, [], tmp_path / "a folder"
    threading.Thread(target=stand.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("OLLAMA_HOST", f"127.0.0.1:{stand.server_port}")
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
    yield stand
    stand.shutdown()


def test_the_model_is_created_in_the_folder_and_its_prompts_and_answers_are_compared(ollama):
    found = deploy(ollama.folder, "tiny", CONTRACT, ASKED, "")
    assert (ollama.folder.parent / "said").read_text().strip() == f"{ollama.folder} create tiny -f Modelfile"
    assert (found["version"], found["template"], found["parameters"]) == ("0.33.0", "T", "stop x")
    assert (found["asked"], found["same_prompts"], found["same_answers"]) == (2, 2, 1)
    assert found["differing"] == [{"id": ASKED[1][0].id, "ollama": "answer to he", "evaluated": "another answer"}]
    assert (
        summary("tiny", found) == "Ollama has tiny: 2 of 2 prompts as in training; 1 of 2 answers as in the evaluation"
    )
    chats = [asked for path, asked in ollama.asked if path == "/api/chat"]
    assert [message["role"] for message in chats[0]["messages"]] == ["user"], "the Modelfile's system prompt is tested"
    assert "options" not in chats[-1], "the Modelfile's parameters are tested"


def test_another_prompt_than_in_training_is_an_error_that_shows_both(ollama):
    ollama.template = CHATML.replace("m.content", "m.content + ' '")
    with pytest.raises(GradusError, match="asks it differently from training") as error:
        deploy(ollama.folder, "tiny", CONTRACT, ASKED, "")
    assert "Be brief. <|im_end|>" in str(error.value)
    assert "Be brief.<|im_end|>" in str(error.value)


def test_a_bos_that_llama_cpp_adds_itself_is_no_difference(ollama):
    with_bos = ChatContract("Be brief.", "{{ bos_token }}" + CHATML, "<|im_end|>", 2, "<|endoftext|>", 0, "<s>")
    assert deploy(ollama.folder, "tiny", with_bos, ASKED, "<s>")["same_prompts"] == 2
    with pytest.raises(GradusError, match="asks it differently"):
        deploy(ollama.folder, "tiny", with_bos, ASKED, "")


def test_a_version_that_cannot_only_render_is_told_and_answers_are_compared_all_the_same(ollama):
    ollama.template = None
    found = deploy(ollama.folder, "tiny", CONTRACT, ASKED, "")
    assert (found["same_prompts"], found["same_answers"]) == (None, 1)
    assert "prompts were not compared, because 0.33.0 cannot" in summary("tiny", found)


def test_what_ollama_refuses_is_an_error_with_its_words(ollama, monkeypatch):
    with pytest.raises(GradusError, match=r"ollama create failed: no space.*update Ollama \(this is 0.33.0\)"):
        deploy(ollama.folder, "refused", CONTRACT, ASKED, "")
    ollama.broken = True
    with pytest.raises(GradusError, match=r"Ollama has the model tiny, but /api/chat fails .*500"):
        deploy(ollama.folder, "tiny", CONTRACT, ASKED, "")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(GradusError, match="its command `ollama` is not on this machine"):
        deploy(ollama.folder, "tiny", CONTRACT, ASKED, "")

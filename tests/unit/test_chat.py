"""One chat contract, the same text from every renderer, a Modelfile that keeps it."""

import json

import pytest

from scripts.common.chat import ChatContract, read_contract, write_contract
from scripts.common.errors import GradusError
from scripts.export.ollama import find_wrappers, go_template, modelfile, render

CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONTRACT = ChatContract("Be brief.", CHATML, "<|im_end|>", 2, "<|endoftext|>", 0)


def test_a_contract_survives_the_file_and_an_edited_one_does_not(tmp_path):
    file = tmp_path / "contract.json"
    write_contract(file, CONTRACT)
    assert read_contract(file) == CONTRACT
    fields = json.loads(file.read_text())
    file.write_text(json.dumps({**fields, "system_prompt": "Be long."}))
    with pytest.raises(GradusError, match="edited by hand"):
        read_contract(file)


def test_another_template_or_end_of_turn_stops():
    CONTRACT.require("model.gguf", CHATML, 2)
    with pytest.raises(GradusError, match="chat template is not the chat contract's"):
        CONTRACT.require("model.gguf", CHATML + " ", 2)
    with pytest.raises(GradusError, match="end-of-turn"):
        CONTRACT.require("model.gguf", CHATML, 0)


def test_the_modelfile_has_template_system_and_stop():
    text = modelfile(CONTRACT, "model.gguf", 512)
    assert text.startswith("FROM ./model.gguf\n")
    assert 'SYSTEM """Be brief."""' in text
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert "PARAMETER num_ctx 512" in text
    assert (
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        "{{ end }}{{ end }}<|im_start|>assistant\n" in text
    )


def test_braces_in_a_template_are_kept_from_go():
    wrappers = {"system": ("{{s}}", ""), "user": ("", ""), "assistant": ("", ""), "answer": ("", "")}
    assert '{{ "{{" }}s}}' in go_template(wrappers)


@pytest.mark.parametrize("prompt", ['say """hi"""', 'ends with "quote"'])
def test_a_system_prompt_that_no_modelfile_can_hold_is_refused(prompt):
    with pytest.raises(GradusError, match="Modelfile"):
        modelfile(ChatContract(prompt, CHATML, "<|im_end|>", 2, "x", 0), "m.gguf", 512)


def test_a_template_that_does_more_than_wrap_is_refused():
    strange = CHATML.replace("message['content']", "message['content'] | upper")
    with pytest.raises(GradusError, match="Ollama cannot follow"):
        find_wrappers(strange)
    last_only = "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}"
    with pytest.raises(GradusError, match="later turns"):
        find_wrappers(last_only)


def test_templates_run_in_a_sandbox():
    from jinja2.exceptions import SecurityError

    with pytest.raises(SecurityError):
        render("{{ messages.__class__.__mro__ }}", [], False)

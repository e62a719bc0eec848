"""One chat contract, the same text from every renderer, a Modelfile that keeps it."""

import dataclasses
import json
import shutil

import pytest
from transformers import AutoTokenizer

from scripts.common.chat import ChatContract, read_contract, write_contract
from scripts.common.errors import GradusError
from scripts.common.modelfile_parser import read_modelfile
from scripts.common.template import ChatTemplate
from scripts.data.chat_contract import make_contract
from scripts.export.go_template import Wrappers, find_wrappers, go_template
from scripts.export.modelfile import modelfile
from scripts.fidelity.check_template import NO_GO, by_go, check_template
from scripts.train.prepare_tokenizer import prepare

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
    with pytest.raises(GradusError, match="chat template differs from the chat contract"):
        CONTRACT.require("model.gguf", CHATML + " ", 2)
    with pytest.raises(GradusError, match="end-of-turn"):
        CONTRACT.require("model.gguf", CHATML, 0)


OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nI am a model<|im_end|>\n' }}{% endif %}" + CHATML
)
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|h|>' + m['role'] + '<|/h|>\n\n' + m['content'] | trim + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|h|>assistant<|/h|>\n\n' }}{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system prompt') }}{% endif %}"
    "{{ '<t>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<t>model\n' }}{% endif %}"
)

TOOLS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}"
    "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nI am a model<|im_end|>\n' }}{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}"
    "{{ '<|im_start|>user\n<result>\n' + m.content + '\n</result><|im_end|>\n' }}"
    "{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def contract_of(template, system="Be brief.", bos=""):
    return ChatContract(system, template, "<|im_end|>", 2, "<|endoftext|>", 0, bos)


def test_the_modelfile_has_template_system_stop_context_and_licence():
    text = modelfile(CONTRACT, "", 512, 64, "Apache-2.0")
    assert text.startswith("FROM ./model.gguf\n")
    assert 'SYSTEM """Be brief."""' in text
    assert 'PARAMETER stop """<|im_end|>"""' in text
    assert 'LICENSE """Apache-2.0"""' in text
    assert (
        '"""{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"""'
        in text
    )


def test_ollama_never_cuts_a_prompt_that_fits_2048_tokens_and_ends_answers_as_the_evaluation_does():
    for trained, expected in ((512, 2048), (2048, 2048), (4096, 4096)):
        read = dict(read_modelfile(modelfile(CONTRACT, "", trained, 64, "x")))
        assert (read["parameter num_ctx"], read["parameter num_predict"]) == (str(expected), "64")


@pytest.mark.parametrize(
    "words", ["{% if tools %}{% endif %}", "{# tool_calls #}", "{# <think> #}", "{# enable_thinking #}"]
)
def test_a_base_whose_own_template_ollama_would_prefer_names_a_parser(words):
    """Ollama looks for these words in the GGUF's template and then ignores TEMPLATE."""
    assert dict(read_modelfile(modelfile(contract_of(words + CHATML), "", 512, 64, "x")))["parser"] == "passthrough"
    assert "PARSER" not in modelfile(contract_of(CHATML), "", 512, 64, "x")  # versions before 0.12 do not know it


def test_each_role_has_its_branch_where_a_template_does_not_write_the_roles_own_name():
    template = go_template(find_wrappers(contract_of(TOOLS), ""))
    assert template == (
        '{{ if ne (index .Messages 0).Role "system" }}<|im_start|>system\nI am a model<|im_end|>\n{{ end }}'
        '{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "tool" }}<|im_start|>user\n<result>\n{{ .Content }}\n</result><|im_end|>\n'
        "{{ end }}{{ end }}<|im_start|>assistant\n"
    )
    refuses = CHATML.replace("{% endfor %}", "{% if message.role == 'tool' %}{{ 1 / 0 }}{% endif %}{% endfor %}")
    assert '"tool"' not in go_template(find_wrappers(contract_of(refuses), ""))


def test_braces_in_a_template_are_kept_from_go():
    wrappers = Wrappers({"system": ("{{s}}", ""), "user": ("", ""), "assistant": ("", "")}, "", "")
    assert '{{ "{{" }}s}}' in go_template(wrappers)
    named = Wrappers({"user": ("{{user{{", "{{")}, "", "", ("{{", "{{"))
    assert go_template(named).count('{{ "{{" }}') == 3


@pytest.mark.parametrize(
    "prompt",
    [
        'say """hi"""',
        'ends with "quote"',
        '"',
        "{{ .Prompt }} {{ end }}",
        "a\n\nb\tc",
        "$(id) `id` \\n %s",
        "Grüße 漢字 ☃",
    ],
)
def test_a_system_prompt_comes_out_of_the_modelfile_as_it_went_in(prompt):
    read = dict(read_modelfile(modelfile(contract_of(CHATML, prompt), "", 512, 64, "x")))
    assert read["system"] == prompt
    assert read["parameter stop"] == "<|im_end|>"
    assert read["license"] == "x"


@pytest.mark.parametrize("prompt", ['three """\nthen more', "no\u00a0break", "👨\u200d👩", "bell\x07"])
def test_a_system_prompt_that_ollama_would_change_is_refused(prompt):
    with pytest.raises(GradusError, match="Modelfile cannot hold"):
        modelfile(contract_of(CHATML, prompt), "", 512, 64, "x")


def test_a_template_that_does_more_than_wrap_is_refused():
    strange = CHATML.replace("message['content']", "message['content'] | upper")
    with pytest.raises(GradusError, match="Ollama cannot follow"):
        find_wrappers(contract_of(strange), "")
    last_only = "{% for m in messages %}{{ loop.index }}{{ m.content }}{% endfor %}"
    with pytest.raises(GradusError, match="Ollama cannot follow"):
        find_wrappers(contract_of(last_only), "")


@pytest.mark.parametrize(
    ("template", "system", "bos"),
    [
        (CHATML, "Be brief.", ""),
        (OWN_SYSTEM, "", ""),
        (OWN_SYSTEM, 'Say "{{ x }}"', ""),
        (HEADERS, "Be.", "<|begin|>"),
        (NO_SYSTEM, "", ""),
        (TOOLS, "Be brief.", ""),
    ],
    ids=["chatml", "own-system-prompt", "quotes-and-braces", "bos-and-trimming", "no-system-role", "tools"],
)
def test_go_renders_every_conversation_as_transformers_does(base, tmp_path, template, system, bos):
    """By Go's own text/template; a base with a prompt of its own, one with BOS, one that strips blanks, one without system."""
    if not shutil.which("go"):
        pytest.skip(NO_GO)
    from transformers import AutoTokenizer

    contract = contract_of(template, system, bos)
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.bos_token = bos or None
    text = modelfile(contract, bos, 512, 64, "x")
    facts = check_template(tokenizer, template, bos, text, contract, [], tmp_path)
    assert set(facts["values"].values()) == {0}, facts["differing"]
    assert facts["go_conversations"] >= 10
    # nor do an empty or late system message, a tool's answer, or an answer as the last turn make a difference
    assert facts["unusual"] == {"conversations": 3 if template == NO_SYSTEM else 5, "differing": []}
    # and it notices a template that writes something else
    wrong = text.replace("{{ .Content }}", "{{ .Content }} ", 1)
    facts = check_template(tokenizer, template, bos, wrong, contract, [], tmp_path)
    assert facts["values"]["template.ollama_differs"] > 0
    if template == NO_SYSTEM:
        return
    other = dataclasses.replace(contract, system_prompt="Another.")
    assert check_template(tokenizer, template, bos, text, other, [], tmp_path)["values"]["template.system_differs"] == 1


def test_messages_of_one_role_are_merged_as_ollama_merges_them(tmp_path):
    if not shutil.which("go"):
        pytest.skip(NO_GO)
    talk = [{"role": role, "content": role[0]} for role in ("user", "user", "tool", "tool", "assistant", "assistant")]
    rendered = by_go("{{ range .Messages }}[{{ .Content }}]{{ end }}", [talk], tmp_path)
    assert rendered == ["[u\n\nu][t][t][a\n\na]"]


def test_a_template_that_go_cannot_read_is_an_error(tmp_path):
    if not shutil.which("go"):
        pytest.skip(NO_GO)
    with pytest.raises(GradusError, match="Go cannot render"):
        by_go("{{ range .Messages }}", [], tmp_path)


ATTACKS = [
    "{{ messages.__class__.__mro__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.popen('touch %s').read() }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('%s', 'w') }}",
    "{{ messages.append('x') }}",
    "{% for x in range(999999999) %}{% endfor %}",
    "{% include '/etc/passwd' %}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_templates_run_in_a_sandbox(attack, tmp_path):
    """Training, counting, evaluation and Modelfile render by the same function; transformers and llama.cpp have sandboxes, too."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    target = tmp_path / "reached"
    template = attack.replace("%s", str(target))
    talk = [{"role": "user", "content": "x"}]
    with pytest.raises(GradusError, match="chat template"):
        ChatTemplate(template).render(talk)
    with pytest.raises(Exception):  # noqa: B017 (whatever its sandbox raises)
        Jinja2ChatFormatter(template=template, eos_token="", bos_token="")(messages=talk)
    assert not target.exists()
    assert talk == [{"role": "user", "content": "x"}]


CLOCK = (
    "{%- if not date is defined %}\n    {%- if strftime_now is defined %}\n        {%- set date = strftime_now('%d %b %Y') %}\n"
    "    {%- else %}\n        {%- set date = '1 Jan 2000' %}\n    {%- endif %}\n{%- endif %}\n"
    "{{- '<|im_start|>system\\nToday: ' + date + '\\n\\n' }}\n"
    "{%- if messages[0]['role'] == 'system' %}\n    {{- messages[0]['content'] | trim }}\n"
    "    {%- set messages = messages[1:] %}\n{%- endif %}\n{{- '<|im_end|>\\n' }}"
)


def test_a_template_with_a_clock_writes_a_fixed_date_everywhere(base, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").write_text(CLOCK + CHATML)
    out = tmp_path / "tokenizer"
    prepare(f"path:{tmp_path}/base", tmp_path / "base", None, None, out)
    with pytest.raises(GradusError, match="today's date.* set chat.date"):
        make_contract(out, "Be brief.")
    shutil.rmtree(out)
    prepare(f"path:{tmp_path}/base", tmp_path / "base", None, None, out, "26 Jul 2024")
    contract = make_contract(out, "Be brief.")
    asked = contract.messages("Hi")
    start = "<|im_start|>system\nToday: 26 Jul 2024\n\nBe brief.<|im_end|>\n"
    expected = start + "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert contract.template.render(asked) == expected
    theirs = AutoTokenizer.from_pretrained(out).apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert theirs == expected, "transformers has a clock, which vLLM uses, too"
    assert find_wrappers(contract, "").around["system"] == (
        "<|im_start|>system\nToday: 26 Jul 2024\n\n",
        "<|im_end|>\n",
    )


@pytest.mark.parametrize(
    ("template", "system", "message"),
    [
        (NO_SYSTEM, "Be brief.", "no system prompt; if the base supports no system prompt, set chat.system_prompt: ''"),
        ("{{ strftime_now('%d') }}" + CHATML, "", "today's date"),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}",
            "Be.",
            "omits the system message",
        ),
        ("{% for m in messages %}", "", "not a valid Jinja template"),
        ("{{ messages.__class__.__mro__ }}", "", "unsafe"),
        ("{{ 1 / 0 }}", "", "division by zero"),
    ],
)
def test_a_template_that_fails_ends_the_run_before_anything_else(base, tmp_path, template, system, message):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").write_text(template)
    with pytest.raises(GradusError, match=message.split("(")[0].replace("?", ".")):
        make_contract(tmp_path / "base", system)

"""The folder for Ollama."""

import json
import re

from scripts.export.ollama import OWN_ORDER, SCHEMA, describe, make_folder, request, schema_of

ABOUT = {"run": "my-run", "description": "What it does.", "fidelity": "results/my-run/fidelity.json"}
MODELFILE = "FROM ./model.gguf\nPARAMETER num_ctx 2048\nPARAMETER num_predict 64\n"
SAID = "The tuned model is no better than a linear model."


def test_a_schema_comes_along_as_a_request_that_keeps_the_order_of_its_keys(tmp_path):
    for name in ("model.gguf", "Modelfile"):
        (tmp_path / name).write_text(name)
    keys = {"zip": {"type": "string"}, "city": {"type": "string"}}
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "properties": keys}))
    schema = schema_of(str(tmp_path / "schema.json"), "schema")
    assert schema_of(str(tmp_path / "schema.json"), "row") is None  # a grammar would force an order it never learned
    assert schema_of(None, "schema") is None
    make_folder(tmp_path / "model.gguf", tmp_path / "Modelfile", "text", tmp_path / "out", request("my-run", schema))
    sent = json.loads((tmp_path / "out" / "request.json").read_text())
    assert (sent["model"], sent["stream"]) == ("my-run", False)
    assert list(sent["format"]["properties"]) == ["zip", "city"]
    make_folder(tmp_path / "model.gguf", tmp_path / "Modelfile", "text", tmp_path / "plain")
    assert not (tmp_path / "plain" / "request.json").exists()


def test_the_readme_has_the_modelfiles_limits_and_requests_that_ollama_reads():
    text = describe(ABOUT, MODELFILE, SAID)
    assert SAID in text
    assert "a context of 2048 tokens" in text
    assert "answers of at most 64 tokens" in text
    assert "ollama run --nowordwrap my-run" in text  # otherwise escape codes come through a pipe
    plain, openai = (json.loads(body) for body in re.findall(r"-d '(.*)'", text))
    assert (plain["model"], plain["stream"]) == ("my-run", False)
    assert openai["temperature"] == 0  # Ollama's /v1 ignores the Modelfile's
    assert "counts the answers that are the" in " ".join(text.split())
    assert "request.json" not in text
    assert text.index("write your request in place of `…`") < text.index("## From a script")
    assert "request.json" in describe(ABOUT, MODELFILE, SAID, SCHEMA)
    assert "key_order: row" in describe(ABOUT, MODELFILE, SAID, OWN_ORDER)


def test_the_readme_says_which_version_a_parser_needs():
    assert "Ollama 0.12 or newer is needed" in describe(ABOUT, f"{MODELFILE}PARSER passthrough\n", SAID)
    assert "0.12" not in describe(ABOUT, MODELFILE, SAID)

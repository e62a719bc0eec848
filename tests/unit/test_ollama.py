"""The folder for Ollama."""

import json

from scripts.common.strict_json import read_schema
from scripts.export.ollama import make_folder, request


def test_a_schema_comes_along_as_a_request_that_keeps_the_order_of_its_keys(tmp_path):
    for name in ("model.gguf", "Modelfile"):
        (tmp_path / name).write_text(name)
    keys = {"zip": {"type": "string"}, "city": {"type": "string"}}
    (tmp_path / "schema.json").write_text(json.dumps({"type": "object", "properties": keys}))
    schema = read_schema(tmp_path / "schema.json")
    make_folder(tmp_path / "model.gguf", tmp_path / "Modelfile", "text", tmp_path / "out", request("my-run", schema))
    sent = json.loads((tmp_path / "out" / "request.json").read_text())
    assert (sent["model"], sent["stream"]) == ("my-run", False)
    assert list(sent["format"]["properties"]) == ["zip", "city"]
    make_folder(tmp_path / "model.gguf", tmp_path / "Modelfile", "text", tmp_path / "plain")
    assert not (tmp_path / "plain" / "request.json").exists()

"""What a GGUF says of itself, read without its vocabulary."""

import gguf
import numpy as np
import pytest

from scripts.common.errors import GradusError
from scripts.common.gguf_info import LONG, metadata, open_gguf


@pytest.fixture
def path(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_tags(["one", "two"])
    writer.add_token_list([f"token {n}" for n in range(LONG)])
    writer.add_token_types([1] * LONG)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("w.weight", np.arange(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf"


def test_all_but_the_vocabulary_is_what_the_library_reads(path):
    quick, whole = open_gguf(path), open_gguf(path, whole=True)
    assert metadata(quick) == metadata(whole)
    assert metadata(quick)["general.tags"] == ["one", "two"]
    assert metadata(quick)["tokenizer.chat_template"] == "{{ messages }}"
    assert [t.data.tolist() for t in quick.tensors] == [list(range(64))]
    assert len(whole.fields["tokenizer.ggml.tokens"].contents()) == LONG


def test_a_file_cut_short_in_its_vocabulary_is_refused(path):
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(GradusError, match="not a complete GGUF"):
        open_gguf(path)

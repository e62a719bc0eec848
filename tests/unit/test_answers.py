"""What every rule that lets a model answer has in common."""

import subprocess
import sys

from scripts.common.answers import Answer, make_rows, make_speed, sample
from scripts.common.records import Record


def test_every_model_is_asked_the_same_rows_in_the_same_order():
    """The report lays the models' answers side by side by their place in the file."""
    records = [Record(f"q{n}", "a", "qa") for n in range(20)]
    asked = sample(records, 5)
    assert asked == sample(records[::-1], 5) and len(asked) == 5
    rows = make_rows(asked, [Answer("a", True, 0, 0)] * 5)
    assert [row["id"] for row in rows] == sorted(record.id for record in records)[:5]
    assert make_speed(rows, 0)["tokens_per_s"] is None


def test_a_model_without_a_gguf_needs_no_llama_cpp():
    code = "import sys, scripts.common.answers; sys.exit('llama_cpp' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

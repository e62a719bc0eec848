"""Packages that an import does without."""

import importlib
import subprocess
import sys

import pytest

from scripts.common.hashing import ROOT
from scripts.common.hidden import hidden


def test_a_hidden_module_is_not_installed_within_the_block_and_is_after_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    with hidden("wave", "json"):
        assert importlib.util.find_spec("wave") is None
        with pytest.raises(ImportError):
            import wave
        import json  # was imported before
    assert importlib.util.find_spec("wave")
    import wave  # noqa: F811

    assert json and wave.open


# what takes seconds and what each of these does without
SLOW = {
    "from scripts.data.mask import Masker; Masker(['PHONE_NUMBER'], True, [])": {"torch", "transformers"},
    "import scripts.common.validation": {"rfc3987_syntax"},
}


@pytest.mark.parametrize("code", SLOW)
def test_what_is_slow_to_import_is_left_out(code):
    listed = f"{code}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", listed], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not SLOW[code] & set(done.stdout.split())

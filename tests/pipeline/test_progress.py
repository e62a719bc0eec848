"""What a run of the real pipeline prints: a pipe gets a few plain lines, a terminal the stages."""

import html
import json
import os
import pty
import re
import subprocess
import sys

AUDIT = ("results/tiny/data/audit.json", "--forcerun", "audit")


def on_a_terminal(project, *arguments):
    """Run snakemake on a terminal; return (exit code, everything that it wrote there)."""
    main, side = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"}
    command = project.command(*arguments)
    process = subprocess.Popen(command, cwd=project.folder, stdin=side, stdout=side, stderr=side, env=environment)
    os.close(side)
    pieces = []
    while True:
        try:
            pieces.append(os.read(main, 10000))
        except OSError:  # the other end is closed
            break
    os.close(main)
    return process.wait(), b"".join(pieces).decode()


def test_without_a_terminal_the_output_is_short_and_plain(project):
    code, text = project.snakemake(*AUDIT)
    assert code == 0, text
    assert len(re.findall(r"^\[\d\d:\d\d:\d\d\] data: Auditing the dataset$", text, re.MULTILINE)) == 1
    assert len(text.splitlines()) <= 6, text
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text), "no control codes, no redrawn bars"
    assert "Open:" not in text, "not the whole run"


def test_a_terminal_shows_the_stages(project):
    code, text = on_a_terminal(project, *AUDIT)
    assert code == 0, text
    assert "Auditing the dataset" in text
    assert re.search(r"\ndata +1/1 +\d+:\d\d +done\r\nall +1/1 +\d+:\d\d\r\n$", text)
    assert "Select jobs" not in text


def test_the_end_says_the_verdict_and_what_to_open_even_if_nothing_had_to_be_done(project):
    code, text = project.snakemake()
    assert code == 0, text
    end = text.partition("Nothing to be done")[2].splitlines()
    assert end.count("Open:") == 1
    told = end[2 : end.index("Open:") - 1]
    assert 1 <= len(told) <= 3
    assert told[0] in html.unescape((project.results / "report.html").read_text())
    for line in end[end.index("Open:") + 1 :]:
        assert (project.folder / line.split()[0]).exists()


def test_the_verdict_is_made_once_and_quoted_everywhere(project):
    told = json.loads((project.results / "verdict.json").read_text())
    assert told["verdict"] == "not shown"  # four rows, and no contender but the untuned base
    assert (told["n"], told["margin"], told["order"]["outcome"]) == (4, 0.01, "not shown")
    assert isinstance(told["forgotten"], list)  # the probe is on
    assert "results/tiny/verdict.json" in project.manifest()["artifacts"]
    for name in ("report.html", "hf/README.md", "ollama/README.md"):
        assert told["sentence"] in html.unescape((project.results / name).read_text())
    command = [sys.executable, "-m", "scripts.report.show_verdict", "results/tiny"]
    done = subprocess.run(command, cwd=project.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 11, done.stderr
    assert done.stdout.replace("\n", " ").startswith(told["sentence"])

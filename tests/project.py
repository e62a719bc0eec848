"""A copy of the project that tests may change: as it comes, or after the reference run on random weights."""

import json
import os
import shutil
import subprocess
import sys

from scripts.reproduce.reference import CONFIG, RESULTS, lay_out


class Project:
    """A folder with the project in it; `results`: the run's folder."""

    def __init__(self, folder):
        self.folder, self.results = folder, folder / RESULTS

    @classmethod
    def fresh(cls, folder):
        """Lay the project out in a folder; nothing is run."""
        return cls(lay_out(folder, "random"))

    def copy_to(self, folder, linked=True):
        """Return a copy with its results and Snakemake's memory of them. Where results are hard links, write none in place."""
        ignored = shutil.ignore_patterns("results", "raw", ".work")
        shutil.copytree(self.folder, folder, ignore=ignored)
        shutil.copytree(self.folder / "data/raw", folder / "data/raw", copy_function=os.link)
        how = {"copy_function": os.link} if linked else {}
        shutil.copytree(self.folder / "results", folder / "results", **how)
        return Project(folder)

    def command(self, *arguments, configs=(CONFIG,), cores=2, python=sys.executable):
        return [str(python), "-m", "snakemake", *arguments, "--cores", str(cores), "--configfile", *configs]

    def start(self, *arguments, **more):
        """Start snakemake; return the process, whose output is all on stdout."""
        command = self.command(*arguments, **more)
        return subprocess.Popen(command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def snakemake(self, *arguments, **more):
        """Run snakemake; return (exit code, everything that it printed)."""
        process = self.start(*arguments, **more)
        text, _ = process.communicate()
        return process.returncode, text

    def planned(self, *arguments, **more):
        """Return {rule: jobs} of what `snakemake -n` would run."""
        code, text = self.snakemake("--dry-run", *arguments, **more)
        assert code == 0, text
        if "Nothing to be done" in text:
            return {}
        table = text.partition("Job stats:")[2].partition("total")[0].splitlines()
        return {
            line.split()[0]: int(line.split()[1])
            for line in table
            if len(line.split()) == 2 and line.split()[1].isdigit()
        }

    def manifest(self):
        return json.loads((self.results / "manifest.json").read_text())

    def replace(self, name, content):
        """Give a file another content; other copies of the project, whose hard link it is, keep theirs."""
        (self.folder / name).unlink()
        (self.folder / name).write_bytes(content)

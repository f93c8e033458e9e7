"""A study that is killed in the middle of every stage, against the same study left alone: are the results equal?

    python benchmarks/interrupted.py FOLDER                some minutes; the full study's planted files, 4°, two years
    python benchmarks/interrupted.py FOLDER --degrees 2 --years 4 --set train.epochs=10

One run goes through. Another gets SIGKILL half-way through its first stage (by the first run's seconds), is started
again, gets SIGKILL half-way through the second, and so on to the last. Then every file that a stage has made is
compared, byte for byte; of figures the PNG. Files and the run that goes through are kept: a second call kills anew.
"""

from __future__ import annotations

import argparse
import filecmp
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import full_study

from xflux import study
from xflux.study.stages import RunFolder

SMALL = ["train.epochs=4", "train.pixels_per_step=500", "bridge.stability=50", "one_against_many.sizes=[1]"]


class Announced(RunFolder):
    """A run folder that prints the name of every stage that begins."""

    def stage(self, name: str, make: Callable[[], None], **options) -> None:
        def announced() -> None:
            print(name, flush=True)
            make()

        super().stage(name, announced, **options)


def killed(command: list[str], run: Path, name: str, later: list[str], seconds: float) -> float:
    """Start the study, and kill it so long after a stage began; seconds, fewer where the stage was quicker."""
    note, *others = (run / "stages" / f"{n}.json" for n in (name, *later))
    while seconds > 0.01:
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if not any(line.strip() == name for line in child.stdout):
            raise RuntimeError(f"the study ended before stage {name!r}")
        time.sleep(seconds)
        child.kill()
        child.communicate()
        if not note.exists():
            return seconds
        for path in (note, *others):  # it was through: once more
            path.unlink(missing_ok=True)
        seconds /= 2
    raise RuntimeError(f"stage {name!r} is too short to be killed in its middle")


def files_in(folder: Path, made: dict[str, str]) -> Iterator[str]:
    """What a stage has made, file by file."""
    for name in made:
        inside = [p for p in (folder / name).rglob("*") if p.is_file()] or [folder / name]
        yield from (str(path.relative_to(folder)) for path in inside if path.suffix != ".pdf")  # these have a date


def differing(whole: Path, other: Path, names: list[str]) -> list[str]:
    return [n for n in names if not (other / n).exists() or not filecmp.cmp(whole / n, other / n, shallow=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--degrees", type=float, default=4.0)
    parser.add_argument("--years", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of xflux run")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    data, whole, other = (asked.folder / name for name in ("data", "whole", "killed"))
    if asked.one:
        sys.modules["xflux.study.pipeline"].RunFolder = Announced
        study.run_study(full_study.configured(data, asked.degrees, asked.years, SMALL + asked.set), asked.one)
        return
    full_study.make_files(data, asked.degrees, asked.years, towers=60)
    command = [sys.executable, __file__, *sys.argv[1:], "--one"]
    subprocess.run([*command, str(whole)], stdout=subprocess.DEVNULL, check=True)
    stages = sorted((whole / "stages").glob("*.json"), key=lambda path: path.stat().st_mtime)
    notes = {path.stem: json.loads(path.read_text()) for path in stages if path.stem not in ("made", "files")}
    shutil.rmtree(other, ignore_errors=True)
    at, names = {}, list(notes)
    for number, name in enumerate(names):
        later, half = names[number + 1 :], notes[name]["seconds"] / 2
        at[name] = killed([*command, str(other)], other, name, later, half)
    subprocess.run([*command, str(other)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    print(f"{'stage':30}{'killed at':>10}{'of s':>8}{'files':>8}  result")
    for name in names:
        files = list(files_in(whole, notes[name]["made"]))
        different = differing(whole, other, files)
        print(f"{name:30}{at[name]:10.2f}{notes[name]['seconds']:8.1f}{len(files):8}  "
              f"{'differs: ' + ', '.join(different[:3]) if different else 'identical'}")  # fmt: skip


if __name__ == "__main__":
    os.environ["SOURCE_DATE_EPOCH"] = "0"
    main()

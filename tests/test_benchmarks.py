"""Benchmarks are run by hand; here, that each of them still finds the names that it takes from the package."""

import runpy
from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_benchmark_takes_only_what_is_there(path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(path.parent)
    runpy.run_path(str(path))  # an ImportError where a name is gone

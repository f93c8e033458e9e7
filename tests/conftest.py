"""Shared fixtures. Tests on real data read ``$XFLUX_DATA`` or the folder beside the checkout, else they are skipped."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import settings

from xflux.extras import is_there

# the same examples in every run, so that a fresh install passes; --hypothesis-profile=explore draws new ones
settings.register_profile("fixed", derandomize=True, database=None)
settings.register_profile("explore", settings.get_profile("default"))
settings.load_profile("fixed")

EXTRAS = {
    "torch": r"\btrain\b|torch|load_model|run_study",
    "matplotlib": r"matplotlib|\.plot\b|xflux\.study import table",
}
"""Module of an extra → what an example that needs it says."""


def pytest_configure(config: pytest.Config) -> None:
    """One thread in each of several processes, which would wait for each other's at every loop."""
    if getattr(config.option, "numprocesses", None):
        os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Examples in docstrings that need an extra which is not installed are skipped, as tests are."""
    absent = {module: words for module, words in EXTRAS.items() if not is_there(module)}
    for item in items if absent else ():
        example = getattr(item, "dtest", None)
        text = "" if example is None else "\n".join([example.name, *(part.source for part in example.examples)])
        for module, words in absent.items():
            if re.search(words, text):
                item.add_marker(pytest.mark.skip(reason=f"{module} is not installed"))


def _data_folder() -> Path | None:
    candidates = [os.environ.get("XFLUX_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    return next((Path(c) for c in candidates if c and Path(c).is_dir()), None)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data (towers, drivers, inversions, regions, budgets)."""
    folder = _data_folder()
    if folder is None:
        pytest.skip("no real data: set $XFLUX_DATA to the data folder")
    return folder

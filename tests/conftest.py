"""Shared fixtures. Tests on real data read ``$XFLUX_DATA`` or the folder beside the checkout, else they are skipped."""

import os
from pathlib import Path

import pytest


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

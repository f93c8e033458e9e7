"""What objects say of themselves: one screen, with sizes, units and contents."""

import io
import re
import sys

import numpy as np
import pytest
import xarray as xr

import xflux
from xflux import cli


def one_screen(obj):
    text = repr(obj)
    assert len(text.splitlines()) <= 24 and max(map(len, text.splitlines())) <= 110
    return text


def test_a_wrapped_model():
    model = xflux.wrap(
        lambda rows: rows[:, 0], ["tair", "rg"], "gC m-2 d-1", driver_units={"tair": "degC"}, attrs={"includes_fire": 1}
    )
    text = one_screen(model)
    assert "2 drivers → nee (gC m-2 d-1)" in text and "tair (degC), rg" in text and "with fire" in text
    assert "lambda" not in text.splitlines()[0] and "0x" not in text


def test_the_synthetic_earth():
    text = one_screen(xflux.synthetic.earth(resolution=15.0, years=1, towers=7, seed=3))
    assert "12 × 24 cells, seed 3" in text and "WAI2" in text and "towers (7)" in text and "365 days" in text


def test_constraints():
    train = pytest.importorskip("xflux.train")
    earth = xflux.synthetic.earth(resolution=15.0, years=1, towers=7)
    options = dict(regions="reccap2", total=True, allow=("fire", "rivers"), name="MIP")
    text = one_screen(train.RegionalConstraint(earth.target, drivers=earth.drivers, **options))
    assert "RegionalConstraint: MIP" in text and "5 inversion" in text and "18 region" in text
    assert "PgC month-1" in text and "total=True" in text and "exponent" not in text and "sampled, 12000 pixels" in text
    grid = xr.Dataset({"tair": (("lat", "lon"), np.ones((1, 2)))}, {"lat": [45.0], "lon": [0.0, 1.0]})
    view = xr.DataArray([[[0.4, 0.1]]], {"lat": grid.lat, "lon": grid.lon}, ("obs", "lat", "lon"))
    text = one_screen(train.LinearConstraint(view, xr.DataArray([np.nan], dims="obs"), sigma=0.2, drivers=grid))
    assert "1, 0 with a value" in text and "tair on 1 lat × 2 lon" in text


class Screen(io.StringIO):
    """Standard error that is a terminal, or a log."""

    def __init__(self, terminal: bool):
        super().__init__()
        self.isatty = lambda: terminal


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    screen = Screen(True)
    monkeypatch.setattr(sys, "stderr", screen)
    with cli.progress_of() as (say, move):
        for line in ("[  0:01] training EC …", "        EC: epoch 3/15: loss 1", "[  0:09] training EC: 8 s"):
            say(line)
        move(2, 7, 0.1)
    shown = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", screen.getvalue())
    assert "[  0:09] training EC: 8 s" in shown and "chunks" in shown and "2/7" in shown
    assert "loss 1" not in shown


@pytest.mark.filterwarnings("ignore:the grid covers only a part")
def test_progress_is_lines_in_a_log_and_nothing_if_quiet(monkeypatch, nee_of_a_month):
    screen = Screen(False)
    monkeypatch.setattr(sys, "stderr", screen)
    for quiet in (False, True):
        with cli.progress_of(quiet) as told:
            assert told == (None, not quiet)
    nee_of_a_month.flux.fit_bridge("EU", r2=0.5, progress=True)
    assert screen.getvalue() == "bridge 1/1: EU, ok\n"


@pytest.fixture
def nee_of_a_month():
    coords = {"month": np.arange(1, 13), "lat": [35.0, 50.0, 65.0], "lon": [0.0, 10.0, 20.0]}
    values = np.random.default_rng(0).normal(size=(12, 3, 3))
    attrs = {"units": "gC m-2 d-1", "area_basis": "land"}
    return xr.DataArray(values, coords, ("month", "lat", "lon"), "nee", attrs)

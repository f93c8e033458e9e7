"""What objects say of themselves: one screen, with sizes, units and contents."""

import numpy as np
import pytest
import xarray as xr

import xflux


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

"""A number that is made again is the same number: xarray's options, chunks and threads do not show in it."""

import os
import subprocess
import sys

import dask
import numpy as np
import pytest
import xarray as xr

from xflux import align, drivers, synthetic, temporal

TIME = xr.date_range("2003-01-01", "2004-12-31", freq="D")
AXES = {"time": TIME, "lat": [-60.0, 0.0, 60.0], "lon": [0.0, 90.0, 180.0, 270.0]}
CHUNKS = ({}, {"time": 92}, {"time": 31, "lon": 2})
WAYS = [  # flox and bottleneck, each with all chunks
    {"use_flox": flox, "use_bottleneck": flox == (i % 2), "chunks": chunks, "threads": max(i, 1)}
    for flox in (True, False)
    for i, chunks in enumerate(CHUNKS)
]


@pytest.fixture(scope="module")
def da():
    rng = np.random.default_rng(0)
    values = (20 + rng.normal(size=(len(TIME), 3, 4))).astype("float32")
    values[rng.random(values.shape) < 0.02] = np.nan
    return xr.DataArray(values, AXES, list(AXES), "nee", {"units": "gC m-2 d-1", "area_basis": "cell"})


def climatology(da):
    return da.isel(time=slice(365)).rename(time="dayofyear").assign_coords(dayofyear=np.arange(1, 366))


MADE = {
    "mean_by month": lambda da: temporal.mean_by(da, "time.month"),
    "mean_by year": lambda da: temporal.mean_by(da, "time.year"),
    "seasonal_cycle": drivers.seasonal_cycle,
    "fill_gaps": lambda da: drivers.fill_gaps(da.chunk(time=-1) if da.chunks else da, max_gap=0),
    "monthly drivers of a study": align.by_month,
    "monthly climatology of days": lambda da: align.by_month(climatology(da)),
    "monthly drivers of the Earth": lambda da: synthetic.observe.monthly(da.to_dataset())["nee"],
    "to_monthly": lambda da: da.flux.to_monthly(),
    "annual": lambda da: da.flux.annual(),
    "mean_seasonal_cycle": lambda da: da.flux.mean_seasonal_cycle(),
    "aggregate_regions": lambda da: da.flux.aggregate_regions("latitude-bands", units="PgC month-1"),
}


@pytest.mark.parametrize("make", MADE.values(), ids=MADE)
def test_options_chunks_and_threads_do_not_show(da, make):
    expected = make(da).compute()
    tolerance = 0 if expected.dtype == np.float32 else 1e-13
    for way in WAYS:
        given = da.chunk(way["chunks"]) if way["chunks"] else da
        with (
            xr.set_options(use_flox=way["use_flox"], use_bottleneck=way["use_bottleneck"]),
            dask.config.set(scheduler="threads", num_workers=way["threads"]),
        ):
            made = make(given).compute()
        assert made.dtype == expected.dtype
        np.testing.assert_allclose(made.transpose(*expected.dims), expected, rtol=tolerance, err_msg=str(way))


def test_single_precision_is_added_up_in_double(da):
    made = temporal.mean_by(da, "time.month").sel(month=7)
    july = da.values[TIME.month == 7].astype("float64")
    np.testing.assert_array_equal(made, np.nanmean(july, axis=0).astype("float32"))


def test_how_strings_are_hashed_does_not_show_in_the_weights_of_regions():
    """Every process orders its sets of names in another way."""
    code = """
import hashlib, numpy as np, xarray as xr, xflux
grid = xr.Dataset(coords={"lat": np.arange(-87.0, 90, 6), "lon": np.arange(-177.0, 180, 6)})
for regions in ("reccap2", "countries"):
    weights = xflux.region_weights(grid, regions)
    print(*(hashlib.sha256(v.tobytes()).hexdigest() for v in (weights.data.todense(), weights["whole_weight"].values)))
"""
    made = [
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    ]
    assert made[0] == made[1]

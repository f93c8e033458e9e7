"""The same integrals by CDO, an independent tool: gridarea, mul, fldsum, monmean, yearmonmean.

CDO's cells have great-circle sides: its gridarea of one 1° cell at 48° north is 1.5e-5 off the area between the two
parallels. Where that would show, the grid is finer or is given its area by CDO's own ``expr``.
"""

import shutil
import subprocess

import numpy as np
import pytest
import xarray as xr
from test_regions import GRIDS, axes, flux

from xflux.cells import RADIUS
from xflux.regions import aggregate_regions
from xflux.temporal import annual, to_monthly

pytestmark = pytest.mark.skipif(shutil.which("cdo") is None, reason="CDO is not installed (apt-get install cdo)")


def cdo(chain, source, target):
    """Run CDO with xflux's radius; the source goes in and the target comes out as netCDF."""
    environment = {"PLANET_RADIUS": str(RADIUS), "PATH": "/usr/bin:/bin:/usr/local/bin"}
    subprocess.run(
        ["cdo", "-s", "-O", "-f", "nc4", "-b", "F64", *chain, *map(str, source), str(target)],
        check=True, capture_output=True, env=environment,
    )  # fmt: skip
    with xr.open_dataset(target) as ds:
        return ds.load()


def write(da, path, name="nee"):
    da = da.rename(name).assign_attrs(units="g m-2")
    da.lat.attrs, da.lon.attrs = {"units": "degrees_north"}, {"units": "degrees_east"}
    da.to_netcdf(path)
    return path


COARSE = f"-expr,area={RADIUS}*{RADIUS}*(sin(rad(clat(nee)+1.25))-sin(rad(clat(nee)-1.25)))*rad(3.75)+0*nee"


@pytest.mark.parametrize(
    "grid, area", [("1 from 0", "-gridarea"), ("0.5 north first", "-gridarea"), ("2.5x3.75", COARSE)]
)
def test_areas_and_masked_sums(tmp_path, grid, area):
    da = flux(GRIDS[grid], steps=2)
    rng = np.random.default_rng(0)
    mask = xr.DataArray(rng.integers(0, 3, size=da.shape[1:]), {"lat": da.lat, "lon": da.lon}, ("lat", "lon"))
    ours = aggregate_regions(da, mask, "gC d-1", include_global=True)
    flux_file = write(da, tmp_path / "flux.nc")
    for label in range(3):
        mask_file = write((mask == label).astype("f8"), tmp_path / "mask.nc", "mask")
        chain = ["-fldsum", "-mul", "-mul", str(flux_file), str(mask_file)]
        theirs = cdo([*chain, area], [flux_file], tmp_path / "sum.nc")["nee"].squeeze()
        np.testing.assert_allclose(ours.sel(region=str(label)).values, theirs.values, rtol=1e-6)
    theirs = cdo(["-fldsum", "-mul", str(flux_file), area], [flux_file], tmp_path / "sum.nc")["nee"].squeeze()
    np.testing.assert_allclose(ours.sel(region="GLOBAL").values, theirs.values, rtol=1e-6)


def test_missing_values(tmp_path):
    da = flux(axes(1.0), steps=3)
    da = da.where(np.random.default_rng(1).uniform(size=da.shape) > 0.3)
    ours = aggregate_regions(da, "latitude-bands", "gC d-1", include_global=True).sel(region="GLOBAL")
    file = write(da, tmp_path / "flux.nc")
    theirs = cdo(["-fldsum", "-mul", str(file), "-gridarea"], [file], tmp_path / "sum.nc")["nee"].squeeze()
    np.testing.assert_allclose(ours.values, theirs.values, rtol=1e-6)


@pytest.mark.parametrize("calendar", ["standard", "noleap", "360_day"])
def test_months_and_years_of_a_regional_mean(tmp_path, calendar):
    time = xr.date_range("2003-01-01", "2004-12-30", freq="D", calendar=calendar, use_cftime=True)
    values = np.random.default_rng(2).normal(size=(time.size, 15, 12)) + 2
    coords = {"time": time, "lat": np.linspace(48.05, 49.45, 15), "lon": np.linspace(0.05, 1.15, 12)}
    da = xr.DataArray(values, coords, ("time", "lat", "lon"), name="nee")
    da = da.assign_attrs(units="gC m-2 d-1", area_basis="cell")
    with pytest.warns(UserWarning, match="the grid covers only a part of 40N-50N"):
        rate = aggregate_regions(da, "latitude-bands", "gC d-1", include_global=True).sel(region="GLOBAL")
    file = write(da, tmp_path / "flux.nc")
    total = ["-fldsum", "-mul", str(file), "-gridarea"]
    monthly = cdo(["-monmean", *total], [file], tmp_path / "m.nc")["nee"].squeeze()
    np.testing.assert_allclose(to_monthly(rate).values, monthly.values, rtol=1e-6)
    yearly = cdo(["-yearmonmean", "-monmean", *total], [file], tmp_path / "y.nc")["nee"].squeeze()
    whole = slice(0, 1) if calendar != "360_day" else slice(0, 2)  # 31 December 2004 is not in the data
    np.testing.assert_allclose(annual(to_monthly(rate)).values[whole], yearly.values[whole], rtol=1e-6)

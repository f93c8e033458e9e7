"""Water and energy go wherever carbon goes: the same numbers, in units of their own."""

import numpy as np
import pytest
import xarray as xr

import xflux
from xflux.evaluate import annual_table, monthly_table, sink_table
from xflux.plot.series import global_integral

KINDS = {"PgC": ("gC m-2 d-1", "nee"), "PgH2O": ("gH2O m-2 d-1", "et"), "ZJ": ("MJ m-2 d-1", "le")}


def field(amount: str) -> xr.Dataset:
    units, name = KINDS[amount]
    coords = {"time": xr.date_range("2001-01-01", periods=48, freq="MS"), "lat": np.arange(-75.0, 90, 30)}
    coords["lon"] = np.arange(15.0, 360, 30)
    values = np.random.default_rng(0).normal(size=(2, 48, 6, 12))
    da = xr.DataArray(values, coords, ("member", "time", "lat", "lon"), name, {"units": units, "area_basis": "land"})
    return da.to_dataset()


def integrals(ds: xr.Dataset) -> xr.DataArray:
    return next(iter(ds.flux.aggregate_regions("reccap2", include_global=True).data_vars.values()))


def bridged(ds: xr.Dataset) -> xr.DataArray:
    return ds.isel(member=0).flux.fit_bridge(["EU", "BRA"], r2=0.8).predict(ds)


def table(made) -> xr.Dataset:
    """A data frame's numbers; its units are in its attributes, or in its columns."""
    numbers = made.select_dtypes("number").to_numpy(dtype="float64")
    return xr.DataArray(numbers, attrs={"units": made.attrs.get("units", " ".join(map(str, made.columns)))})


USES = {
    "aggregate_regions": integrals,
    "regional_budget": lambda ds: xflux.regional_budget(ds)["mean"],
    "budget of integrals": lambda ds: xflux.regional_budget(integrals(ds).to_dataset())["spread"],
    "score": lambda ds: ds.isel(member=0).flux.score(ds.isel(member=1), dim="time")["rmse"],
    "ensemble": lambda ds: xflux.ensemble({"a": ds.isel(member=0), "b": ds.isel(member=1)}),
    "trend": lambda ds: ds.flux.aggregate_regions("latitude-bands").flux.trend()["slope"],
    "seasonal cycle": lambda ds: global_integral(next(iter(ds.data_vars.values())), "month"),
    "bridge": bridged,
    "annual_table": lambda ds: table(annual_table({"a": integrals(ds)}, integrals(ds).isel(member=0))),
    "monthly_table": lambda ds: table(monthly_table({"a": integrals(ds)}, integrals(ds).isel(member=0))),
    "sink_table": lambda ds: table(sink_table({"a": integrals(ds)}, literature=False)),
}


@pytest.mark.parametrize("use", USES)
def test_every_substance_has_the_numbers_of_carbon_and_its_own_units(use):
    expected = USES[use](field("PgC"))
    for amount in ("PgH2O", "ZJ"):
        found = USES[use](field(amount).chunk(time=12) if amount == "ZJ" else field(amount))
        xr.testing.assert_allclose(found.reset_coords(drop=True), expected.reset_coords(drop=True), rtol=1e-9)
        units = expected.attrs["units"].replace("PgC", amount).replace(KINDS["PgC"][0], KINDS[amount][0])
        assert found.attrs["units"] == units


def test_a_bridge_of_carbon_refuses_energy():
    bridge = field("PgC").isel(member=0).flux.fit_bridge("EU", r2=0.8)
    with pytest.raises(ValueError, match="energy"):
        bridge.predict(field("ZJ").isel(member=0))


def test_a_bare_mass_in_a_dataset_is_of_what_its_flux_is():
    water = field("PgH2O")
    water["et"].attrs["standard_name"] = "water_evapotranspiration_flux"
    assert water.flux.convert_units("kg m-2 s-1")["et"].attrs["units"] == "kg m-2 s-1"

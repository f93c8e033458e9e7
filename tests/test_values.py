"""Packing and fill values that nobody decoded: masked where they are declared, refused where they are not."""

import re
import warnings

import numpy as np
import pytest
import xarray as xr

import xflux
from xflux.values import ValuesError, checked, decoded, found_fill, shares, warn_of_fills

FLUX = {"units": "gC m-2 d-1", "area_basis": "cell"}
AXES = {"time": xr.date_range("2001-01-01", periods=12, freq="MS"), "lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}


def flux(dtype="f8", **attrs):
    values = np.linspace(-3, 3, 48).reshape(12, 2, 2).astype(dtype)
    return xr.DataArray(values, AXES, ("time", "lat", "lon"), name="nee", attrs={**FLUX, **attrs})


@pytest.mark.parametrize(
    "packing",
    [{"scale_factor": 0.01}, {"add_offset": 1.5}, {"scale_factor": np.array([0.1])}, {"_Unsigned": "true"}],
)
@pytest.mark.parametrize("dtype", ["i2", "f4"])
def test_packing_is_refused_with_the_remedy(packing, dtype):
    with pytest.raises(ValuesError, match=r"'nee' is packed and nobody decoded it.*xr\.decode_cf.*drop the attributes"):
        decoded(flux(dtype, **packing))


def test_packing_that_changes_nothing_passes_and_decoding_is_the_remedy():
    xr.testing.assert_identical(decoded(flux(scale_factor=1.0, add_offset=0)), flux(scale_factor=1.0, add_offset=0))
    raw = flux("i2", scale_factor=0.5, _FillValue=np.int16(3))
    found = checked(xr.decode_cf(raw.to_dataset())["nee"])
    np.testing.assert_array_equal(found, raw.where(raw != 3) * 0.5)


@pytest.mark.parametrize("key", ["_FillValue", "missing_value", "nodata", "NoDataValue", "fill_value"])
@pytest.mark.parametrize("fill", [-9999.0, 1e20, 9.96921e36, [-9999.0, 1e20], np.float32(-1e34)])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_what_is_declared_missing_is_missing(key, fill, dtype):
    da = flux(dtype, **{key: fill})
    for k, value in enumerate(np.ravel(fill)):
        da[k, 0, 0] = value
    found = checked(da)
    assert found.dtype == da.dtype and key not in found.attrs and found.attrs["units"] == FLUX["units"]
    assert int(found.isnull().sum()) == np.size(fill)
    lazy = decoded(da.chunk(time=3))
    assert lazy.chunks is not None
    np.testing.assert_array_equal(lazy, found)


def test_a_fill_value_in_single_precision_is_met_in_double():
    da = flux("f8")
    da[0, 0, 0] = np.float32(1e20)
    assert int(checked(da.assign_attrs(missing_value=1e20)).isnull().sum()) == 1
    with pytest.raises(ValuesError, match="holds the value"):
        checked(da)


RANGES = [{"valid_min": -2.0}, {"valid_max": np.float32(2)}, {"valid_range": np.array([-2.0, 2.0])}]


@pytest.mark.parametrize("attrs", RANGES)
@pytest.mark.parametrize("lazy", [False, True])
def test_values_outside_their_declared_range_are_refused_with_the_remedy(attrs, lazy):
    da = flux(**attrs).chunk(time=3) if lazy else flux(**attrs)
    with pytest.raises(ValuesError, match=r"'nee' reaches from .*declare .* valid.*da\.where\(.*drop the attributes"):
        decoded(da).compute()
    inside = da.where(abs(da) <= 2)
    np.testing.assert_array_equal(decoded(inside), inside)
    np.testing.assert_array_equal(decoded(flux(valid_range=[-3.0, 3.0])), flux())


def test_a_valid_range_of_packed_integers_is_in_their_units():
    raw = xr.DataArray(np.array([100, 200], "i2"), dims="x", attrs={"scale_factor": 10.0, "valid_range": [50, 250]})
    assert decoded(xr.decode_cf(raw.to_dataset(name="lst"))["lst"]).values.tolist() == [1000.0, 2000.0]


@pytest.mark.parametrize("dtype", [">f4", ">f8", "f2", "O", ">i2"])
def test_numbers_are_computed_with_whatever_their_type(dtype):
    found = checked(flux(dtype))
    assert found.dtype.kind in "fi" and found.dtype.isnative and found.dtype != np.float16
    np.testing.assert_array_equal(found, flux().astype(dtype).astype(float))
    assert decoded(xr.DataArray(np.array([1.0, None], object), dims="x")).isnull().values.tolist() == [False, True]


@pytest.mark.parametrize("values", [["1.5", "2"], np.array(["a", 1.0], object)])
def test_text_is_refused(values):
    with pytest.raises(ValuesError, match=r"expected real numbers|no numbers"):
        decoded(xr.DataArray(values, dims="x", name="nee"))


def test_a_fill_value_of_nan_or_of_another_type_is_no_matter():
    for attrs in ({"_FillValue": np.nan}, {"missing_value": "none"}, {"_FillValue": 1e300}):
        np.testing.assert_array_equal(decoded(flux("f4", **attrs)), flux("f4"))
    ints = decoded(flux("i2", _FillValue=np.int16(3), missing_value=-9999.5))
    assert int(ints.isnull().sum()) == int((flux("i2") == 3).sum()) > 0


FILLS = [
    -999.0,
    -999.9,
    -9999.9,
    -32768.0,
    -9999.0,
    -99999.0,
    1e15,
    1e20,
    -1e20,
    1e30,
    9.969209968386869e36,
    -3.4028234663852886e38,
]


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_undeclared_fill_values_are_found(fill, dtype):
    da = flux(dtype)
    da[3, 1, 1] = fill
    da[5] = np.nan
    assert found_fill(da.values) == pytest.approx(fill, rel=1e-6)
    with pytest.raises(ValuesError, match=r"'nee' holds the value .* fill value that nobody declared"):
        checked(da)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("fill", [-99.0, -99.9, 999.0, 32767.0, 65535.0, -2147483647.0, -1e10])
def test_values_that_an_amount_may_have_are_fill_values_where_they_stand_alone(fill, dtype):
    values = np.array([0.1, 2.0, np.nan, -3.0, fill], dtype)
    assert found_fill(values) == np.dtype(dtype).type(fill)
    amounts = np.array([0.5 * fill, 2.0, -3.0, fill], dtype)
    assert found_fill(amounts) is None
    assert found_fill(np.array([0.0, 0.0, fill], dtype)) is None


def test_infinities_that_are_declared_missing_are_missing():
    da = flux("f4", missing_value=np.float32("inf"))
    da[3, 1, 1] = np.inf
    assert int(decoded(da).isnull().sum()) == 1
    assert not decoded(flux("i4", missing_value=np.inf)).isnull().any()


@pytest.mark.parametrize(
    "values",
    [
        [1.0, np.inf, -np.inf],
        [np.nan, np.nan],
        [],
        [1e15, 1e15],
        [3e13, 1e15, 2e14],
        [6e19, 3e18],  # molecules m-2 s-1
        [-998.9, 9999.0],
        [-9999.1, -12345.0],
    ],
)
def test_other_values_may_be_real(values):
    assert found_fill(np.array(values)) is None


def later(da, days):
    return da.assign_coords(time=da.time + np.timedelta64(days, "D"))


DOORS = {
    "aggregate_regions": lambda da: da.flux.aggregate_regions("latitude-bands"),
    "aggregate_regions of a Dataset": lambda da: da.to_dataset().flux.aggregate_regions("latitude-bands"),
    "convert_units": lambda da: da.flux.convert_units("kgC m-2 s-1"),
    "convert_units of a Dataset": lambda da: da.to_dataset().flux.convert_units("kgC m-2 s-1"),
    "annual": lambda da: da.flux.annual(),
    "mean_seasonal_cycle": lambda da: da.flux.mean_seasonal_cycle(),
    "score": lambda da: da.flux.score(flux()),
    "reference": lambda da: flux().flux.score(da),
    "remove_fire": lambda da: xflux.adjust.remove_fire(da, abs(flux())),
    "fire": lambda da: xflux.adjust.remove_fire(flux(), da),
    "regrid": lambda da: da.flux.regrid(xr.Dataset(coords={"lat": [0.0, 30.0], "lon": [0.0, 30.0, 60.0]})),
    "ensemble": lambda da: xflux.ensemble({"a": flux(), "b": da}),
    "trend": lambda da: xr.concat([later(da, days) for days in (0, 365, 730)], "time").flux.trend(),
    "regional_budget": lambda da: xflux.regions.regional_budget(da.expand_dims(member=2), "latitude-bands"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("lazy", [False, True])
def test_every_door_refuses_what_nobody_decoded(door, lazy):
    filled = flux()
    filled[3, 1, 1] = -9999.0
    filled = filled.chunk(time=4) if lazy else filled
    with pytest.raises(ValuesError, match="holds the value -9999"):
        DOORS[door](filled).compute()
    with pytest.raises(ValuesError, match="packed"):
        DOORS[door](flux().assign_attrs(scale_factor=0.1))


@pytest.mark.parametrize("door", ["aggregate_regions", "convert_units", "annual", "score"])
def test_every_door_masks_what_is_declared_and_stays_lazy(door):
    filled = flux(missing_value=-9999.0)
    filled[3, 1, 1] = -9999.0
    masked = flux().where(filled != -9999.0)
    found = DOORS[door](filled.chunk(time=4))
    assert all(v.chunks for v in ([found] if isinstance(found, xr.DataArray) else found.data_vars.values()))
    xr.testing.assert_allclose(found.compute(), DOORS[door](masked))


@pytest.mark.parametrize("fill", [-9999.0, 1e20, 255.0])
def test_a_driver_with_equal_values_far_outside_all_others_is_named(fill):
    values = np.random.default_rng(0).normal(10, 2, 400)
    values[:40] = fill
    with pytest.warns(
        UserWarning,
        match=rf"driver 'x': 40 of 400 values are {re.escape(format(fill, 'g'))}, far outside.*missing_value",
    ):
        warn_of_fills(values, "driver 'x'")


@pytest.mark.parametrize("others", [[5.0], [0.0, 1.0], [-3.0, 2.5, 7.0], [280.0, 280.0 + 1e-9]])
@pytest.mark.parametrize("fills", [[-9999.0], [1e20], [-9999.0, 1e20], [float(np.float32(-999.9))]])
def test_a_well_known_fill_value_is_named_beside_few_other_values(fills, others):
    values = np.array(fills + 4 * others)
    with pytest.warns(UserWarning, match="far outside") as told:
        warn_of_fills(values, "driver 'x'")
    assert all(f"1 of {values.size} values are {fill:g}" in str(w.message) for fill, w in zip(fills, told, strict=True))


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).exponential(1, 400) ** 3,  # rain: far outside, but none twice
        np.repeat([0.0, 1.0], 50),
        np.r_[np.zeros(300), np.random.default_rng(0).gamma(0.5, 4, 100)],
        np.full(50, 3.0),
        np.r_[np.full(50, 3.0), [4.0, 4.0, 4.0]],
        np.r_[np.full(50, 3.0), [3.0 + 1e-9, 4.0, 4.0, 4.0]],  # constant but for rounding
        np.repeat([1.0, 2.0, 3.0], 50),
        np.repeat([1.0, 2.0, 3.0, 16.0], 50),
        np.r_[np.full(50, 0.2), np.linspace(0.25, 0.26, 9)],
        np.linspace(-9999, 9999, 50),
        np.full(5, np.nan),
    ],
)
def test_drivers_as_they_are_give_no_warning(values):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_fills(values, "driver 'x'")


@pytest.mark.parametrize("lazy", [False, True])
def test_a_fill_value_in_the_drivers_of_a_forward_run_is_named_when_it_is_computed(lazy):
    class Model:
        drivers, units, target_names = ["x"], "gC m-2 d-1", ["nee"]

        def predict(self, rows):
            return rows[:, 0]

    grid = flux().drop_attrs().to_dataset(name="x")
    grid["x"][2, 0, 0] = -9999.0
    grid = grid.chunk(time=4) if lazy else grid
    with pytest.warns(UserWarning, match="driver 'x' holds the value -9999, which is used as it is.*missing_value"):
        result = grid.flux.predict(Model()).compute(scheduler="synchronous")
    assert float(result[2, 0, 0]) == -9999.0
    grid["x"].attrs["missing_value"] = -9999.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(grid.flux.predict(Model()).compute()[2, 0, 0])


@pytest.mark.parametrize("lazy", [False, True])
def test_a_fill_value_in_a_driver_that_is_regridded_is_named(lazy):
    driver = flux().rename("x").drop_attrs()
    driver[3, 1, 1] = -9999.0
    driver = driver.chunk(time=4) if lazy else driver
    with pytest.warns(UserWarning, match=r"'x' holds the value -9999, which is used as it is"):
        driver.flux.regrid(xr.Dataset(coords={"lat": [0.0, 30.0], "lon": [0.0, 30.0, 60.0]})).compute()


LAND = xr.DataArray([0.2, 1.0, np.nan], dims="x")


@pytest.mark.parametrize("units", ["%", "percent", "% of the cell", None])
def test_a_land_fraction_is_read_in_shares(units):
    given = LAND if units is None else (LAND * 100).assign_attrs(units=units)
    np.testing.assert_allclose(shares(given), [0.2, 1.0, 0.0])
    np.testing.assert_allclose(shares(given.fillna(-9999).assign_attrs(given.attrs, missing_value=-9999)), [0.2, 1, 0])


def test_a_land_fraction_in_percent_that_was_divided_already_is_told():
    with pytest.warns(UserWarning, match="has the units '%' but reaches to 1 only"):
        np.testing.assert_allclose(shares(LAND.assign_attrs(units="%")), [0.2, 1.0, 0.0])


def test_a_warning_is_at_the_line_of_the_user_however_deep_it_is_given():
    with pytest.warns(UserWarning, match="does not say whether it is per m2") as given:
        flux(area_basis=None).drop_attrs().assign_attrs(units="gC m-2 d-1").flux.aggregate_regions("latitude-bands")
    assert [one.filename for one in given] == [__file__]

"""Scores against independent libraries and known answers; the layout of the paper's tables; towers."""

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from xflux import evaluate

RNG = np.random.default_rng(7)


def pair(shape=(40, 3), missing=0.2, seed=0):
    rng = np.random.default_rng(seed)
    reference = rng.standard_normal(shape) * 2 + 1
    da = 0.8 * reference + rng.standard_normal(shape)
    da[rng.random(shape) < missing] = np.nan
    reference[rng.random(shape) < missing] = np.nan
    time = xr.date_range("2001-01", periods=shape[0], freq="MS")
    coords = {"time": time, "region": [f"R{i}" for i in range(shape[1])]}
    return tuple(
        xr.DataArray(v, dims=("time", "region"), coords=coords, attrs={"units": "PgC month-1"}) for v in (da, reference)
    )


# ------------------------------------------------------------------ independent libraries
def test_scores_equal_scikit_learn_on_dropped_pairs():
    metrics = pytest.importorskip("sklearn.metrics")
    da, reference = pair()
    scores = evaluate.score(da, reference)
    for region in da.region.values:
        x, y = da.sel(region=region).values, reference.sel(region=region).values
        keep = np.isfinite(x) & np.isfinite(y)
        one = scores.sel(region=region)
        assert int(one.n) == keep.sum()
        np.testing.assert_allclose(one.rmse, metrics.root_mean_squared_error(y[keep], x[keep]), rtol=1e-12)
        np.testing.assert_allclose(one.nse, metrics.r2_score(y[keep], x[keep]), rtol=1e-12)
        np.testing.assert_allclose(one.r, np.corrcoef(x[keep], y[keep])[0, 1], rtol=1e-12)
        np.testing.assert_allclose(one.bias, (x[keep] - y[keep]).mean(), rtol=1e-12)
        np.testing.assert_allclose(one.nnse, 1 / (2 - one.nse), rtol=1e-12)


def test_weighted_scores_equal_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    da, reference = pair(missing=0.0)
    weights = xr.DataArray(RNG.random(40), dims="time", coords={"time": da.time})
    scores = evaluate.score(da, reference, weights=weights)
    for i in range(3):
        x, y, w = da.values[:, i], reference.values[:, i], weights.values
        np.testing.assert_allclose(scores.rmse[i] ** 2, metrics.mean_squared_error(y, x, sample_weight=w), rtol=1e-12)
        np.testing.assert_allclose(scores.nse[i], metrics.r2_score(y, x, sample_weight=w), rtol=1e-12)
        cov = np.cov(x, y, aweights=w, bias=True)
        np.testing.assert_allclose(scores.r[i], cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]), rtol=1e-12)


def test_scores_equal_the_scores_package():
    continuous = pytest.importorskip("scores.continuous")
    da, reference = pair()
    ours = evaluate.score(da, reference)
    both = da.notnull() & reference.notnull()
    x, y = da.where(both), reference.where(both)
    xr.testing.assert_allclose(ours.rmse.drop_attrs(), continuous.rmse(x, y, preserve_dims="region").drop_attrs())
    xr.testing.assert_allclose(
        ours.bias.drop_attrs(), continuous.additive_bias(x, y, preserve_dims="region").drop_attrs()
    )
    pearson = continuous.correlation.pearsonr(x, y, preserve_dims="region")
    np.testing.assert_allclose(ours.r, pearson, rtol=1e-9)
    np.testing.assert_allclose(ours.nse, continuous.nse(x, y, preserve_dims="region"), rtol=1e-9)


# ------------------------------------------------------------------ invariants
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), missing=st.sampled_from([0.0, 0.3, 0.9]), scale=st.sampled_from([1e-6, 1.0, 1e5]))
def test_decomposition_sums_to_the_mse(seed, missing, scale):
    da, reference = pair((30, 2), missing, seed)
    parts = evaluate.decompose_mse(da * scale, reference * scale)
    np.testing.assert_allclose(parts.bias + parts.variance + parts.phase, parts.mse, rtol=1e-10)
    np.testing.assert_allclose(parts.rmse**2, parts.mse, rtol=1e-12)
    score = evaluate.score(da * scale, reference * scale)
    np.testing.assert_allclose(parts.rmse, score.rmse, rtol=1e-12)


def test_decomposition_names_the_kind_of_error():
    t = np.arange(360.0)
    wave = xr.DataArray(np.sin(2 * np.pi * t / 12), dims="time")
    late = xr.DataArray(np.sin(2 * np.pi * (t - 3) / 12), dims="time")
    for changed, name in ((wave + 2, "bias"), (3 * wave, "variance"), (late, "phase")):
        parts = evaluate.decompose_mse(changed, wave)
        others = {"bias", "variance", "phase"} - {name}
        np.testing.assert_allclose(parts[name], parts.mse, rtol=1e-9)
        assert all(abs(float(parts[o])) < 1e-12 for o in others)


@settings(max_examples=10, deadline=None)
@given(chunks=st.tuples(st.integers(1, 40), st.integers(1, 3)))
def test_chunks_do_not_change_scores_and_dask_stays_lazy(chunks):
    pytest.importorskip("dask")
    da, reference = pair()
    lazy = evaluate.score(da.chunk(time=chunks[0], region=chunks[1]), reference.chunk(time=chunks[0]))
    assert all(v.chunks is not None for v in lazy.data_vars.values())
    xr.testing.assert_allclose(lazy.compute(), evaluate.score(da, reference), rtol=1e-12)


def test_shares_that_ride_along_are_not_computed_to_be_compared():
    """Coordinates such as valid_fraction, which lazy region integrals bring."""
    dask = pytest.importorskip("dask")

    def refuse(*args, **kwargs):
        raise AssertionError("computed")

    da = xr.DataArray(np.arange(12.0), {"time": np.arange(12), "share": ("time", np.ones(12))}, "time").chunk(time=3)
    reference = (da**2).assign_coords(share=da.share * 0.5)
    with dask.config.set(scheduler=refuse):
        lazy = evaluate.score(da, reference)
    x = np.arange(12.0)
    assert float(lazy.bias) == pytest.approx((x - x**2).mean())


@pytest.mark.parametrize(
    "function",
    [evaluate.score, evaluate.decompose_mse, lambda a, b: evaluate.spread_skill(xr.concat([a, b], "member"), b)],
    ids=["score", "decompose_mse", "spread_skill"],
)
def test_all_variables_are_computed_together(function):
    import dask

    da, reference = pair()
    (together,) = dask.compute(function(da.chunk(time=10), reference.chunk(time=10)))
    xr.testing.assert_allclose(together, function(da, reference), rtol=1e-12)


@settings(max_examples=10, deadline=None)
@given(block=st.integers(1, 200), seed=st.integers(0, 99))
def test_blocks_do_not_change_scores(block, seed):
    da, reference = pair((37, 5), seed=seed)
    weights = xr.DataArray(np.random.default_rng(seed).random(37), dims="time", coords={"time": da.time})
    for dim in ("time", None):
        expected = evaluate.score(da, reference, dim, weights=weights)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("xflux.evaluate.moments.BLOCK", block)
            got = evaluate.score(da, reference, dim, weights=weights)
        xr.testing.assert_allclose(got, expected, rtol=1e-11)


def test_far_from_zero_keeps_its_digits():
    da, reference = pair(missing=0.0)
    moved = evaluate.score(da + 1e7, reference + 1e7)
    np.testing.assert_allclose(moved.r, evaluate.score(da, reference).r, rtol=1e-7)


def test_several_dims_and_dim_order():
    da, reference = pair()
    a = evaluate.score(da, reference, dim=["time", "region"])
    b = evaluate.score(da.transpose(), reference, dim=None)
    assert a.rmse.ndim == 0
    xr.testing.assert_allclose(a, b)
    keep = da.notnull() & reference.notnull()
    expected = np.sqrt(((da - reference) ** 2).values[keep.values].mean())
    np.testing.assert_allclose(a.rmse, expected, rtol=1e-12)


def test_float32_accumulates_in_float64():
    values = np.full(200_000, 1000.1, dtype="float32")
    da = xr.DataArray(values, dims="time")
    np.testing.assert_allclose(evaluate.score(da, da - np.float32(0.5)).bias, 0.5, rtol=1e-4)
    assert evaluate.score(da, da).rmse == 0


# ------------------------------------------------------------------ traps
def test_constant_short_and_empty_series_are_nan_without_warnings():
    t = xr.DataArray(np.arange(5.0), dims="time")
    constant, empty = xr.full_like(t, 0.1), xr.full_like(t, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flat_reference = evaluate.score(t, constant)
        flat_model = evaluate.score(constant, t)
        one = evaluate.score(t[:1], t[:1])
        none = evaluate.score(empty, t)
        lazy = evaluate.score(constant.chunk(time=2), t.chunk(time=2)).compute()
    assert np.isnan(flat_reference.r) and np.isnan(flat_reference.nse) and np.isnan(flat_reference.nnse)
    assert np.isnan(flat_model.r) and np.isfinite(flat_model.nse) and np.isnan(lazy.r)
    assert int(one.n) == 1 and np.isnan(one.r) and np.isnan(one.nse) and one.rmse == 0
    assert int(none.n) == 0 and all(np.isnan(none[v]) for v in ("bias", "rmse", "r", "nse", "nnse"))


def test_bad_weights_raise():
    da, reference = pair()
    weights = xr.ones_like(da.time, dtype=float)
    with pytest.raises(ValueError, match="weights hold 1 NaN or negative"):
        evaluate.score(da, reference, weights=weights.where(weights.time != weights.time[3]))
    with pytest.raises(ValueError, match="weights hold 40 NaN or negative"):
        evaluate.score(da, reference, weights=-weights)
    with pytest.raises(TypeError, match="named dims"):
        evaluate.score(da, reference, weights=np.ones(40))


def test_weight_zero_leaves_a_pair_out():
    da, reference = pair(missing=0.0)
    weights = xr.DataArray((np.arange(40) < 20).astype(float), dims="time", coords={"time": da.time})
    xr.testing.assert_allclose(evaluate.score(da, reference, weights=weights), evaluate.score(da[:20], reference[:20]))


def test_labels_are_never_dropped_silently():
    da, reference = pair()
    with pytest.raises(ValueError, match=r"labels of 'region' differ.*R2.*R9"):
        evaluate.score(da, reference.assign_coords(region=["R0", "R1", "R9"]))
    mid = reference.assign_coords(time=da.time + np.timedelta64(14, "D"))  # the same months, stamped in their middle
    xr.testing.assert_allclose(evaluate.score(da, mid), evaluate.score(da, reference))
    with pytest.raises(ValueError, match=r"labels of 'time' differ.*to_monthly"):
        evaluate.score(da, reference.assign_coords(time=da.time + np.timedelta64(9000, "D")))
    later = evaluate.score(da, reference.isel(time=slice(10, None)))
    assert int(later.n.max()) <= 30
    shuffled = reference.isel(region=[2, 0, 1])
    xr.testing.assert_allclose(evaluate.score(da, shuffled), evaluate.score(da, reference))


def test_mixed_calendars_raise():
    da, reference = pair()
    noleap = reference.assign_coords(time=xr.date_range("2001-01", periods=40, freq="MS", calendar="noleap"))
    with pytest.raises(ValueError, match="has the calendar 'standard' here and 'noleap'"):
        evaluate.score(da, noleap)
    both = [a.assign_coords(time=noleap.time) for a in (da, reference)]
    xr.testing.assert_allclose(evaluate.score(*both), evaluate.score(da, reference))


def test_near_equal_coordinates_snap():
    lat = np.linspace(-88.75, 88.75, 72)
    a = xr.DataArray(RNG.random((72, 4)), dims=("lat", "time"), coords={"lat": lat})
    b = a.assign_coords(lat=(lat + 1e-6).astype("float32"))[::-1]
    assert evaluate.score(a, b).rmse.size == 72 and float(evaluate.score(a, b).rmse.max()) == 0
    with pytest.raises(ValueError, match="labels of 'lat' differ"):
        evaluate.score(a, a.assign_coords(lat=lat + 0.5))


@pytest.mark.parametrize("west", [0.0, -180.0])
def test_longitude_conventions_and_names_are_the_same_places(west):
    lon = np.arange(-177.5, 180, 5)
    a = xr.DataArray(RNG.random((72, 4)), dims=("lon", "time"), coords={"lon": lon})
    moved = a.assign_coords(lon=(lon - west) % 360 + west).sortby("lon").rename(lon="longitude")
    scores = evaluate.score(a, moved)
    assert float(scores.rmse.max()) == 0 and scores.rmse.dims == ("lon",)
    np.testing.assert_array_equal(scores.lon, lon)
    own = evaluate.score(moved, a, dim=["longitude", "time"])
    xr.testing.assert_identical(own.rmse, evaluate.score(a, a, dim=["lon", "time"]).rmse)


def test_units_are_converted_or_refused():
    units = pytest.importorskip("xflux.units")
    da, reference = pair()
    in_tg = (reference * 1000).assign_attrs(units="TgC month-1")
    scores = evaluate.score(da, in_tg)
    xr.testing.assert_allclose(scores, evaluate.score(da, reference))
    assert scores.rmse.attrs["units"] == "PgC month-1" and scores.r.attrs["units"] == "1"
    with pytest.raises(units.UnitsError):
        evaluate.score(da, reference.assign_attrs(units="K"))


def test_grams_are_of_what_the_attributes_say():
    da, reference = pair()
    water = {"units": "kg m-2 s-1", "standard_name": "water_evapotranspiration_flux"}
    expected = evaluate.score(da, reference, dim=...).rmse
    for units, number in (("mm d-1", 86400), ("kgH2O m-2 s-1", 1), ("kg m-2 s-1", 1)):
        in_other = (reference * number).assign_attrs(units=units)
        np.testing.assert_allclose(evaluate.score(da.assign_attrs(water), in_other, dim=...).rmse, expected)
    with pytest.raises(ValueError, match="one is C, the other water"):
        evaluate.score(da.assign_attrs(water), reference.assign_attrs(units="kg m-2 s-1", species="C"))


def test_different_contents_raise_unless_allowed():
    da, reference = pair()
    nee, nbe = da.assign_attrs(includes_fire=False), reference.assign_attrs(includes_fire=True)
    with pytest.raises(ValueError, match=r"the second includes fire, the first does not.*allow_contents=\('fire',\)"):
        evaluate.score(nee, nbe)
    with pytest.raises(ValueError, match="includes_fire"):
        evaluate.score(nee.assign_attrs(includes_fire="False"), nbe.assign_attrs(includes_fire=1))
    assert "rmse" in evaluate.score(nee, nbe, allow_contents=["fire"])
    assert "rmse" in evaluate.score(nee, reference)  # unknown is not wrong


def test_missing_dim_is_named():
    da, reference = pair()
    with pytest.raises(ValueError, match=r"no dim \['lat'\] to score over"):
        evaluate.score(da, reference, dim="lat")


def test_score_by_month_and_year():
    da, reference = pair((48, 2), missing=0.0)
    by_month = evaluate.score_by(da, reference, "month")
    assert by_month.sizes["month"] == 12 and set(by_month.n.values.ravel()) == {4}
    june = [a.isel(time=a.time.dt.month == 6) for a in (da, reference)]
    xr.testing.assert_allclose(by_month.rmse.sel(month=6, drop=True), evaluate.score(*june).rmse)
    assert evaluate.score_by(da, reference, "year").year.values.tolist() == [2001, 2002, 2003, 2004]


# ------------------------------------------------------------------ ensembles
def test_spread_skill_of_a_reliable_ensemble():
    rng = np.random.default_rng(1)
    centre = rng.standard_normal(4000)
    members = xr.DataArray(centre + rng.standard_normal((9, 4000)), dims=("member", "time"))
    truth = xr.DataArray(centre + rng.standard_normal(4000), dims="time")
    result = evaluate.spread_skill(members, truth)
    assert abs(float(result.ratio) - 1) < 0.05
    assert float(result.coverage_expected) == 0.8 and abs(float(result.coverage) - 0.8) < 0.03
    narrow = evaluate.spread_skill(0.1 * (members - members.mean("member")) + members.mean("member"), truth)
    assert float(narrow.ratio) < 0.2 and float(narrow.coverage) < 0.3
    with pytest.raises(ValueError, match="at least two members"):
        evaluate.spread_skill(members[:1], truth)


# ------------------------------------------------------------------ tables
REGIONS = ["A", "B", "C"]


def integrals(offset=0.0, amplitude=1.0, years=5, stamp="MS", calendar="standard", members=0, start="2001"):
    time = xr.date_range(f"{start}-01-01", periods=12 * years, freq="MS", calendar=calendar)
    if stamp == "mid":
        time = time + np.timedelta64(14, "D")
    month = np.arange(12 * years) % 12
    year = np.arange(12 * years) // 12
    base = amplitude * np.cos(2 * np.pi * month / 12)[:, None] * np.array([1, 2, 3]) + 0.1 * (year**2)[:, None]
    da = xr.DataArray(
        base + offset, dims=("time", "region"), coords={"time": time, "region": REGIONS}, attrs={"units": "PgC month-1"}
    )
    if members:
        shift = xr.DataArray(np.arange(members) - (members - 1) / 2, dims="member")
        return (da + shift).assign_attrs(da.attrs)
    return da


def test_annual_table_has_the_layout_of_table_2_with_known_answers():
    pytest.importorskip("xflux.temporal")
    reference = integrals()
    second = xr.DataArray(
        np.arange(5.0), dims="year", coords={"year": np.arange(2001, 2006)}, attrs={"units": "PgC yr-1"}
    )
    products = {"EC-ATM": integrals(0.01, members=4), "EC": integrals(-1.0), "FLUXCOM": integrals(-2.0, stamp="mid")}
    table = evaluate.annual_table(products, reference, second=second, second_name="GCB22")
    assert list(table.index) == ["GLOBAL", *REGIONS, "GCB22"]
    assert list(table.columns) == [(m, p) for m in ("Pearson's R", "RMSE") for p in products]
    np.testing.assert_allclose(table.loc["A", "RMSE"], [0.12, 12, 24], rtol=1e-9)
    np.testing.assert_allclose(table.loc["GLOBAL", "RMSE"], [0.36, 36, 72], rtol=1e-9)
    np.testing.assert_allclose(table.loc["GLOBAL":"C", "Pearson's R"], 1.0, rtol=1e-9)
    globe = 3 * 12 * (0.1 * np.arange(5.0) ** 2 - 1)
    np.testing.assert_allclose(table.loc["GCB22", ("RMSE", "EC")], np.sqrt(((globe - np.arange(5)) ** 2).mean()))
    assert table.attrs == {"units": "PgC yr-1", "period": "2001–2005"}


def test_monthly_table_has_the_layout_of_table_3_with_known_answers():
    products = {"EC-ATM": integrals(0.01, members=4), "EC": integrals(-1.0, 0.5, calendar="noleap")}
    table = evaluate.monthly_table(products, integrals(stamp="mid"))
    heads = [f"{m} – {what}" for what in ("monthly integrals", "MSC") for m in ("Pearson's R", "RMSE")]
    assert list(dict.fromkeys(table.columns.get_level_values(0))) == heads
    assert list(table.index) == ["GLOBAL", *REGIONS]
    np.testing.assert_allclose(table.loc["B", ("RMSE – MSC", "EC-ATM")], 0.01, rtol=1e-9)
    np.testing.assert_allclose(table.loc["A", ("RMSE – MSC", "EC")], np.sqrt(1 + 0.125), rtol=1e-9)
    np.testing.assert_allclose(table.loc[REGIONS, ("Pearson's R – MSC", "EC")], 1.0, rtol=1e-9)


def test_monthly_table_of_a_climatology_keeps_the_cycle_only():
    cycle = integrals(0.5).groupby("time.month").mean().assign_attrs(units="PgC month-1")
    table = evaluate.monthly_table({"EC": cycle}, integrals())
    assert {c[0] for c in table.columns} == {"Pearson's R – MSC", "RMSE – MSC"}
    np.testing.assert_allclose(table["RMSE – MSC"], [[1.5]] + [[0.5]] * 3, rtol=1e-9)


def test_tables_refuse_other_regions_and_years():
    other = integrals().assign_coords(region=["A", "B", "Z"])
    with pytest.raises(ValueError, match=r"regions of 'EC'.*are not those of the reference"):
        evaluate.monthly_table({"EC": other}, integrals())
    with pytest.raises(ValueError, match="need units"):
        evaluate.annual_table({"EC": integrals().drop_attrs()}, integrals())
    with pytest.raises(ValueError, match="no month_of_era in common"):
        evaluate.monthly_table({"EC": integrals(start="1980")}, integrals())


def test_incomplete_years_and_missing_months_are_no_annual_values():
    reference = integrals()
    short = integrals().isel(time=slice(3, None))
    with pytest.warns(UserWarning, match="covers 2001 only in part"):
        table = evaluate.annual_table({"EC": short}, reference, metrics=("rmse", "n"))
    assert table.attrs["period"] == "2002–2005"
    np.testing.assert_allclose(table["RMSE"], 0, atol=1e-12)
    gap = integrals().copy()
    gap[30] = np.nan  # in 2003
    table = evaluate.annual_table({"EC": gap}, reference, metrics=("rmse", "n"))
    np.testing.assert_allclose(table["RMSE"], 0, atol=1e-12)
    assert set(table["n"].to_numpy().ravel()) == {4}


def test_unassigned_counts_in_global():
    with_rest = integrals().assign_coords(unassigned=("time", np.full(60, 5.0)))
    table = evaluate.monthly_table({"EC": with_rest}, integrals())
    np.testing.assert_allclose(table.loc["GLOBAL", ("RMSE – MSC", "EC")], 5.0)
    np.testing.assert_allclose(table.loc["A", ("RMSE – MSC", "EC")], 0.0, atol=1e-12)


def test_months_of_which_less_is_valid_are_left_out_of_the_tables():
    """Polar night is missing every winter, and no gap; a month of which a third is there is one, for the sum too."""
    reference = integrals()
    winter = xr.where(reference.time.dt.month.isin([1, 12]), 0.5, 1.0)
    da = reference.assign_coords(valid_fraction=winter.broadcast_like(reference))
    assert evaluate.monthly_table({"EC": da}, reference, metrics=("n",)).to_numpy()[:, 0].tolist() == [60] * 4
    da = da.copy(deep=True)
    da[3, 1], da.valid_fraction[3, 1] = 99, 0.3
    with pytest.warns(UserWarning, match="in 2001 less of B is valid than in other years.*left out of the table"):
        months = evaluate.monthly_table({"EC": da}, reference, metrics=("n", "rmse"))
    assert months.iloc[:, 0].tolist() == [59, 60, 59, 60] and months.iloc[:, 1].abs().max() == 0
    with pytest.warns(UserWarning, match="less of B"):
        assert evaluate.sink_table({"EC": da}, literature=False).loc["EC", "Period"] == "2002–2005"


def test_sink_table_reads_like_table_c1():
    trend = np.arange(10.0) * 0.3 - 3
    wiggle = np.tile([1.0, -1.0], 5)
    da = xr.DataArray(trend + wiggle, dims="year", coords={"year": np.arange(2001, 2011)}, attrs={"units": "PgC yr-1"})
    table = evaluate.sink_table({"mine": da})
    assert table.loc["mine", "Period"] == "2001–2010"
    np.testing.assert_allclose(table.loc["mine", "Land flux mean (PgC yr-1)"], trend.mean())
    slope = np.polyfit(np.arange(10), trend + wiggle, 1)
    expected = (trend + wiggle - np.polyval(slope, np.arange(10))).std(ddof=1)
    np.testing.assert_allclose(table.loc["mine", "IAV magnitude (PgC yr-1)"], expected)
    assert "Ruehr et al. (2023)" in table.index


def test_markdown_marks_the_best():
    table = evaluate.monthly_table({"EC-ATM": integrals(0.1), "EC": integrals(-1.0)}, integrals(0.0, 1.1))
    text = evaluate.markdown(table)
    row = next(line for line in text.splitlines() if line.startswith("| A"))
    cells = [c.strip() for c in row.split("|")[2:-1]]
    wins = [c.startswith("**") for c in cells]
    for heading, place in (("RMSE – MSC", [6, 7]),):
        values = table.loc["A", heading].to_numpy()
        assert [wins[i] for i in place] == [v == values.min() for v in values]


# ------------------------------------------------------------------ towers
def towers(sites=12, days=365, seed=0, noise=1.0):
    rng = np.random.default_rng(seed)
    site = xr.DataArray(np.repeat([f"S{i:02d}" for i in range(sites)], days), dims="sample", name="site")
    time = xr.DataArray(
        np.tile(np.arange("2003-01-01", "2004-01-01", dtype="datetime64[D]")[:days], sites).astype("datetime64[ns]"),
        dims="sample",
    )
    season = -2 * np.cos(2 * np.pi * (time.dt.dayofyear - 200) / 365)
    level = xr.DataArray(np.repeat(rng.standard_normal(sites), days), dims="sample")
    observed = (season + level + noise * rng.standard_normal(site.size)).assign_attrs(units="gC m-2 d-1")
    return observed, site, time, season, level


def test_tower_scores_equal_scikit_learn_by_group():
    metrics = pytest.importorskip("sklearn.metrics")
    observed, site, _, season, level = towers()
    predicted = (0.9 * season + level).where(xr.DataArray(RNG.random(site.size) > 0.1, dims="sample"))
    overall = evaluate.tower_scores(observed, predicted, site)
    keep = predicted.notnull().values
    np.testing.assert_allclose(overall.r2, metrics.r2_score(observed[keep], predicted[keep]), rtol=1e-12)
    np.testing.assert_allclose(overall.rmse, metrics.root_mean_squared_error(observed[keep], predicted[keep]))
    assert int(overall.n) == keep.sum() and int(overall.sites) == 12
    by = evaluate.tower_scores(observed, predicted, site, by=site)
    chosen = keep & (site.values == "S03")
    np.testing.assert_allclose(by.r2.sel(site="S03"), metrics.r2_score(observed[chosen], predicted[chosen]), rtol=1e-10)
    members = xr.concat([predicted, predicted + 1], "member")
    assert evaluate.tower_scores(observed, members, site, by=site).rmse.dims == ("member", "site")


def test_paired_difference_is_reproducible_and_finds_a_real_difference():
    observed, site, _, season, level = towers(30)
    good, bad = season + level, season + level + 1.0
    first, again = (evaluate.paired_difference(observed, bad, good, site, n_boot=400, seed=3) for _ in range(2))
    xr.testing.assert_identical(first, again)
    assert float(first.high) < 0 and float(first.difference) < 0 and float(first.share_below_zero) == 1
    np.testing.assert_allclose(
        first.difference,
        evaluate.tower_scores(observed, good, site).rmse - evaluate.tower_scores(observed, bad, site).rmse,
        rtol=1e-12,
    )
    same = evaluate.paired_difference(observed, good, good, site, n_boot=50)
    assert float(same.low) == float(same.high) == 0
    other = evaluate.paired_difference(observed, bad, good, site, n_boot=400, seed=4)
    assert float(other.low) != float(first.low)
    with pytest.raises(ValueError, match="at least two sites"):
        evaluate.paired_difference(observed[:10], good[:10], bad[:10], site[:10])


def test_paired_difference_resamples_sites_not_days():
    observed, site, *_ = towers(6, noise=0.0)
    shift = xr.DataArray(np.where(site.values == "S00", 3.0, 0.0), dims="sample")
    result = evaluate.paired_difference(observed, observed, observed + shift, site, n_boot=2000)
    assert float(result.low) == 0.0  # the one site that differs is absent from a third of the draws


def test_tower_components_find_the_part_that_is_wrong():
    observed, site, time, season, level = towers(20, noise=0.5)
    perfect = evaluate.tower_components(observed, observed, site, time)
    np.testing.assert_allclose(perfect.rmse, 0, atol=1e-12)
    assert perfect.component.values.tolist() == ["daily", "seasonal", "anomalies", "between_sites"]
    without_level = evaluate.tower_components(observed, season, site, time)
    assert float(without_level.r2.sel(component="seasonal")) > 0.95
    assert float(without_level.r2.sel(component="between_sites")) < 0.1
    flat = evaluate.tower_components(observed, level, site, time)
    assert float(flat.r2.sel(component="between_sites")) > 0.95
    assert float(flat.r2.sel(component="seasonal")) < 0.1


def test_tower_table_and_groups():
    observed, site, time, season, level = towers(20)
    igbp = xr.DataArray(np.where(site.values < "S07", "EBF", "GRA"), dims="sample")
    table = evaluate.tower_table(observed, {"EC": season, "EC-ATM": season + level}, site, time, {"IGBP": igbp})
    assert ("IGBP", "EBF") in table.index and ("time scale", "anomalies") in table.index
    expected = evaluate.tower_scores(observed, season, site, by=igbp.rename("igbp"))
    np.testing.assert_allclose(table.loc[("IGBP", "GRA"), ("RMSE", "EC")], expected.rmse.sel(igbp="GRA"))
    assert "time scale" in evaluate.markdown(table)
    parts = evaluate.tower_components(observed, season, site, time, by=igbp.rename("igbp"))
    assert parts.rmse.dims == ("igbp", "component")


def test_towers_in_other_units_are_converted():
    observed, site, time, season, level = towers(4)
    other = (season + level).assign_attrs(units="gC m-2 d-1")
    in_mol = (other / 12.011 / 86400 * 1e6).assign_attrs(units="umol m-2 s-1")
    expected = evaluate.tower_scores(observed, other, site)
    xr.testing.assert_allclose(evaluate.tower_scores(observed, in_mol, site), expected)
    assert abs(float(evaluate.paired_difference(observed, other, in_mol, site, 20).difference)) < 1e-9
    np.testing.assert_allclose(evaluate.tower_components(observed, in_mol, site, time).rmse[0], expected.rmse)


def test_tower_errors_name_the_array():
    observed, site, *_ = towers(2)
    with pytest.raises(ValueError, match="predicted has 5 entries along 'sample', observed has 730"):
        evaluate.tower_scores(observed, observed[:5], site)
    with pytest.raises(ValueError, match="site has no dim 'sample'"):
        evaluate.tower_scores(observed, observed, site.rename(sample="row"))

"""``.flux``: thin methods, and a stand-in for a variable of that name."""

import copy
import inspect
import pickle
import pydoc
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xflux
from xflux import accessor, bridge, evaluate, forward, plot, regions, temporal
from xflux.cells import cell_area, regrid
from xflux.shadow import Shadow


@pytest.fixture
def ds() -> xr.Dataset:
    time = pd.date_range("2001-01-01", periods=24, freq="MS")
    values = np.random.default_rng(0).normal(size=(24, 3, 4))
    coords = {"time": time, "lat": [-30.0, 0.0, 30.0], "lon": [0.0, 30.0, 60.0, 90.0]}
    attrs = {"units": "gC m-2 d-1", "area_basis": "land"}
    return xr.Dataset({"flux": (("time", "lat", "lon"), values, attrs), "other": ("time", np.arange(24.0))}, coords)


@pytest.fixture
def plain(ds) -> xr.Dataset:
    return ds.rename(flux="nee")


# --- the methods ---
FUNCTIONS = {
    "aggregate_regions": regions.aggregate_regions,
    "annual": temporal.annual,
    "annual_anomalies": temporal.annual_anomalies,
    "bridge_stability": bridge.bridge_stability,
    "cell_area": cell_area,
    "convert_units": temporal.convert_units,
    "fit_bridge": bridge.fit_bridge,
    "interannual_variability": temporal.interannual_variability,
    "mean_seasonal_cycle": temporal.mean_seasonal_cycle,
    "predict": forward.predict,
    "regrid": regrid,
    "score": evaluate.score,
    "to_dataframe": regions.to_dataframe,
    "trend": temporal.trend,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_methods_are_their_functions_to_help_and_completion(name):
    method, function = getattr(accessor.DatasetFlux, name), FUNCTIONS[name]
    bound = inspect.signature(getattr(xr.Dataset().flux, name))
    assert list(bound.parameters.values()) == list(inspect.signature(function).parameters.values())[1:]
    assert inspect.getdoc(method) == inspect.getdoc(function)
    assert all(p in pydoc.render_doc(getattr(xr.Dataset().flux, name)) for p in bound.parameters)


@pytest.mark.parametrize("name", ["map", "regions", "seasonal_cycle", "annual", "scatter"])
def test_plots_take_what_their_function_takes(name):
    ours = list(inspect.signature(getattr(accessor.FluxPlots, name)).parameters.values())[1:]
    theirs = {p.name: p for p in inspect.signature(getattr(plot, name)).parameters.values()}
    assert {p.name for p in ours} - {"reference"} == set(theirs) - {"observed", "predicted", *list(theirs)[:1]}
    for p in ours:
        if p.name != "reference":
            assert (p.kind, p.default) == (theirs[p.name].kind, theirs[p.name].default)


@pytest.mark.slow
def test_type_checkers_know_the_parameters(tmp_path):
    api = pytest.importorskip("mypy.api", reason="mypy is not installed")
    code = """
import xarray as xr, xflux
from xflux import DataArrayFlux, DatasetFlux
da, ds = DataArrayFlux(xr.DataArray()), DatasetFlux(xr.Dataset())
da.aggregate_regions("reccap2", units="PgC yr-1", include_global=True)
ds.predict(xflux.wrap(len, ["x"], "gC m-2 d-1"), members="mean")
da.plot.map(vmin=0.0)
da.aggregate_regions("reccap2", unit="PgC yr-1")
da.annual(complete="yes")
da.plot.map(colour=1)
"""
    (tmp_path / "use.py").write_text(code)
    found = api.run(["--ignore-missing-imports", "--follow-imports=silent", str(tmp_path / "use.py")])[0]
    assert [int(line.split(":")[1]) for line in found.splitlines() if ": error:" in line] == [8, 9, 10], found


def test_both_accessors_offer_the_contract():
    shared = {
        "bridge_stability",
        "convert_units",
        "cell_area",
        "regrid",
        "aggregate_regions",
        "mean_seasonal_cycle",
        "annual",
        "annual_anomalies",
        "interannual_variability",
        "score",
        "fit_bridge",
        "plot",
        "to_dataframe",
        "to_monthly",
        "trend",
    }
    da, ds = xr.DataArray(0.0), xr.Dataset()
    assert {n for n in dir(da.flux) if not n.startswith("_")} == shared
    assert {n for n in dir(ds.flux) if not n.startswith("_")} == shared | {"predict"}


def test_methods_give_what_the_functions_give(plain):
    da = plain.nee
    xr.testing.assert_identical(da.flux.annual(), temporal.annual(da))
    xr.testing.assert_identical(plain.flux.annual(), temporal.annual(plain))
    xr.testing.assert_identical(da.flux.annual_anomalies(detrend=False), temporal.annual_anomalies(da, False))
    xr.testing.assert_identical(da.flux.mean_seasonal_cycle(), temporal.mean_seasonal_cycle(da))
    xr.testing.assert_identical(da.flux.convert_units("kgC m-2 s-1"), temporal.convert_units(da, "kgC m-2 s-1"))
    xr.testing.assert_identical(da.flux.cell_area(radius=1.0), cell_area(da, 1.0))
    xr.testing.assert_identical(da.flux.score(da + 1, dim="time"), evaluate.score(da, da + 1))
    assert float(da.flux.score(da, dim=None).rmse) == 0


def test_the_accessor_holds_only_the_object(plain):
    first = plain.flux
    assert vars(first) == {"_obj": plain}
    plain["gpp"] = plain.nee.copy()
    assert set(first.annual().data_vars) == {"nee", "gpp"}  # cached, but not stale
    del plain["gpp"]
    assert set(plain.flux.annual().data_vars) == {"nee"}
    assert plain.isel(time=slice(12)).flux.annual().sizes["time"] == 1
    again = pickle.loads(pickle.dumps(plain))
    xr.testing.assert_identical(again.flux.annual(), plain.flux.annual())
    assert copy.copy(plain).flux._obj is not plain
    assert copy.deepcopy(plain.flux).annual().identical(plain.flux.annual())
    assert pickle.loads(pickle.dumps(plain.nee.flux)).annual().identical(plain.nee.flux.annual())


def test_a_flux_that_comes_later_is_seen(plain):
    early = plain.flux
    plain["flux"] = plain.nee * 2
    xr.testing.assert_identical(early + 0, plain["flux"] + 0)
    del plain["flux"]
    with pytest.raises(TypeError, match="no variable 'flux'"):
        early + 0


# --- without a variable of that name ---
def test_the_accessor_is_not_data(plain):
    for obj in (plain, plain.nee):
        for use in (
            lambda o: o.flux + 1,
            lambda o: 1 - o.flux,
            lambda o: o.flux[0],
            lambda o: o.flux > 0,
            lambda o: np.asarray(o.flux),
            lambda o: np.sin(o.flux),
            lambda o: list(o.flux),
            lambda o: len(o.flux),
            lambda o: 1 in o.flux,
            lambda o: float(o.flux),
            lambda o: xr.apply_ufunc(np.square, o.flux),
            lambda o: xr.Dataset().assign(x=o.flux),
            lambda o: xr.Dataset({"x": o.flux}),
            lambda o: o.flux.__setattr__("name", 1),
        ):
            with pytest.raises(TypeError, match=r"has no variable 'flux', and \.flux is xflux's accessor"):
                use(obj)
        with pytest.raises(AttributeError, match=r"no attribute 'annul'; it has aggregate_regions, annual"):
            obj.flux.annul  # noqa: B018
        assert bool(obj.flux)
        assert obj.flux == obj.flux
        assert "aggregate_regions" in repr(obj.flux)
        assert obj.flux._repr_html_() is None
        assert not isinstance(obj.flux, xr.DataArray)
        assert isinstance(obj.flux, accessor.FluxAccessor)


# --- a variable named flux ---
BINARY = [
    lambda v: v + 1,
    lambda v: 1 + v,
    lambda v: v - 1,
    lambda v: 1 - v,
    lambda v: v * 2,
    lambda v: 2 * v,
    lambda v: v / 2,
    lambda v: 2 / v,
    lambda v: v // 2,
    lambda v: 2 // v,
    lambda v: v % 2,
    lambda v: 2 % v,
    lambda v: v**2,
    lambda v: 2**v,
    lambda v: v > 0,
    lambda v: v >= 0,
    lambda v: v < 0,
    lambda v: v <= 0,
    lambda v: v == v[0],
    lambda v: v != v[0],
    lambda v: (v > 0) & (v < 1),
    lambda v: (v > 0) | (v < -1),
    lambda v: (v > 0) ^ (v > 1),
    lambda v: ~(v > 0),
    lambda v: -v,
    lambda v: +v,
    lambda v: abs(v),
    lambda v: v.round(1),
    lambda v: v @ v,
    lambda v: np.float64(2) * v,
    lambda v: np.ones((24, 3, 4)) * v,
    lambda v: v.variable + v,
    lambda v: v + v.variable,
]
INDEXING = [
    lambda v: v[0],
    lambda v: v[..., 1:],
    lambda v: v[{"lat": 1}],
    lambda v: v.isel(lat=0),
    lambda v: v.sel(lat=30),
    lambda v: v.loc["2001-03"],
    lambda v: v["time"],
    lambda v: v.lat,
    lambda v: v.where(v > 0),
    lambda v: list(v)[3],
    lambda v: v.time.dt.month,
    lambda v: v.coords["lon"],
]
ATTRIBUTES = [
    lambda v: v.values.sum(),
    lambda v: v.data.shape,
    lambda v: v.attrs,
    lambda v: v.dims,
    lambda v: v.shape,
    lambda v: v.dtype,
    lambda v: v.name,
    lambda v: v.units,
    lambda v: v.mean().item(),
    lambda v: len(v),
    lambda v: "time" in v.coords,
    lambda v: 0.5 in v,
    lambda v: float(v.sum()),
    lambda v: int(v.sum()),
    lambda v: bool(v.sum() > -1e9),
    lambda v: f"{v.sum():.3f}",
    lambda v: complex(v.sum()),
    lambda v: repr(v),
    lambda v: v.to_series().sum(),
    lambda v: dict(v.sizes),
    lambda v: v._repr_html_()[:20],
]
NUMPY = [
    lambda v: np.asarray(v),
    lambda v: np.array(v),
    lambda v: np.sin(v),
    lambda v: np.add(v, v),
    lambda v: np.mean(v),
    lambda v: np.sum(v),
    lambda v: np.isnan(v),
    lambda v: np.where(v > 0, v, 0),
    lambda v: np.concatenate([v, v]),
    lambda v: np.max(v),
    lambda v: np.maximum(v, 0),
    lambda v: np.asarray(v, dtype="float32"),
    lambda v: np.clip(v, 0, 1),
]
XARRAY = [
    lambda v: xr.where(v > 0, v, 0),
    lambda v: xr.apply_ufunc(np.square, v),
    lambda v: xr.apply_ufunc(np.add, v, v),
    lambda v: xr.concat([v, v], "z"),
    lambda v: xr.dot(v, v),
    lambda v: xr.align(v, v)[0],
    lambda v: xr.broadcast(v, v.lat)[1],
    lambda v: xr.merge([v]),
    lambda v: xr.corr(v, v, "time"),
    lambda v: xr.zeros_like(v),
    lambda v: xr.full_like(v, 3),
    lambda v: xr.Dataset({"x": v}),
    lambda v: xr.DataArray(v),
    lambda v: v.groupby("time.month").mean(),
    lambda v: v.resample(time="YS").mean(),
    lambda v: v.rolling(time=3).mean(),
    lambda v: v.weighted(abs(v.lat)).mean(),
    lambda v: xr.combine_by_coords([v.to_dataset()]),
    lambda v: v.interp(lat=[1.0]),
    lambda v: v.interp_like(v),
    lambda v: v.pipe(lambda x: x * 2),
    lambda v: v.copy(deep=True),
    lambda v: xr.polyval(v.lat, xr.DataArray([1.0, 2], dims="degree", coords={"degree": [0, 1]})),
    lambda v: v.groupby(v.time.dt.year).sum(),
    lambda v: v.reindex_like(v),
    lambda v: v.broadcast_like(v),
    lambda v: v.combine_first(v),
    lambda v: v.flux.annual(),
    lambda v: v.sortby("lat"),
    lambda v: xr.map_blocks(lambda x: x * 2, v),
    lambda v: xr.unify_chunks(v)[0],
]


def same(a, b):
    if isinstance(b, Shadow):  # what hands back its own argument
        b = b[...]
    if isinstance(a, xr.DataArray | xr.Dataset):
        assert type(a) is type(b)
        xr.testing.assert_identical(a, b)
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


@pytest.mark.parametrize("use", [*BINARY, *INDEXING, *ATTRIBUTES, *NUMPY, *XARRAY])
def test_every_use_of_a_variable_named_flux(ds, use):
    same(use(ds["flux"]), use(ds.flux))


def test_it_meets_other_objects(ds):
    v, other = ds["flux"], ds["flux"] * 3
    for expected, got in [
        (other + v, other + ds.flux),
        (v - other, ds.flux - other),
        (ds.flux * 2 - v, v),
        (ds.where(v > 0), ds.where(ds.flux > 0)),
        (ds.assign(x=v), ds.assign(x=ds.flux)),
        (ds.assign(x=lambda d: d["flux"] * 2), ds.assign(x=lambda d: d.flux * 2)),
        (ds.assign_coords(c=v * 1), ds.assign_coords(c=ds.flux * 1)),
        (ds.assign_coords(c=v), ds.assign_coords(c=ds.flux)),
        (ds * v, ds * ds.flux),
        (other.where(v > 0, v), other.where(ds.flux > 0, ds.flux)),
        (other.fillna(v), other.fillna(ds.flux)),
        (ds.groupby(v[:, 0, 0] > 0).mean(), ds.groupby(ds.flux[:, 0, 0] > 0).mean()),
        (ds.merge(v.rename("y").to_dataset()), ds.merge(ds.flux.rename("y").to_dataset())),
        (other.sel(time=v.time[3]), other.sel(time=ds.flux.time[3])),
        (other.isin(v), other.isin(ds.flux)),
        (ds.drop_vars("flux").assign(flux=v), ds.drop_vars("flux").assign(flux=ds.flux)),
    ]:
        same(expected, got)


def test_setting_items_in_a_dataset_stores_the_variable(ds):
    ds["copy"] = ds.flux
    ds.coords["c"] = ds.flux
    assert ds["copy"].dtype == float
    assert ds["copy"].dims == ("time", "lat", "lon")
    assert all(v.dtype != object for v in ds.variables.values())
    with pytest.raises(AttributeError, match="'flux' is read-only"):
        ds.flux = ds.flux * 2  # as in xarray itself


def test_it_writes_through(ds):
    ds.flux[0, 0, 0] = 99.0
    ds.flux.loc["2001-02", -30.0, 0.0] = 98.0
    ds.flux.attrs["long_name"] = "Flux"
    ds.flux.encoding["dtype"] = "float32"
    held = ds.flux
    held += 1
    assert ds["flux"][0, 0, 0] == 100
    assert ds["flux"][1, 0, 0] == 99
    assert ds["flux"].attrs["long_name"] == "Flux"
    assert ds["flux"].encoding["dtype"] == "float32"
    ds.flux.values = np.zeros((24, 3, 4))
    assert float(abs(ds["flux"]).max()) == 0


def test_the_accessors_own_methods_stay_beside_it(ds):
    yearly = ds.flux.annual()
    assert isinstance(yearly, xr.Dataset)
    xr.testing.assert_allclose(yearly["flux"], temporal.annual(ds["flux"]).rename(valid_fraction="flux_valid_fraction"))
    assert ds.flux.cell_area().dims == ("lat", "lon")
    assert ds.flux.convert_units("kgC m-2 s-1")["flux"].attrs["units"] == "kgC m-2 s-1"
    assert {"annual", "values", "isel", "predict"} <= set(dir(ds.flux))
    assert isinstance(ds.flux, xr.DataArray)
    assert isinstance(ds.flux, accessor.DatasetFlux)


def test_copies_pickles_and_dask(ds):
    import dask

    xr.testing.assert_identical(copy.copy(ds.flux), ds["flux"])
    xr.testing.assert_identical(copy.deepcopy(ds.flux), ds["flux"])
    xr.testing.assert_identical(pickle.loads(pickle.dumps(ds.flux)) + 0, ds["flux"] + 0)
    ds.flux  # cached on the object  # noqa: B018
    xr.testing.assert_identical(pickle.loads(pickle.dumps(ds)), ds)
    lazy = ds.chunk(time=6)
    assert dask.is_dask_collection(lazy.flux)
    same(ds["flux"], dask.compute(lazy.flux)[0])
    assert (lazy.flux * 2).chunks is not None
    same(ds["flux"], lazy.flux.compute())


def test_a_hidden_coordinate(plain):
    ds = plain.assign_coords(flux=("time", np.arange(24.0)))
    same(ds["flux"] * 2, ds.flux * 2)
    same(ds.nee.coords["flux"] * 2, ds.nee.flux * 2)
    assert ds.nee.flux.annual().attrs["units"] == "gC m-2 d-1"


def test_openghg_style_use(ds):
    """As in openghg_inversions: ``emds.data.flux.values``."""
    assert ds.flux.values.shape == (24, 3, 4)
    np.testing.assert_array_equal(ds.flux.values, ds["flux"].values)
    assert ds.flux.isel(time=0).values.mean() == ds["flux"][0].values.mean()


# --- figures ---
def test_plot_is_xarrays_own_when_called(ds, plain):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for data in (ds.flux, plain.nee.flux):
        assert len(data.plot()) == 3  # a histogram: counts, bins, patches
        plt.close("all")
    ds.isel(time=0).flux.plot.pcolormesh()
    assert ds.isel(lat=0, lon=0).flux.plot.line()
    plt.close("all")
    with pytest.raises(AttributeError, match="no_such_plot"):
        ds.flux.plot.no_such_plot()


def test_plot_figures(ds, plain):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for flux in (ds.flux, plain.flux, plain.nee.flux):
        assert flux.plot.map(title="t").get_title() == "t"
        plt.close("all")
    regional = xr.DataArray(np.ones((24, 2)), {"time": ds.time, "region": ["A", "B"]}, ("time", "region"), name="nee")
    regional = (regional * np.arange(1, 25)[:, None]).assign_attrs(units="PgC month-1")
    for draw in (
        regional.flux.annual().flux.plot.regions,
        regional.flux.plot.seasonal_cycle,
        regional.isel(region=0).flux.plot.annual,
        lambda: regional.flux.plot.scatter(regional + 0.1),
    ):
        assert draw() is not None
        plt.close("all")


# --- the package ---
def test_public_names():
    for name in xflux.__all__:
        assert callable(getattr(xflux, name)), name
    assert xflux.evaluate is evaluate
    assert callable(xflux.synthetic.earth)
    assert {"train", "evaluate", "load_model"} <= set(dir(xflux))
    with pytest.raises(AttributeError, match="module 'xflux' has no attribute 'nothing'"):
        xflux.nothing  # noqa: B018


@pytest.mark.parametrize(
    "use", ["from xflux import train", "import xflux; xflux.train", "import xflux; xflux.load_model('x')"]
)
def test_torch_is_asked_for_by_name_when_it_is_missing(use):
    code = f"import sys; sys.modules['torch'] = None\n{use}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode != 0
    assert 'pip install "xflux[train]"' in done.stderr

"""The state of the process is what it was: after any function, in one thread or eight, on dask's threads, in a fork."""

import ast
import decimal
import gc
import hashlib
import locale
import logging
import multiprocessing
import os
import pickle
import random
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from copy import copy, deepcopy
from functools import cache
from pathlib import Path

import dask
import distributed  # noqa: F401 (its settings come with it)
import numpy as np
import pytest
import xarray as xr
from sklearn.cluster import KMeans
from train_world import DRIVERS, world

import xflux
from xflux import adjust, cells, drivers, evaluate, forward, regions, synthetic, temporal, towers, units
from xflux.extras import is_there

TORCH, FIGURES = is_there("torch"), is_there("matplotlib")
THREADS = 8
NEEDS = {"torch": TORCH, "matplotlib": FIGURES}


# ------------------------------------------------------------------------------------------------------- the state
def state() -> dict:
    """What the whole process shares, of every library that xflux works with."""
    found = {
        "xarray": dict(xr.get_options()),
        "filters": list(warnings.filters),
        "showwarning": warnings.showwarning,
        "numpy errors": np.geterr(),
        "numpy print": np.get_printoptions(),
        "numpy random": _digest(np.random.get_state()),  # noqa: NPY002
        "random": _digest(random.getstate()),
        "dask": deepcopy(dask.config.config),
        "cf_xarray.units": "cf_xarray.units" in sys.modules,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "decimal": repr(decimal.getcontext()),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable),
        "collector": (gc.isenabled(), gc.get_threshold()),
        "recursion": sys.getrecursionlimit(),
        "hooks": (sys.excepthook, threading.excepthook),
        "output": (sys.stdout, sys.stderr),
    }
    if "pint" in sys.modules:
        found["pint"] = id(sys.modules["pint"].get_application_registry().get())
    if "pandas" in sys.modules:
        found["pandas"] = repr(sys.modules["pandas"].options.d)
    if "numba" in sys.modules:
        found["numba"] = sys.modules["numba"].get_num_threads()
    return found | _of_torch() | _of_matplotlib()


def _of_torch() -> dict:
    if "torch" not in sys.modules:
        return {}
    torch = sys.modules["torch"]
    with ThreadPoolExecutor(1) as pool:  # a new thread takes the process's number of threads
        new = pool.submit(torch.get_num_threads).result()
    return {
        "torch threads": (torch.get_num_threads(), new),
        "torch random": _digest(torch.get_rng_state().numpy().tobytes()),
        "torch type": torch.get_default_dtype(),
        "torch gradients": torch.is_grad_enabled(),
        "torch deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _of_matplotlib() -> dict:
    if "matplotlib" not in sys.modules:
        return {}
    matplotlib = sys.modules["matplotlib"]
    return {"rcParams": dict(matplotlib.rcParams), "backend": matplotlib.get_backend(auto_select=False)}


def _digest(value) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


def assert_same(before: dict, after: dict) -> None:
    changed = {k: (v, after[k]) for k, v in before.items() if after[k] != v}
    assert not changed


# ----------------------------------------------------------------------------------------------- the public functions
@cache
def small():
    return world(step=15.0, samples=240, sites=6)


@cache
def flux() -> xr.DataArray:
    """(time, lat, lon) gC m-2 d-1, single precision, with gaps."""
    rng, grid = np.random.default_rng(0), small().grid
    time = xr.date_range("2015-01-01", periods=24, freq="MS")
    values = rng.normal(size=(24, grid.sizes["lat"], grid.sizes["lon"])).astype("float32")
    values[:, 0, 0] = np.nan
    axes = {"time": time, "lat": grid["lat"], "lon": grid["lon"]}
    return xr.DataArray(values, axes, list(axes), "nee", {"units": "gC m-2 d-1", "area_basis": "cell"})


@cache
def mask() -> xr.DataArray:
    return xr.zeros_like(flux()[0], dtype=int).drop_vars("time").drop_attrs()


def few(da):
    return da.isel(lat=slice(4, 8), lon=slice(0, 5))


@cache
def bridge():
    return few(flux()).flux.fit_bridge(few(mask()), r2=0.5)


@cache
def fitted():
    from xflux import train

    return train.fit(small().towers, DRIVERS, config=train.TrainConfig(folds=2, max_epochs=1))


def constrained():
    from xflux import train

    top = train.RegionalConstraint(small().target, small().grid, regions=small().weights)
    config = train.TrainConfig(folds=2, max_epochs=1, validation_years=1)
    return train.fit(small().towers, DRIVERS, constraints=[top], config=config)


def predicted_rows():
    return xflux.wrap(lambda rows: rows[:, 0] - rows[:, 1], DRIVERS, "gC m-2 d-1")


def both(da):
    return xr.concat([da, da * 2], "member").assign_attrs(da.attrs)


def fire(da):
    return abs(da).assign_attrs(units="gC m-2 d-1")


def sites():
    return small().towers.assign_coords(time=("sample", np.datetime64("2015-01-01") + np.arange(240)))


def observed(da):
    rows = small().towers
    return rows["nee"], rows["nee"] * 0.9, rows["site"]


FUNCTIONS = {
    "convert_units": lambda da: da.flux.convert_units("kgCO2 m-2 s-1"),
    "cell_area": lambda da: da.flux.cell_area(),
    "aggregate_regions": lambda da: da.flux.aggregate_regions("reccap2", units="PgC month-1", include_global=True),
    "aggregate_regions mask": lambda da: da.flux.aggregate_regions(mask(), units="PgC yr-1", freq="YS"),
    "region_weights": lambda da: xflux.region_weights(da.isel(time=0), "countries"),
    "regional_budget": lambda da: xflux.regional_budget(both(da), "latitude-bands"),
    "to_monthly": lambda da: da.flux.to_monthly(),
    "annual": lambda da: da.flux.annual(),
    "mean_seasonal_cycle": lambda da: da.flux.mean_seasonal_cycle(),
    "annual_anomalies": lambda da: da.flux.annual_anomalies(),
    "interannual_variability": lambda da: da.flux.interannual_variability(),
    "time_bounds": lambda da: temporal.time_bounds(da),
    "score": lambda da: da.flux.score(da * 1.1),
    "fit_bridge": lambda da: few(da).flux.fit_bridge(few(mask()), r2=0.5),
    "bridge_stability": lambda da: few(da).flux.bridge_stability(few(mask()), trials=2, r2=0.5),
    "bridge.predict": lambda da: bridge().predict(da),
    "bridge.diagnose": lambda da: bridge().diagnose(few(da), warn=False),
    "predict": lambda da: small().grid.chunk(lat=2).flux.predict(predicted_rows()),
    "applicability": lambda da: forward.applicability(small().grid, small().towers, DRIVERS),
    "remove_fire": lambda da: adjust.remove_fire(da, fire(da)),
    "add_rivers": lambda da: adjust.add_rivers(da, fire(da)),
    "seasonal_cycle": lambda da: drivers.seasonal_cycle(da),
    "fill_gaps": lambda da: drivers.fill_gaps(da),
    "fill_nearest": lambda da: drivers.fill_nearest(da.to_dataset(), xr.ones_like(mask(), dtype=bool), max_distance=9),
    "potential_radiation": lambda da: drivers.potential_radiation(da["lat"], time=da["time"]),
    "colocate": lambda da: xflux.colocate(sites(), da.to_dataset(name="Tair"), max_distance=1e5),
    "site_folds": lambda da: towers.site_folds(small().towers, 3),
    "tower_scores": lambda da: evaluate.tower_scores(*observed(da)),
    "paired_difference": lambda da: evaluate.paired_difference(observed(da)[0], *observed(da), n_boot=20),
    "cells.edges": lambda da: cells.edges(da["lat"]),
    "units.factor": lambda da: units.factor(units.parse("gC m-2 d-1"), units.parse("umolCO2 m-2 s-1")),
    "products": lambda da: xflux.products(),
    "clear_cache": lambda da: regions.clear_cache(),
    "fit": lambda da: fitted.__wrapped__(),
    "fit with a constraint": lambda da: constrained(),
    "FluxModel.predict": lambda da: small().grid.chunk(lat=2).flux.predict(fitted(), members="mean"),
    "plot.map": lambda da: drawn(da.mean("time", keep_attrs=True).flux.plot.map),
    "plot.annual": lambda da: drawn(da.mean(("lat", "lon"), keep_attrs=True).flux.plot.annual),
    "plot.seasonal_cycle": lambda da: drawn(da.mean(("lat", "lon"), keep_attrs=True).flux.plot.seasonal_cycle),
    "plot.scatter": lambda da: drawn(da.flux.plot.scatter, da * 2),
}
NEEDED = {"fit": "torch", "fit with a constraint": "torch", "FluxModel.predict": "torch"}
NEEDED |= {name: "matplotlib" for name in FUNCTIONS if name.startswith("plot.")}
EVERY = [
    pytest.param(
        function,
        id=name,
        marks=pytest.mark.skipif(
            name in NEEDED and not NEEDS[NEEDED[name]], reason=f"{NEEDED.get(name)} is not installed"
        ),
    )
    for name, function in FUNCTIONS.items()
]


def drawn(draw, *arguments):
    from matplotlib.figure import Figure

    return draw(*arguments, ax=Figure().add_subplot())


# ------------------------------------------------------------------------------------------------------------ tests
@pytest.mark.parametrize("function", EVERY)
def test_state_after_one_thread(function):
    result(function(flux()))  # what it needs is imported and compiled
    before = state()
    with dask.config.set(scheduler="synchronous"):
        result(function(flux()))
        result(function(flux().chunk(time=12, lat=6)))
    assert_same(before, state())


@pytest.mark.parametrize("function", EVERY)
@pytest.mark.filterwarnings("ignore")
def test_state_after_eight_threads_and_on_dasks(function):
    lazy = flux().chunk(time=12, lat=6)
    result(function(flux()))
    before = state()
    barrier = threading.Barrier(THREADS)

    def one(number):
        barrier.wait(60)
        result(function(lazy if number % 2 else flux()))

    with dask.config.set(scheduler="threads", num_workers=4), ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, range(THREADS)))
    after = state()
    for kept in ("filters", "showwarning"):  # which dask, pandas and xarray themselves leave changed in threads
        before.pop(kept)
    assert_same(before, after)


def result(found):
    return found.compute() if hasattr(found, "compute") else found


@pytest.mark.skipif(not TORCH, reason="torch is not installed")
def test_fits_that_overlap_give_back_torchs_threads():
    import torch

    from xflux.train.fused import threads_for_kernels

    found, before = [], torch.get_num_threads()
    first_is_in, second_is_in = threading.Event(), threading.Event()

    def first():
        with threads_for_kernels():
            first_is_in.set()
            second_is_in.wait(60)
        found.append(torch.get_num_threads())

    def second(one):
        first_is_in.wait(60)
        with threads_for_kernels():
            second_is_in.set()
            one.join(60)  # the first ends while this one runs
        found.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        one = threading.Thread(target=first)
        other = threading.Thread(target=second, args=(one,))
        for thread in (one, other):
            thread.start()
        other.join(60)
        with ThreadPoolExecutor(1) as pool:
            assert [*found, torch.get_num_threads(), pool.submit(torch.get_num_threads).result()] == [2] * 4
    finally:
        torch.set_num_threads(before)


PROCESS_WIDE = {
    "set_options", "catch_warnings", "simplefilter", "filterwarnings", "seterr", "setlocale", "chdir", "putenv",
    "set_default_dtype", "manual_seed_all", "setrecursionlimit", "set_application_registry", "basicConfig", "umask",
}  # fmt: skip


# The command line is a process of its own: how warnings look there is its affair.
SHARED = sorted(p for p in Path(xflux.__file__).parent.rglob("*.py") if p.name != "cli.py")


@pytest.mark.parametrize("path", SHARED, ids=lambda p: p.stem)
def test_no_function_sets_what_the_process_shares(path):
    calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    names = {f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "") for f in calls}
    assert not names & PROCESS_WIDE, f"{names & PROCESS_WIDE}: other threads of the process see it"


# --------------------------------------------------------------------------------------------------------- in a fork
FORKED = ("aggregate_regions", "mean_seasonal_cycle", "fit_bridge", "predict", "fit", "bridge_stability")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("name", [n for n in FORKED if n not in NEEDED or NEEDS[NEEDED[n]]])
def test_state_in_a_forked_child(name):
    function = FUNCTIONS[name]
    lazy = flux().chunk(time=12, lat=6)
    result(function(flux()))
    result(function(lazy))  # the parent has used threads of its own, dask's, and OpenMP's
    KMeans(4, n_init=1).fit(np.random.default_rng(0).normal(size=(5000, 5)))

    def child():
        def own():  # what a new thread takes torch itself counts anew in a forked process
            found = state()
            del found["filters"]  # xarray and dask catch warnings in threads of their own, which leaks in Python 3.11
            return found | {"torch threads": found.get("torch threads", ())[:1]}

        before = own()
        result(function(flux()))
        result(function(lazy))
        assert_same(before, own())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(600)
    if process.is_alive():
        process.kill()
    assert process.exitcode == 0


# ------------------------------------------------------------------------------------------- copies of what is public
@cache
def objects() -> dict:
    da = flux()
    hidden = da.rename("flux").to_dataset()
    made = {
        "da.flux": da.flux, "ds.flux": da.to_dataset().flux, "ds.flux, a variable": hidden.flux,
        "da.flux.plot": da.flux.plot, "ds.flux.plot": hidden.flux.plot, "bridge": bridge(), "units": units.parse("gC"),
        "wrapped": xflux.wrap(np.sum, DRIVERS, "gC m-2 d-1"), "weights": xflux.region_weights(da[0], "reccap2"),
        "earth": synthetic.earth(resolution=20, years=1, towers=4),
    }  # fmt: skip
    if TORCH:
        from xflux import train

        top = train.RegionalConstraint(small().target, small().grid, regions=small().weights)
        made |= {"model": fitted(), "config": train.TrainConfig(), "constraint": top}
    return made


def pickled(given):
    return pickle.loads(pickle.dumps(given))


@pytest.mark.parametrize("copied", [copy, deepcopy, pickled])
def test_everything_public_can_be_copied_and_pickled(copied):
    for name, given in objects().items():
        made = copied(given)
        assert isinstance(made, type(given) if name != "ds.flux, a variable" else xr.DataArray), name
    np.testing.assert_array_equal(copied(bridge()).predict(flux()), bridge().predict(flux()))
    assert copied(flux().flux).annual().equals(flux().flux.annual())
    assert copied(objects()["earth"]).land_fraction.equals(objects()["earth"].land_fraction)


# ------------------------------------------------------------------------------------------------------------- memory
def test_weights_that_are_remembered_are_few_and_can_be_dropped():
    from xflux.regions import weights

    regions.clear_cache()
    first = flux().flux.aggregate_regions("reccap2", units="PgC yr-1", freq="YS")
    for number in range(17):
        moved = flux()[:12].assign_coords(lon=flux()["lon"] + number / 2)
        moved.flux.aggregate_regions("latitude-bands", units="PgC yr-1", freq="YS")
    assert 1 < len(weights._memory) <= 16
    regions.clear_cache()
    assert not weights._memory
    xr.testing.assert_identical(flux().flux.aggregate_regions("reccap2", units="PgC yr-1", freq="YS"), first)


def test_loops_are_compiled_where_nothing_can_be_kept(monkeypatch):
    """The package's folder and the home are read-only, as in a container."""
    from numba.core import caching

    from xflux.compile import njit

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="no locator available"):
        caching.FunctionCache(next_number)
    assert njit()(next_number)(1) == 2


def next_number(number):
    return number + 1

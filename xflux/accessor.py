"""``.flux`` on DataArray and on Dataset: one line a method, each to the function of the same name."""

import operator
from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import xarray as xr

from . import grid, temporal


class FluxAccessor:
    """What both accessors share. Holds the object and nothing else, since xarray caches it on the object.

    Where the object has a variable or coordinate named ``flux``, which the accessor's name hides, the accessor stands in
    for it: attributes, operators, indexing, iteration and NumPy's protocols act on the variable, and ``isinstance`` takes
    it for the DataArray, so that ``assign``, ``apply_ufunc`` and ``concat`` do the same.
    """

    def __init__(self, obj: xr.DataArray | xr.Dataset) -> None:
        object.__setattr__(self, "_obj", obj)

    # --- units, grid, regions -------------------------------------------------------------------------------------
    def convert_units(self, units: str) -> xr.DataArray | xr.Dataset:
        """Convert fluxes to other units, months by their true length: :func:`xflux.temporal.convert_units`."""
        return temporal.convert_units(self._obj, units)

    def cell_area(self, radius: float = grid.RADIUS) -> xr.DataArray:
        """Area of the cells in m2, dims (lat, lon): :func:`xflux.grid.cell_area`."""
        return grid.cell_area(self._obj, radius)

    def aggregate_regions(
        self,
        regions: Any,
        units: str = "PgC month-1",
        freq: str | None = None,
        land_fraction: xr.DataArray | None = None,
        include_global: bool = False,
    ) -> xr.DataArray | xr.Dataset:
        """Integrals over regions (…, time, region): :func:`xflux.regions.aggregate_regions`."""
        from .regions import aggregate_regions

        return aggregate_regions(self._obj, regions, units, freq, land_fraction, include_global)

    # --- time -----------------------------------------------------------------------------------------------------
    def to_monthly(self) -> xr.DataArray | xr.Dataset:
        """Calendar months: means of rates, sums of amounts: :func:`xflux.temporal.to_monthly`."""
        return temporal.to_monthly(self._obj)

    def annual(self, *, complete: bool = False) -> xr.DataArray | xr.Dataset:
        """Calendar years: means of rates, sums of amounts: :func:`xflux.temporal.annual`."""
        return temporal.annual(self._obj, complete=complete)

    def mean_seasonal_cycle(self) -> xr.DataArray | xr.Dataset:
        """Mean of every calendar month, dim ``month``: :func:`xflux.temporal.mean_seasonal_cycle`."""
        return temporal.mean_seasonal_cycle(self._obj)

    def annual_anomalies(self, detrend: bool = True) -> xr.DataArray | xr.Dataset:
        """Annual values less mean or trend: :func:`xflux.temporal.annual_anomalies`."""
        return temporal.annual_anomalies(self._obj, detrend)

    def interannual_variability(self, detrend: bool = True, ddof: int = 0) -> xr.DataArray | xr.Dataset:
        """Standard deviation of the annual anomalies: :func:`xflux.temporal.interannual_variability`."""
        return temporal.interannual_variability(self._obj, detrend, ddof)

    # --- evaluation, bridge, figures ------------------------------------------------------------------------------
    def score(self, reference: xr.DataArray | xr.Dataset, dim: str | Iterable[Hashable] | None = "time") -> xr.Dataset:
        """n, bias, rmse, r, nse and nnse against a reference: :func:`xflux.evaluate.score`."""
        from .evaluate import score

        return score(self._obj, reference, dim)

    def fit_bridge(
        self,
        regions: Any,
        r2: float = 0.95,
        seed: int = 0,
        land_fraction: xr.DataArray | None = None,
        **options: Any,
    ):
        """Sparse linear map from pixels to region integrals: :func:`xflux.bridge.fit_bridge`."""
        from .bridge import fit_bridge

        return fit_bridge(self._obj, regions, r2, seed, land_fraction, **options)

    @property
    def plot(self) -> "FluxPlots":
        """Figures: ``map``, ``regions``, ``seasonal_cycle``, ``annual``, ``scatter``."""
        return FluxPlots(self)

    # --- standing in for a variable named flux ----------------------------------------------------------------------
    @property
    def _variable(self) -> xr.DataArray | None:
        return self._obj["flux"] if "flux" in self._obj.coords else None

    def _hidden(self, what: str) -> xr.DataArray:
        variable = self._variable
        if variable is None:
            kind = type(self._obj).__name__
            raise TypeError(
                f"{what}: this {kind} has no variable 'flux', and .flux is xflux's accessor, not data; use the {kind} "
                f"itself or one of the methods {', '.join(_public(type(self)))}."
            )
        return variable

    @property
    def __class__(self) -> type:
        return type(self) if self._variable is None else xr.DataArray

    def __getattr__(self, name: str) -> Any:
        variable = None if name == "_obj" else self._variable
        if variable is None:
            raise AttributeError(
                f"{type(self).__name__!r} has no attribute {name!r}; .flux has the methods {', '.join(_public(type(self)))}."
            )
        return getattr(variable, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._hidden(f"cannot set {name!r}"), name, value)

    def __dir__(self) -> list[str]:
        variable = self._variable
        return sorted({*_public(type(self)), *(dir(variable) if variable is not None else ())})

    def __repr__(self) -> str:
        variable = self._variable
        if variable is not None:
            return repr(variable)
        return f"<{type(self).__name__}: {', '.join(_public(type(self)))}>"

    def _repr_html_(self) -> str | None:
        variable = self._variable
        return None if variable is None else variable._repr_html_()

    def __reduce__(self):
        return type(self), (self._obj,)

    def __copy__(self):
        return self._hidden("copy").copy(deep=False)

    def __deepcopy__(self, memo: dict):
        return self._hidden("deepcopy").copy(deep=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._hidden("np.asarray").values, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        unwrap = [i._hidden(ufunc.__name__) if isinstance(i, FluxAccessor) else i for i in inputs]
        return getattr(ufunc, method)(*unwrap, **kwargs)

    def __getitem__(self, key: Any) -> xr.DataArray:
        return self._hidden("indexing")[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._hidden("assignment")[key] = value

    def __iter__(self):
        return iter(self._hidden("iteration"))

    def __len__(self) -> int:
        return len(self._hidden("len"))

    def __contains__(self, item: Any) -> bool:
        return item in self._hidden("in")

    __hash__ = None


def _public(cls: type) -> list[str]:
    return [name for name in dir(cls) if not name.startswith("_")]


def _forward(name: str, symbol: Any):
    """A special method, which Python looks up on the class, that acts on the variable ``flux``."""

    def method(self: FluxAccessor, *others: Any) -> Any:
        variable = self._hidden(name.strip("_"))
        return symbol(variable, *(o._hidden(name) if isinstance(o, FluxAccessor) else o for o in others))

    method.__name__ = name
    return method


def _reflected(symbol: Any):
    return lambda variable, other: symbol(other, variable)


for _name in (
    "add",
    "sub",
    "mul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "and_",
    "or_",
    "xor",
    "lshift",
    "rshift",
    "matmul",
):
    _symbol = getattr(operator, _name)
    _bare = _name.rstrip("_")
    setattr(FluxAccessor, f"__{_bare}__", _forward(f"__{_bare}__", _symbol))
    setattr(FluxAccessor, f"__r{_bare}__", _forward(f"__r{_bare}__", _reflected(_symbol)))
for _name in ("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "abs", "invert"):
    setattr(FluxAccessor, f"__{_name}__", _forward(f"__{_name}__", getattr(operator, _name)))
for _name, _symbol in {"bool": bool, "float": float, "int": int, "complex": complex, "round": round}.items():
    setattr(FluxAccessor, f"__{_name}__", _forward(f"__{_name}__", _symbol))


class FluxPlots:
    """``.flux.plot``: figures of :mod:`xflux.plot`; called, it is xarray's own plot of the variable."""

    def __init__(self, accessor: FluxAccessor) -> None:
        self._accessor = accessor

    @property
    def _data(self) -> xr.DataArray | xr.Dataset:
        variable = self._accessor._variable
        return self._accessor._obj if variable is None else variable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._data.plot(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data.plot, name)

    def map(self, ax: Any = None, **options: Any) -> Any:
        """Map without a seam: :func:`xflux.plot.map`."""
        from . import plot

        return plot.map(self._data, ax, **options)

    def regions(self, ax: Any = None, **options: Any) -> Any:
        """Bars by region: :func:`xflux.plot.regions`."""
        from . import plot

        return plot.regions(self._data, ax, **options)

    def seasonal_cycle(self, ax: Any = None, **options: Any) -> Any:
        """Mean seasonal cycle: :func:`xflux.plot.seasonal_cycle`."""
        from . import plot

        return plot.seasonal_cycle(self._data, ax, **options)

    def annual(self, ax: Any = None, **options: Any) -> Any:
        """Annual series: :func:`xflux.plot.annual`."""
        from . import plot

        return plot.annual(self._data, ax, **options)

    def scatter(self, reference: xr.DataArray, ax: Any = None, **options: Any) -> Any:
        """This flux (y) against a reference (x): :func:`xflux.plot.scatter`."""
        from . import plot

        return plot.scatter(reference, self._data, ax, **options)


@xr.register_dataarray_accessor("flux")
class DataArrayFlux(FluxAccessor):
    """``.flux`` of a DataArray."""


@xr.register_dataset_accessor("flux")
class DatasetFlux(FluxAccessor):
    """``.flux`` of a Dataset: acts on its flux variables; with a variable named ``flux`` it is that variable too."""

    @property
    def _variable(self) -> xr.DataArray | None:
        return self._obj["flux"] if "flux" in self._obj.variables else None

    def predict(
        self, model: Any, members: Any = "all", device: str = "auto", time: Any = None, *, interpolate: bool = False
    ) -> xr.DataArray | xr.Dataset:
        """Run a model on a grid of drivers, lazily: :func:`xflux.forward.predict`."""
        from .forward import predict

        return predict(self._obj, model, members, device, time, interpolate=interpolate)

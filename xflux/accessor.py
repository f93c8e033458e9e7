"""``.flux`` on DataArray and on Dataset: every method is the function of the same name, given the object.

The methods are made from their functions, so that ``help``, completion and type checkers know every parameter; a
parameter that a function gains is a parameter of its method.
"""

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import xarray as xr

from xflux import bridge, cells, evaluate, forward, plot, regions, temporal
from xflux.shadow import Shadow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

P = ParamSpec("P")
R = TypeVar("R")


def method(function: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], R]:
    """A method that hands its object to ``function`` as the first argument; signature and docstring are the function's.

    >>> import inspect
    >>> list(inspect.signature(xr.DataArray(0.0).flux.convert_units).parameters)
    ['units']
    """

    @wraps(function)
    def call(self: Any, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return function(self._obj, *args, **kwargs)

    return call


class FluxAccessor(Shadow):
    """The methods that a DataArray and a Dataset share.

    A Dataset's methods act on its flux variables: those whose units are an amount of carbon per time.
    """

    convert_units = method(temporal.convert_units)
    cell_area = method(cells.cell_area)
    regrid = method(cells.regrid)
    aggregate_regions = method(regions.aggregate_regions)
    to_dataframe = method(regions.to_dataframe)
    to_monthly = method(temporal.to_monthly)
    annual = method(temporal.annual)
    mean_seasonal_cycle = method(temporal.mean_seasonal_cycle)
    annual_anomalies = method(temporal.annual_anomalies)
    interannual_variability = method(temporal.interannual_variability)
    trend = method(temporal.trend)
    score = method(evaluate.score)
    fit_bridge = method(bridge.fit_bridge)
    bridge_stability = method(bridge.bridge_stability)

    @property
    def plot(self) -> "FluxPlots":
        """Figures: ``map``, ``regions``, ``seasonal_cycle``, ``annual``, ``scatter``; called, xarray's own.

        >>> sink = xr.DataArray([-2.0, -4.0], {"year": [2001, 2002]}, name="nee", attrs={"units": "PgC yr-1"})
        >>> ax = sink.flux.plot.annual(title="Land sink")
        >>> ax.get_title(), ax.get_ylabel()
        ('Land sink', 'NEE (PgC yr$^{-1}$)')
        """
        return FluxPlots(self._obj if self._flux is None else self._flux)


class FluxPlots:
    """``.flux.plot``: the figures of :mod:`xflux.plot`; all else is xarray's own ``.plot`` of the data.

    Parameters
    ----------
    data
        A DataArray, or a Dataset with one flux.

    Examples
    --------
    >>> nee = xr.DataArray([-0.4, 0.1], {"region": ["EU", "BRA"]}, name="nee", attrs={"units": "PgC yr-1"})
    >>> ax = nee.flux.plot.regions()
    >>> ax.get_xlabel(), [tick.get_text() for tick in ax.get_yticklabels()]
    ('NEE (PgC yr$^{-1}$)', ['EU', 'BRA'])
    """

    def __init__(self, data: xr.DataArray | xr.Dataset) -> None:
        self._obj = data

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._obj.plot(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # copy and pickle ask before there is an object
            raise AttributeError(name)
        return getattr(self._obj.plot, name)

    map = method(plot.map)
    regions = method(plot.regions)
    seasonal_cycle = method(plot.seasonal_cycle)
    annual = method(plot.annual)

    def scatter(
        self,
        reference: xr.DataArray,
        ax: "Axes | None" = None,
        *,
        title: str | None = None,
        quantity: str | None = None,
        limits: tuple[float, float] | None = None,
        gridsize: int = 70,
        fit: bool = True,
        colourbar: bool | None = None,
    ) -> "Axes":
        """Density of these values against observed ones.

        Parameters
        ----------
        reference
            The observed values, as ``observed`` of :func:`xflux.plot.scatter`; its errors too.
        ax, title, quantity, limits, gridsize, fit, colourbar
            Those of that function.

        Examples
        --------
        >>> import numpy as np
        >>> nee = xr.DataArray(np.arange(9.0), dims="sample", name="nee", attrs={"units": "gC m-2 d-1"})
        >>> ax = (nee + 0.5).assign_attrs(nee.attrs).flux.plot.scatter(nee)
        >>> ax.texts[0].get_text().splitlines()[0]
        'RMSE 0.50 gC m$^{-2}$ d$^{-1}$'
        """
        look = {"title": title, "quantity": quantity, "limits": limits, "gridsize": gridsize}
        return plot.scatter(reference, self._obj, ax, **look, fit=fit, colourbar=colourbar)


@xr.register_dataarray_accessor("flux")
class DataArrayFlux(FluxAccessor):
    """``.flux`` of a DataArray: units, regions, time, scores, bridge and figures of one flux.

    >>> xr.DataArray(1.0, attrs={"units": "kgC m-2 d-1"}).flux.convert_units("gC m-2 d-1").item()
    1000.0
    """


@xr.register_dataset_accessor("flux")
class DatasetFlux(FluxAccessor):
    """``.flux`` of a Dataset: the same for its flux variables, and the forward run of a model on its drivers.

    Where the Dataset has a variable named ``flux``, it acts for that variable too (:mod:`xflux.shadow`).

    >>> ds = xr.Dataset({"nee": ((), 1.0, {"units": "kgC m-2 d-1"}), "tair": ((), 20.0, {"units": "degC"})})
    >>> ds.flux.convert_units("gC m-2 d-1")["nee"].item()
    1000.0
    """

    predict = method(forward.predict)

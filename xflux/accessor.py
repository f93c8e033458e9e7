"""``.flux`` on DataArray and on Dataset: one line a method, each to the function of the same name."""

from collections.abc import Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import xarray as xr

from . import evaluate, forward, temporal
from .bridge import Bridge, bridge_stability, fit_bridge
from .cells import RADIUS, cell_area
from .regions import aggregate_regions
from .shadow import Shadow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class FluxAccessor(Shadow):
    """The methods that a DataArray and a Dataset share.

    A Dataset's methods act on its flux variables: those whose units are an amount of carbon per time.
    """

    def convert_units(self, units: str) -> xr.DataArray | xr.Dataset:
        """Fluxes in other units, months and years by their true length: :func:`xflux.temporal.convert_units`.

        >>> nee = xr.DataArray([1.0, -2.0], dims="site", attrs={"units": "umolCO2 m-2 s-1"})
        >>> nee.flux.convert_units("gC m-2 d-1").values.round(2).tolist()
        [1.04, -2.08]
        """
        return temporal.convert_units(self._obj, units)

    def cell_area(self, radius: float = RADIUS) -> xr.DataArray:
        """Area of the cells in m2, dims (lat, lon): :func:`xflux.cells.cell_area`.

        >>> grid = xr.Dataset(coords={"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]})
        >>> area = grid.flux.cell_area()
        >>> area.dims, round(area.sum().item() / 1e12), area.attrs["units"]
        (('lat', 'lon'), 510, 'm2')
        """
        return cell_area(self._obj, radius)

    def aggregate_regions(
        self,
        regions: Any,
        units: str = "PgC month-1",
        freq: str | None = None,
        land_fraction: xr.DataArray | None = None,
        include_global: bool = False,
    ) -> xr.DataArray | xr.Dataset:
        """Integrals over regions, (…, time, region): :func:`xflux.regions.aggregate_regions`.

        >>> axes = {"lat": [-45.0, 45.0], "lon": [-90.0, 90.0]}
        >>> nee = xr.DataArray([[-1.0, -1.0], [-1.0, -1.0]], axes, attrs={"units": "gC m-2 yr-1", "area_basis": "cell"})
        >>> sums = nee.flux.aggregate_regions("latitude-bands", units="PgC yr-1", include_global=True)
        >>> sums.dims, sums.sel(region="GLOBAL").round(3).item()
        (('region',), -0.51)
        """
        return aggregate_regions(self._obj, regions, units, freq, land_fraction, include_global)

    def to_monthly(self) -> xr.DataArray | xr.Dataset:
        """Calendar months, means of rates and sums of amounts: :func:`xflux.temporal.to_monthly`.

        >>> time = xr.date_range("2001-01-01", "2001-02-28", freq="D")
        >>> nee = xr.DataArray(time.month, {"time": time}, attrs={"units": "gC m-2 d-1"})
        >>> nee.flux.to_monthly().values.tolist()
        [1.0, 2.0]
        """
        return temporal.to_monthly(self._obj)

    def annual(self, *, complete: bool = False) -> xr.DataArray | xr.Dataset:
        """Calendar years, means of rates and sums of amounts: :func:`xflux.temporal.annual`.

        >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
        >>> nee = xr.DataArray([-1.0] * 12 + [-2.0] * 12, {"time": time}, attrs={"units": "gC m-2 d-1"})
        >>> nee.flux.annual().values.tolist()
        [-1.0, -2.0]
        """
        return temporal.annual(self._obj, complete=complete)

    def mean_seasonal_cycle(self) -> xr.DataArray | xr.Dataset:
        """Mean of every calendar month, dim ``month``: :func:`xflux.temporal.mean_seasonal_cycle`.

        >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
        >>> nee = xr.DataArray(time.month, {"time": time}, attrs={"units": "gC m-2 d-1"})
        >>> cycle = nee.flux.mean_seasonal_cycle()
        >>> cycle.dims, cycle.sel(month=7).item()
        (('month',), 7.0)
        """
        return temporal.mean_seasonal_cycle(self._obj)

    def annual_anomalies(self, detrend: bool = True) -> xr.DataArray | xr.Dataset:
        """Annual values less their mean or trend: :func:`xflux.temporal.annual_anomalies`.

        >>> time = xr.date_range("2001-01-01", periods=4, freq="YS")
        >>> sink = xr.DataArray([-2.0, -4.0, -2.0, -4.0], {"time": time}, attrs={"units": "PgC yr-1"})
        >>> sink.flux.annual_anomalies(detrend=False).values.tolist()
        [1.0, -1.0, 1.0, -1.0]
        """
        return temporal.annual_anomalies(self._obj, detrend)

    def interannual_variability(self, detrend: bool = True, ddof: int = 0) -> xr.DataArray | xr.Dataset:
        """Standard deviation of the annual anomalies: :func:`xflux.temporal.interannual_variability`.

        >>> time = xr.date_range("2001-01-01", periods=4, freq="YS")
        >>> sink = xr.DataArray([-2.0, -4.0, -2.0, -4.0], {"time": time}, attrs={"units": "PgC yr-1"})
        >>> sink.flux.interannual_variability(detrend=False).item()
        1.0
        """
        return temporal.interannual_variability(self._obj, detrend, ddof)

    def score(
        self,
        reference: xr.DataArray,
        dim: str | Iterable[Hashable] | None = "time",
        *,
        weights: xr.DataArray | None = None,
        allow_contents: Iterable[str] = (),
    ) -> xr.Dataset:
        """n, bias, rmse, r, nse and nnse against a reference: :func:`xflux.evaluate.score`.

        >>> reference = xr.DataArray([1.0, 2.0, 3.0], dims="time")
        >>> found = (reference + 0.5).flux.score(reference)
        >>> found.bias.item(), found.r.item(), found.nse.item()
        (0.5, 1.0, 0.625)
        """
        return evaluate.score(self._obj, reference, dim, weights=weights, allow_contents=allow_contents)

    def fit_bridge(
        self,
        regions: Any,
        r2: float = 0.95,
        seed: int = 0,
        land_fraction: xr.DataArray | None = None,
        *,
        var: str | None = None,
        area_basis: str | None = None,
        window: int | None = 2,
        normalise: bool = True,
        candidates: int = 300,
        clusters: int | None = None,
        landmarks: int = 600,
        positive: bool = False,
        refit: bool = False,
        target: str = "flux",
        month_lengths: bool = True,
        folds: int = 5,
    ) -> Bridge:
        """Sparse linear map from few pixels to regional integrals: :func:`xflux.bridge.fit_bridge`.

        >>> axes = {"time": xr.date_range("2001-01-01", periods=6, freq="MS"), "lat": [5.0, -5.0], "lon": [0.0]}
        >>> nee = xr.DataArray([[[i], [0.01 * i]] for i in range(6)], axes)
        >>> nee = nee.assign_attrs(units="gC m-2 d-1", area_basis="cell")
        >>> bridge = nee.flux.fit_bridge(xr.zeros_like(nee[0], dtype=int), r2=0.9)
        >>> bridge.pixels.sizes["pixel"], bridge.pixels.lat.values.tolist()
        (1, [5.0])
        """
        distance = {"window": window, "normalise": normalise}
        drawing = {"candidates": candidates, "clusters": clusters, "landmarks": landmarks}
        lasso = {"positive": positive, "refit": refit, "target": target, "month_lengths": month_lengths, "folds": folds}
        what = {"land_fraction": land_fraction, "var": var, "area_basis": area_basis}
        return fit_bridge(self._obj, regions, r2, seed, **what, **distance, **drawing, **lasso)

    def bridge_stability(
        self,
        regions: Any,
        trials: int = 1000,
        r2: float = 0.95,
        seed: int = 0,
        land_fraction: xr.DataArray | None = None,
        *,
        path: Any = None,
        batch: int = 50,
        var: str | None = None,
        area_basis: str | None = None,
        window: int | None = 2,
        normalise: bool = True,
        candidates: int = 300,
        clusters: int | None = None,
        landmarks: int = 600,
        positive: bool = False,
        target: str = "flux",
        month_lengths: bool = True,
    ) -> xr.Dataset:
        """How often every pixel is selected in many random draws: :func:`xflux.bridge.bridge_stability`.

        >>> axes = {"time": xr.date_range("2001-01-01", periods=6, freq="MS"), "lat": [5.0, -5.0], "lon": [0.0]}
        >>> nee = xr.DataArray([[[i], [0.01 * i]] for i in range(6)], axes)
        >>> nee = nee.assign_attrs(units="gC m-2 d-1", area_basis="cell")
        >>> found = nee.flux.bridge_stability(xr.zeros_like(nee[0], dtype=int), trials=20, r2=0.9)
        >>> found["count"].values.tolist(), found.drawn.values.tolist()
        ([[12.0], [8.0]], [[12.0], [8.0]])
        """
        distance = {"window": window, "normalise": normalise}
        drawing = {"candidates": candidates, "clusters": clusters, "landmarks": landmarks}
        lasso = {"positive": positive, "target": target, "month_lengths": month_lengths}
        what = {"land_fraction": land_fraction, "var": var, "area_basis": area_basis, "path": path, "batch": batch}
        return bridge_stability(self._obj, regions, trials, r2, seed, **what, **distance, **drawing, **lasso)

    @property
    def plot(self) -> "FluxPlots":
        """Figures: ``map``, ``regions``, ``seasonal_cycle``, ``annual``, ``scatter``; called, xarray's own.

        >>> import matplotlib.pyplot as plt
        >>> sink = xr.DataArray([-2.0, -4.0], {"year": [2001, 2002]}, name="nee", attrs={"units": "PgC yr-1"})
        >>> ax = sink.flux.plot.annual(title="Land sink")
        >>> ax.get_title(), ax.get_ylabel()
        ('Land sink', 'NEE (PgC yr$^{-1}$)')
        >>> plt.close(ax.figure)
        """
        return FluxPlots(self)


class FluxPlots:
    """``.flux.plot``: the figures of :mod:`xflux.plot`; all else is xarray's own ``.plot`` of the data.

    >>> import matplotlib.pyplot as plt
    >>> nee = xr.DataArray([-0.4, 0.1], {"region": ["EU", "BRA"]}, name="nee", attrs={"units": "PgC yr-1"})
    >>> ax = nee.flux.plot.regions()
    >>> ax.get_xlabel(), [tick.get_text() for tick in ax.get_yticklabels()]
    ('NEE (PgC yr$^{-1}$)', ['EU', 'BRA'])
    >>> plt.close(ax.figure)
    """

    def __init__(self, accessor: FluxAccessor) -> None:
        variable = accessor._flux
        self._data = accessor._obj if variable is None else variable

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._data.plot(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data.plot, name)

    def map(
        self,
        ax: "Axes | None" = None,
        *,
        projection: str = "equal-earth",
        title: str | None = None,
        label: str | None = None,
        vmin: float | None = None,
        vmax: float | None = None,
        centre: float | None = None,
        cmap: str | None = None,
        coast: bool | str = True,
        colourbar: bool = True,
    ) -> "Axes":
        """Map of (lat, lon) without a seam: :func:`xflux.plot.map`."""
        from . import plot

        limits = {"vmin": vmin, "vmax": vmax, "centre": centre, "cmap": cmap}
        words = {"projection": projection, "title": title, "label": label}
        return plot.map(self._data, ax, **words, **limits, coast=coast, colourbar=colourbar)

    def regions(
        self,
        ax: "Axes | None" = None,
        *,
        spread: str = "std",
        title: str | None = None,
        quantity: str | None = None,
        label: str | None = None,
        legend: bool = True,
    ) -> "Axes":
        """Bars by region: :func:`xflux.plot.regions`."""
        from . import plot

        return plot.regions(self._data, ax, spread=spread, title=title, quantity=quantity, label=label, legend=legend)

    def seasonal_cycle(
        self,
        ax: "Axes | None" = None,
        *,
        regions: Iterable[str] | None = None,
        columns: int | None = None,
        spread: str = "std",
        title: str | None = None,
        quantity: str | None = None,
        legend: bool = True,
    ) -> "Axes | Figure":
        """Mean seasonal cycle with its spread, one panel a region: :func:`xflux.plot.seasonal_cycle`."""
        from . import plot

        panels = {"regions": regions, "columns": columns}
        return plot.seasonal_cycle(
            self._data, ax, **panels, spread=spread, title=title, quantity=quantity, legend=legend
        )

    def annual(
        self,
        ax: "Axes | None" = None,
        *,
        errors: Mapping[str, xr.DataArray | float] | None = None,
        spread: str = "std",
        title: str | None = None,
        quantity: str | None = None,
        legend: bool = True,
    ) -> "Axes":
        """Annual series with its spread: :func:`xflux.plot.annual`."""
        from . import plot

        return plot.annual(self._data, ax, errors=errors, spread=spread, title=title, quantity=quantity, legend=legend)

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
        """Density of these values against a reference (the observed ones): :func:`xflux.plot.scatter`."""
        from . import plot

        look = {"title": title, "quantity": quantity, "limits": limits, "gridsize": gridsize}
        return plot.scatter(reference, self._data, ax, **look, fit=fit, colourbar=colourbar)


@xr.register_dataarray_accessor("flux")
class DataArrayFlux(FluxAccessor):
    """``.flux`` of a DataArray: units, regions, time, scores, bridge and figures of one flux."""


@xr.register_dataset_accessor("flux")
class DatasetFlux(FluxAccessor):
    """``.flux`` of a Dataset: the same for its flux variables, and the forward run of a model on its drivers.

    Where the Dataset has a variable named ``flux``, it acts for that variable too (:mod:`xflux.shadow`).
    """

    def predict(
        self, model: Any, members: Any = "all", device: str = "auto", time: Any = None, *, interpolate: bool = False
    ) -> xr.DataArray | xr.Dataset:
        """Fluxes that a model gives on these drivers, lazily: :func:`xflux.forward.predict`.

        >>> import xflux
        >>> grid = xr.Dataset({"tair": (("month", "lat", "lon"), [[[1.0, 2.0]]])}, {"month": [7]})
        >>> nee = grid.flux.predict(xflux.wrap(lambda rows: -rows[:, 0], ["tair"], "gC m-2 d-1"))
        >>> nee.dims, nee.attrs["units"], nee.values.tolist()
        (('month', 'lat', 'lon'), 'gC m-2 d-1', [[[-1.0, -2.0]]])
        """
        return forward.predict(self._obj, model, members, device, time, interpolate=interpolate)

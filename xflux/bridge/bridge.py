"""The bridge: a sparse linear map from the flux at few pixels to every region's integral (paper, Sect. 3.3 and 3.5)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xflux import regions as region_sets
from xflux.bridge.files import load, save
from xflux.bridge.inspect import composition, diagnose, html, plot_diagnosis, readable
from xflux.bridge.samples import Rate, integral_rates, monthly_rate, nearest_cells, take_regions
from xflux.cells import same_grid
from xflux.contents import check_sign, riding
from xflux.extras import require
from xflux.temporal.calendar import MEAN_MONTH
from xflux.temporal.riding import RIDING, in_real_dates
from xflux.units import factor, usual_amount
from xflux.values import checked


@dataclass(frozen=True, eq=False)
class Bridge:
    """A fitted bridge.

    Attributes
    ----------
    pixels
        Dataset, dim pixel: ``region``, ``lat``, ``lon``, ``weight`` (PgC month-1 per gC m-2 d-1, for the mean month of
        30.436875 d), ``lat_halfwidth`` and ``lon_halfwidth`` (degrees; half a cell of the grid it was fitted on).
    regions
        Dataset by region: ``intercept`` (PgC month-1, mean month), ``alpha`` (Eq. 1's), ``r2``, ``r2_cv``,
        ``r2_anomaly``, ``n_pixels``, ``land_area`` (m2) and more; ``status`` is "ok", "unreached" (no α reaches R²:
        least squares on all that there is), "constant" (the intercept alone) or "no valid pixels" (predictions NaN).
    weights
        Region weights (region, lat, lon) m2 of the grid it was fitted on: what the full integral is made with.
    attrs
        The fit's options and provenance.

    Examples
    --------
    >>> import xflux
    >>> nee = xflux.synthetic.earth(resolution=30.0, years=2, towers=2).bottom_up
    >>> bridge = nee.flux.fit_bridge(["EU", "BRA"], r2=0.9)
    >>> bridge.pixels.sizes["pixel"], bridge.regions.status.values.tolist()
    (4, ['ok', 'ok'])
    >>> bridge.predict(nee).dims, bridge.predict(nee).attrs["units"]
    (('time', 'region'), 'PgC month-1')
    >>> bridge.diagnose(nee)["holds"].values, bool((xr.corr(bridge.full(nee), bridge.predict(nee), "time") > 0.9).all())
    (array([ True,  True]), True)
    >>> bridge.composition(xr.ones_like(nee["nee"][0]).expand_dims(pft=["forest"]))["land_share"].sel(region="EU").data
    array([1.])
    >>> dict(bridge.operator(["BRA"])["weight"].sizes), bridge.plot().get_title()
    ({'region': 1, 'pixel': 1}, '4 contributing pixels')
    >>> bridge.plot_diagnosis(nee).get_xlabel()
    'Full integral (PgC month$^{-1}$)'
    """

    pixels: xr.Dataset
    regions: xr.Dataset
    weights: xr.DataArray
    attrs: dict[str, Any] = field(default_factory=dict)

    @property
    def month_lengths(self) -> bool:
        """Whether predictions are scaled with the month's length (False: the paper's literal Eq. 7)."""
        return bool(self.attrs.get("month_lengths", True))

    def operator(self, regions: Sequence[str] | None = None) -> xr.Dataset:
        """The bridge as arrays, for a program that runs a model at the pixels only (Eq. 7).

        Parameters
        ----------
        regions
            Which, and in what order; None: all.

        Returns
        -------
        xr.Dataset
            ``weight`` (region, pixel) PgC month-1 per gC m-2 d-1, ``intercept`` (region,) PgC month-1, and ``lat``,
            ``lon`` (pixel) without repetition: integral = (weight @ nee + intercept) · days / 30.436875 (the last
            factor only where ``month_lengths``).

        Raises
        ------
        ValueError
            A region that the bridge has not.
        """
        order = list(self.regions["region"].values if regions is None else regions)
        _known_labels(order, self.regions["region"].values)
        place = np.stack([self.pixels["lat"].values, self.pixels["lon"].values], axis=1).reshape(-1, 2)
        chosen = np.isin(self.pixels["region"].values, order)
        unique, index = np.unique(place[chosen], axis=0, return_inverse=True)
        matrix = np.zeros((len(order), len(unique)))
        rows = [order.index(name) for name in self.pixels["region"].values[chosen]]
        np.add.at(matrix, (rows, index.ravel()), self.pixels["weight"].values[chosen])
        return xr.Dataset(
            {
                "weight": (("region", "pixel"), matrix, self.pixels["weight"].attrs),
                "intercept": self.regions["intercept"].sel(region=order).drop_attrs(deep=False),
                "lat": ("pixel", unique[:, 0]),
                "lon": ("pixel", unique[:, 1]),
            },
            {"region": order},
            {"month_lengths": self.month_lengths, "mean_month_days": MEAN_MONTH},
        )

    def predict(
        self, da: xr.DataArray | xr.Dataset, var: str | None = None, *, area_basis: str | None = None
    ) -> xr.DataArray:
        """Regional integrals from the contributing pixels alone; lazy.

        The prediction of the mean month, intercept included, is multiplied by the month's true length / 30.436875. Of a
        month that a daily series covers in part only the days that are there count, as in ``aggregate_regions``. A
        pixel that is NaN makes its region NaN.

        Parameters
        ----------
        da
            (…, time, lat, lon): the same kind of flux in any unit per area and time, monthly or finer (averaged to
            months first), or annual; without a time dim it is the mean month's.
        var
            The flux of a Dataset that has several.
        area_basis
            "land" or "cell", what the flux is per m2 of, where it does not say so itself.

        Returns
        -------
        xr.DataArray
            (…, time, region) PgC month-1 (PgH2O, ZJ); of annual steps the amount of each year, PgC yr-1.

        Raises
        ------
        ValueError
            A pixel lies farther than half a cell (of either grid) from the nearest cell of ``da``; steps are longer
            than a month and no years; the flux is of another kind, sign or area basis than the bridge.
        """
        rate = self._monthly(da, var, area_basis)
        mean_month = self._at_pixels(rate)
        if rate.days is None:
            return _described(mean_month, rate)
        length = rate.days / MEAN_MONTH if self.month_lengths else float(rate.months)
        return _described(mean_month * (length if rate.covered is None else length * rate.covered), rate)

    def _monthly(self, da: xr.DataArray | xr.Dataset, var: str | None, area_basis: str | None = None) -> Rate:
        rate = monthly_rate(da, var, area_basis)
        check_sign(rate.field, {"positive": self.attrs.get("sign") or ""}, ("the field", "the bridge"))
        factor(rate.field.attrs["units"], self.pixels["weight"].attrs["units"].partition(" per ")[2])
        given, own = rate.field.attrs.get("area_basis"), self.attrs.get("area_basis")
        if given and own and given != own:
            raise ValueError(
                f"the field is per area of {given} (attrs['area_basis']), the bridge was fitted per area of {own}: "
                f"coastal pixels would be off by their land fraction. Fit the bridge on a field of the same basis."
            )
        if not rate.months:
            raise ValueError(
                f"steps of {float(rate.days.min()):g} to {float(rate.days.max()):g} days are longer than a month and "
                "no years: pass daily, monthly or annual fields, or a mean without a time dim (the mean month)."
            )
        return rate

    def _at_pixels(self, rate: Rate) -> xr.DataArray:
        """Prediction for the mean month (…, region)."""
        row, column = nearest_cells(self.pixels, rate.source)
        values = rate.field.isel(lat=xr.DataArray(row, dims="pixel"), lon=xr.DataArray(column, dims="pixel"))
        values = checked(values.drop_vars(["lat", "lon"])).astype(float)
        inside = self.pixels["region"].values[:, None] == self.regions["region"].values[None, :]
        labels = {"region": self.regions["region"].values}
        weight = xr.DataArray(inside * self.pixels["weight"].values[:, None], labels, ("pixel", "region"))
        values = values.where(np.isfinite(values))  # an infinite one times the zeros of other regions is no number
        missing = xr.dot(values.isnull().astype(float), xr.DataArray(inside.astype(float), labels, ("pixel", "region")))
        intercept = self.regions["intercept"].reset_coords(drop=True)
        return (xr.dot(values.fillna(0.0), weight, dim="pixel") + intercept).where(missing == 0)

    def full(
        self,
        da: xr.DataArray | xr.Dataset,
        var: str | None = None,
        *,
        regions: Any = None,
        land_fraction: xr.DataArray | None = None,
        area_basis: str | None = None,
    ) -> xr.DataArray:
        """The full integrals that :meth:`predict` approximates, from every pixel.

        They are those of ``aggregate_regions``: a day or month that a cell lacks adds nothing.

        Parameters
        ----------
        da, var, area_basis
            As in :meth:`predict`, and so are the dims and units of what is returned.
        regions, land_fraction
            On another grid than the fit's: those of the fit on that grid, where they were arrays. A named set is drawn
            anew.

        Raises
        ------
        ValueError
            As in :meth:`predict`, but for the distance of pixels; another grid, and no ``regions`` or ``land_fraction``
            for it.
        """
        rate = self._monthly(da, var, area_basis)
        length = MEAN_MONTH if rate.days is None else rate.days if rate.covered is None else rate.days * rate.covered
        whole = integral_rates(rate, self._weights_on(rate, regions, land_fraction)) * length
        return _described(whole, rate).assign_attrs(long_name="regional integral of every pixel")

    def _weights_on(self, rate: Rate, regions: Any, land_fraction: xr.DataArray | None) -> xr.DataArray:
        """The region weights on the field's grid."""
        known = self.regions["region"].values
        if regions is None:
            if same_grid(rate.field, self.weights):
                return region_sets.region_weights(rate.source, self.weights)
            regions = self.attrs.get("regions")
            if regions is None or (self.attrs.get("land_fraction") and land_fraction is None):
                raise ValueError(
                    f"the field's grid {_extent(rate.field)} is not that of the fit {_extent(self.weights)}: "
                    "give regions= (and land_fraction=, where the fit had one) for the field's grid."
                )
        made = region_sets.region_weights(rate.source, regions, self.weights.attrs["area_basis"], land_fraction)
        _known_labels(list(known), made["region"].values)
        return take_regions(made, known)

    def diagnose(
        self,
        da: xr.DataArray | xr.Dataset,
        var: str | None = None,
        *,
        threshold: float | None = None,
        warn: bool = True,
        regions: Any = None,
        land_fraction: xr.DataArray | None = None,
        area_basis: str | None = None,
    ) -> xr.Dataset:
        """Does the bridge still hold for a later field (the post-hoc test of Sect. 3.5)?

        Parameters
        ----------
        da, var, regions, land_fraction, area_basis
            As in :meth:`full`, with its errors.
        threshold
            The R² at which a link holds; None: 0.1 below what the fit reached (at most the R² asked for).
        warn
            Whether to warn of broken links.

        Returns
        -------
        xr.Dataset
            By region, over all months and members: ``r2`` (1 − SSE/SST, so that an offset counts), ``slope`` of
            bridged against full, ``bias`` and ``rmse`` of bridged − full (PgC month-1), ``full`` and ``bridged``
            means, ``n``, and ``holds``: r2 ≥ ``threshold``. A constant region holds while it stays within 1 % of its
            integral; a region without pixels has nothing that could hold: False, without a warning.

        Warns
        -----
        UserWarning
            Where the link of a region is broken; the regions are named.
        """
        full = self.full(da, var, regions=regions, land_fraction=land_fraction, area_basis=area_basis)
        return diagnose(self.regions, self.attrs, self.predict(da, var, area_basis=area_basis), full, threshold, warn)

    def composition(self, pft: xr.DataArray) -> xr.Dataset:
        """Plant types of the contributing pixels and of the land (Fig. B3, B4), by region and in all, as of
        :func:`xflux.bridge.composition`.

        Parameters
        ----------
        pft
            Classes (lat, lon), or shares (pft, lat, lon).

        Raises
        ------
        ValueError
            Other dims; pixels farther than half a cell from the map's nearest cell.
        """
        return composition(self.pixels, self.weights, pft)

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Map of the contributing pixels, sized by weight, on the regions' cells; returns the axes.

        Parameters
        ----------
        ax, **kwargs
            Those of :func:`xflux.plot.bridge`.

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        from xflux import plot

        return plot.bridge(self.pixels, ax=ax, **kwargs)

    def plot_diagnosis(self, da: xr.DataArray | xr.Dataset, var: str | None = None, ax: Any = None) -> Any:
        """Bridged against full integrals, a colour per region; returns the axes.

        Parameters
        ----------
        da, var
            As in :meth:`full`, with its errors.
        ax
            Axes to draw on; by default new ones.

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        require("plot", by="bridge.plot_diagnosis")
        return plot_diagnosis(self.diagnose(da, var, warn=False), self.predict(da, var), self.full(da, var), ax)

    def save(self, path: str | Path) -> None:
        """Write the bridge to one netCDF file; the example of :func:`load_bridge` shows both.

        Parameters
        ----------
        path
            A new file, or that of a bridge, which is replaced.

        Raises
        ------
        FileExistsError
            Something else than a bridge is there.

        Examples
        --------
        >>> import tempfile, xflux
        >>> nee = xflux.synthetic.earth(resolution=30.0, years=2, towers=2).bottom_up
        >>> bridge = nee.flux.fit_bridge(["EU", "BRA"], r2=0.9)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bridge.save(f"{folder}/bridge.nc")
        ...     xflux.load_bridge(f"{folder}/bridge.nc").regions.equals(bridge.regions)
        True
        """
        save(path, self.pixels, self.regions, self.weights, self.attrs)

    def __repr__(self) -> str:
        return readable(self.regions, self.attrs)

    def _repr_html_(self) -> str:
        return html(self.regions, self.attrs)


def _described(integral: xr.DataArray, rate: Rate) -> xr.DataArray:
    """In order (…, time, region), with the attributes of a regional integral."""
    out = integral.transpose(*rate.samples, "region").rename(rate.field.name).drop_attrs(deep=False)
    out = out.assign_coords({name: rate.field[name].variable for name in RIDING if name in rate.field.coords})
    per = f"{usual_amount(rate.field.attrs)} {'month-1' if rate.months == 1 else 'yr-1'}"
    attrs = {"units": per, "long_name": "regional integral through the bridge", **riding(rate.field)}
    return in_real_dates(out.assign_attrs(attrs))


def _known_labels(asked: Sequence[str], known: np.ndarray) -> None:
    missing = [name for name in asked if name not in set(known)]
    if missing:
        raise ValueError(f"regions {missing} are not among {list(known)}.")


def _extent(da: xr.DataArray) -> str:
    return ", ".join(f"{da.sizes[d]} {d} from {float(da[d][0]):g} to {float(da[d][-1]):g}" for d in ("lat", "lon"))


def load_bridge(path: str | Path) -> Bridge:
    """Read a bridge.

    Parameters
    ----------
    path
        A file that :meth:`Bridge.save` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        No file; a damaged one, of another version, or of something else.

    Examples
    --------
    >>> import tempfile, xflux
    >>> nee = xflux.synthetic.earth(resolution=30.0, years=2, towers=2).bottom_up
    >>> bridge = nee.flux.fit_bridge(["EU", "BRA"], r2=0.9)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = bridge.save(f"{folder}/bridge.nc")
    ...     load_bridge(f"{folder}/bridge.nc").pixels.weight.equals(bridge.pixels.weight)
    True
    """
    return Bridge(*load(path))

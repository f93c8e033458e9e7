"""Fitting the bridge, region by region: candidates, the Lasso, its cross-validation (paper, Sect. 3.3)."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr

from xflux import regions as region_sets
from xflux.bridge import lasso
from xflux.bridge.bridge import Bridge
from xflux.bridge.candidates import ALL_PIXELS, LANDMARKS, rounded, spectral_clusters, stratified_draw, z_normalised
from xflux.bridge.samples import (
    CONSTANT,
    EMPTY,
    OK,
    UNREACHED,
    RegionSamples,
    Samples,
    collect,
    monthly_rate,
    region_sums,
)
from xflux.contents import sign
from xflux.display import teller
from xflux.provenance import stamp
from xflux.regions.aggregate import weighing_basis
from xflux.regions.weights import is_weights
from xflux.units import usual_amount, usual_rate
from xflux.values import warn

_log = logging.getLogger("xflux.bridge")


@dataclass(frozen=True)
class FitOptions:
    """How a bridge is fitted.

    Parameters
    ----------
    r2, seed, window, normalise, candidates, clusters, landmarks, positive, refit, target, month_lengths, folds
        As in :func:`fit_bridge`.

    Raises
    ------
    ValueError
        ``r2`` is not between 0 and 1, ``target`` is unknown, ``window`` is negative, or there are fewer than 2
        ``candidates``, ``landmarks`` or ``folds``.

    Examples
    --------
    >>> FitOptions().r2, FitOptions().candidates
    (0.95, 300)
    >>> FitOptions(r2=1.0)
    Traceback (most recent call last):
        ...
    ValueError: r2=1.0 is not between 0 and 1; the paper's is 0.95, and no sparse model has 1.
    """

    r2: float = 0.95
    seed: int = 0
    window: int | None = 2
    normalise: bool = True
    candidates: int = ALL_PIXELS
    clusters: int | None = None
    landmarks: int = LANDMARKS
    positive: bool = False
    refit: bool = False
    target: str = "flux"
    month_lengths: bool = True
    folds: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.r2 < 1:
            raise ValueError(f"r2={self.r2} is not between 0 and 1; the paper's is 0.95, and no sparse model has 1.")
        if self.target not in ("flux", "anomalies"):
            raise ValueError(f"target={self.target!r} is unknown; expected 'flux' or 'anomalies' (deseasonalised).")
        for name in ("candidates", "landmarks", "folds"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name}={getattr(self, name)} is too few; expected at least 2.")
        if self.window is not None and self.window < 0:
            raise ValueError(f"window={self.window} is negative; expected months ≥ 0, or None for no band.")


def fit_bridge(
    da: xr.DataArray | xr.Dataset,
    regions: Any,
    r2: float = 0.95,
    seed: int = 0,
    land_fraction: xr.DataArray | None = None,
    *,
    var: str | None = None,
    area_basis: str | None = None,
    window: int | None = 2,
    normalise: bool = True,
    candidates: int = ALL_PIXELS,
    clusters: int | None = None,
    landmarks: int = LANDMARKS,
    positive: bool = False,
    refit: bool = False,
    target: str = "flux",
    month_lengths: bool = True,
    folds: int = 5,
    progress: bool | Callable[[str], None] = False,
) -> Bridge:
    """Fit the bridge of every region (Eq. 1–3): few pixels whose flux gives the region's integral.

    Parameters
    ----------
    da, var
        A gridded flux of carbon, water or energy per area and time; every dim but lat and lon is a sample (time,
        member × month, …). Shorter than monthly steps are averaged to months first. A Dataset: one flux, or ``var``.
    regions, land_fraction, area_basis
        A name, mask, fractions, polygons or weights, of which the target is made; all three as in
        :func:`xflux.regions.aggregate_regions`.
    r2
        The training R² (1 − SSE/SST) at which α stops.
    seed
        Of the clusters and the draw of candidates; each region has draws of its own.
    window
        DTW's Sakoe–Chiba radius in months, None for none (the paper's form).
    normalise
        z-normalised series in DTW.
    candidates, clusters, landmarks
        Pixels drawn per region, clusters they are drawn from (None: a rule), landmarks of the clustering; see
        :mod:`xflux.bridge.candidates`.
    positive
        Only weights ≥ 0.
    refit
        Least squares on the selected pixels, without the Lasso's shrinkage (``r2`` is then above the target).
    target
        "anomalies": R² of the deseasonalised fluxes has to reach ``r2``, since a seasonal cycle alone ("flux") may
        pass.
    month_lengths
        True: integrals and pixels as mean rates, predictions times the month's length. False: the paper's literal form,
        the integral of a month regressed on its mean rate.
    folds
        Of the cross-validation (α chosen anew in each, the candidates kept): blocks of years, or of members where
        there is no second year; with neither, ``r2_cv`` is NaN.
    progress
        True: a line for each region on standard error. A function is told these lines.

    Raises
    ------
    ValueError
        No flux, or several and no ``var``; no dim of samples; samples that are no months; too few years for
        "anomalies"; an option as in :class:`FitOptions`; regions as in :func:`xflux.regions.aggregate_regions`.

    Warns
    -----
    UserWarning
        Names the regions without a valid pixel, with a constant integral, or whose R² cannot be reached.

    Examples
    --------
    >>> import pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> time = pd.date_range("2001", periods=36, freq="MS")
    >>> nee = xr.DataArray(rng.standard_normal((36, 4, 4)), {"time": time, "lat": [15.0, 5, -5, -15],
    ...     "lon": [0.0, 10, 20, 30]}, ("time", "lat", "lon"), attrs={"units": "gC m-2 d-1", "area_basis": "cell"})
    >>> mask = xr.where(nee.lat > 0, 0, 1) + 0 * nee.lon
    >>> bridge = fit_bridge(nee, mask, r2=0.9)
    >>> bool((bridge.regions.r2 >= 0.9).all()), bridge.predict(nee).dims
    (True, ('time', 'region'))
    """
    opts = FitOptions(
        r2, seed, window, normalise, candidates, clusters, landmarks, positive, refit, target, month_lengths, folds
    )
    start = prepare(da, regions, land_fraction, opts, var=var, area_basis=area_basis)
    samples, fits, tell = start.samples, [], teller(progress, _log)
    if target == "anomalies" and np.unique(samples.month, return_counts=True)[1].max() < 2:
        raise ValueError("target='anomalies' needs every calendar month twice: a second year, or members.")
    for k, label in enumerate(samples.labels):
        fits.append(_fit_region(samples.region(k), samples.steps, opts))
        tell(f"bridge {k + 1}/{len(samples.labels)}: {label}, {fits[-1].summary['status']}")
    bridge = _assemble(fits, start)
    _warn(bridge, opts)
    return bridge


@dataclass(frozen=True)
class Prepared:
    """What a fit starts from: region weights with basis, their land (region,) in m2, samples, units, attributes."""

    weights: xr.DataArray
    land: np.ndarray
    samples: Samples
    units: str
    attrs: dict[str, Any]


def prepare(
    da: xr.DataArray | xr.Dataset,
    regions: Any,
    land_fraction: xr.DataArray | None,
    opts: FitOptions,
    *,
    var: str | None = None,
    area_basis: str | None = None,
) -> Prepared:
    """Monthly rates, region weights, samples and the attributes of a fit."""
    rate = monthly_rate(da, var, area_basis)
    if not rate.samples:
        raise ValueError(f"a bridge needs samples: dims {rate.field.dims}, expected (…, time or month, lat, lon).")
    basis, assumed = weighing_basis(rate.field, regions)
    weights = region_sets.region_weights(rate.source, regions, basis, land_fraction)
    weights = weights.assign_attrs(area_basis=basis)  # weights made earlier may not know theirs
    land = weights
    if weights.attrs["area_basis"] != "land" and not is_weights(regions):
        land = region_sets.region_weights(rate.source, regions, "land", land_fraction)
    samples = collect(rate, weights, month_lengths=opts.month_lengths, folds=opts.folds)
    told = repr(regions) if isinstance(regions, str) else f"<{type(regions).__name__}>"
    attrs = asdict(opts) | {
        "area_basis": None if assumed else basis,
        "regions": regions if isinstance(regions, str) else None,
        "land_fraction": land_fraction is not None,
        "n_samples": len(samples.values),
        "sign": sign(rate.field),
        "provenance": stamp(f"fit_bridge({told}, {opts})"),
    }
    weight_units = f"{usual_amount(rate.field.attrs)} month-1 per {usual_rate(rate.field.attrs)}"
    return Prepared(weights.reset_coords(drop=True), region_sums(land), samples, weight_units, attrs)


@dataclass(frozen=True)
class _RegionFit:
    """Selected pixels (positions among the samples' pixels), their weights and the row of ``bridge.regions``."""

    label: Any
    pixels: np.ndarray
    weight: np.ndarray
    summary: dict[str, Any]


def clusters_of(region: RegionSamples, steps: int, opts: FitOptions) -> np.ndarray:
    """Cluster of each of the region's pixels."""
    series = region.series(steps)
    series = z_normalised(series) if opts.normalise else rounded(series)
    return spectral_clusters(
        series, opts.clusters, window=opts.window, landmarks=opts.landmarks, seed=region.seed(opts.seed)
    )


def draw_candidates(region: RegionSamples, steps: int, opts: FitOptions) -> np.ndarray:
    """The pixels of a region that the Lasso chooses from: all, or where they are too many a draw over the clusters."""
    if region.pixels.size <= opts.candidates:
        return np.arange(region.pixels.size)
    return stratified_draw(clusters_of(region, steps, opts), opts.candidates, region.seed(opts.seed, 1))


def fit_candidates(region: RegionSamples, chosen: np.ndarray, opts: FitOptions) -> lasso.LassoFit:
    """The Lasso on the ``chosen`` pixels of a region."""
    groups = region.month if opts.target == "anomalies" else None
    return lasso.largest_alpha(region.x[:, chosen], region.y, opts.r2, positive=opts.positive, groups=groups)


def _fit_region(region: RegionSamples, steps: int, opts: FitOptions) -> _RegionFit:
    if not region.n_complete or not region.y.size:
        return _without_pixels(region, EMPTY, np.nan)
    if not np.isfinite(lasso.r_squared(region.y, region.y)):
        return _without_pixels(region, CONSTANT, float(region.y.mean()))
    chosen = draw_candidates(region, steps, opts)
    fit = fit_candidates(region, chosen, opts)
    if not fit.reached and chosen.size < region.pixels.size:
        chosen = np.arange(region.pixels.size)
        fit = fit_candidates(region, chosen, opts)
    x, groups = region.x[:, chosen], region.month if opts.target == "anomalies" else None
    if opts.refit:
        fit = lasso.without_shrinkage(fit, x, region.y, positive=opts.positive)
    held_out = lasso.cross_validate(
        x, region.y, region.fold, opts.r2, positive=opts.positive, refit=opts.refit, groups=groups
    )
    return _with_pixels(region, chosen, fit, held_out)


def _with_pixels(region: RegionSamples, chosen: np.ndarray, fit: lasso.LassoFit, held_out: np.ndarray) -> _RegionFit:
    kept = np.flatnonzero(fit.coef)
    x = region.x[:, chosen]
    summary = {
        "intercept": fit.intercept,
        "alpha": fit.alpha,
        "r2": fit.r2,
        "r2_cv": lasso.r_squared(region.y, held_out),
        "r2_anomaly": lasso.r_squared(region.y, fit.predict(x), region.month),
        "r2_cv_anomaly": lasso.r_squared(region.y, held_out, region.month),
        "n_pixels": kept.size,
        "n_candidates": chosen.size,
        "n_valid": region.n_complete,
        "status": OK if fit.reached else UNREACHED,
    }
    return _RegionFit(region.label, region.pixels[chosen[kept]], fit.coef[kept], summary)


def _without_pixels(region: RegionSamples, status: str, intercept: float) -> _RegionFit:
    nothing = dict.fromkeys(("alpha", "r2", "r2_cv", "r2_anomaly", "r2_cv_anomaly"), np.nan)
    counts = {"n_pixels": 0, "n_candidates": 0, "n_valid": region.n_complete}
    summary = {"intercept": intercept, **nothing, **counts, "status": status}
    return _RegionFit(region.label, np.empty(0, int), np.empty(0), summary)


_LONG_NAMES = {
    "intercept": ("value where every pixel is 0, for the mean month", ""),
    "alpha": ("penalty of Eq. 1: sum of squares, in squared integrals, plus alpha times the sum of |weight|", ""),
    "r2": ("training R2, 1 - SSE/SST", "1"),
    "r2_cv": ("R2 of held-out years (or members)", "1"),
    "r2_anomaly": ("training R2 of deseasonalised anomalies", "1"),
    "r2_cv_anomaly": ("R2 of deseasonalised anomalies of held-out years (or members)", "1"),
    "n_pixels": ("contributing pixels", "1"),
    "n_candidates": ("candidate pixels", "1"),
    "n_valid": ("pixels with a value in every sample", "1"),
    "status": ("ok, unreached, constant or no valid pixels", ""),
}


def _assemble(fits: list[_RegionFit], start: Prepared) -> Bridge:
    samples = start.samples
    index = np.concatenate([fit.pixels for fit in fits])
    labels = samples.labels
    pixels = xr.Dataset(
        {
            "region": ("pixel", np.repeat(labels, [fit.pixels.size for fit in fits])),
            "lat": ("pixel", samples.lat[index], {"units": "degrees_north"}),
            "lon": ("pixel", samples.lon[index], {"units": "degrees_east"}),
            "weight": ("pixel", np.concatenate([fit.weight for fit in fits]), {"units": start.units}),
            "lat_halfwidth": ("pixel", samples.half[index, 0]),
            "lon_halfwidth": ("pixel", samples.half[index, 1]),
        }
    )
    table = {}
    for name, (long_name, units) in _LONG_NAMES.items():
        values = np.array([fit.summary[name] for fit in fits])
        table[name] = ("region", values, {"long_name": long_name} | ({"units": units} if units else {}))
    table["intercept"][2]["units"] = start.units.partition(" per ")[0]
    table["land_area"] = ("region", start.land, {"units": "m2"})
    return Bridge(pixels, xr.Dataset(table, {"region": labels}), start.weights, start.attrs)


def _warn(bridge: Bridge, opts: FitOptions) -> None:
    status = bridge.regions["status"].values
    labels = bridge.regions["region"].values
    advice = {
        EMPTY: "have no pixel with a value in every sample; their predictions are NaN",
        CONSTANT: "have a constant integral; their prediction is that constant",
        UNREACHED: f"do not reach R² {opts.r2}: their bridge is least squares on all there is; lower r2=, allow more "
        "candidates= or drop positive=",
    }
    for state, words in advice.items():
        named = [
            str(label) if state != UNREACHED else f"{label} ({bridge.regions['r2'].sel(region=label).item():.3f})"
            for label in labels[status == state]
        ]
        if named:
            warn(f"fit_bridge: regions {', '.join(named)} {words}.")

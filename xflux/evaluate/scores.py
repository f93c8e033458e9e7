"""Scores of one labelled array against another, NaN in pairs, weighted or not, lazy on dask."""

from collections.abc import Hashable, Iterable

import numpy as np
import xarray as xr

from xflux.cells.match import match_labels
from xflux.contents import sign
from xflux.evaluate.moments import moments
from xflux.evaluate.pairs import align_pair


def check_weights(weights: xr.DataArray | None, da: xr.DataArray) -> xr.DataArray | None:
    """The weights as float64 on the labels of ``da``; NaN or negative raises (dask weights are computed for this)."""
    if weights is None:
        return None
    if not isinstance(weights, xr.DataArray):
        raise TypeError(f"weights must be a DataArray with named dims, got {type(weights).__name__}")
    bad = int((~(weights >= 0)).sum())
    if bad:
        raise ValueError(f"weights hold {bad} NaN or negative values: fill them (0 leaves a pair out) before scoring")
    for name in [d for d in weights.dims if d in da.dims]:
        weights = match_labels(da, weights, name, scored=False)
    return weights.astype("float64")


def score(
    da: xr.DataArray,
    reference: xr.DataArray,
    dim: str | Iterable[Hashable] | None = "time",
    *,
    weights: xr.DataArray | None = None,
    allow_contents: Iterable[str] = (),
) -> xr.Dataset:
    """Score ``da`` against ``reference`` over ``dim`` (one name, several, or None for all), in float64.

    Pairs with a NaN on either side are left out. Dims of only one side are kept and broadcast. dask stays lazy.

    Parameters
    ----------
    da, reference : labelled arrays; where both have units, the reference is converted to those of ``da``.
    weights : DataArray of weights ≥ 0 on any of the dims (e.g. ``cell_area``); NaN or negative raises.
    allow_contents : names ("fire", "rivers") in which the two fluxes may differ; otherwise known
        differences of contents raise.
    dim : the dims to score over; the scores keep the others.

    Returns
    -------
    xr.Dataset
        With the remaining dims: ``n`` (valid pairs, of positive weight), ``bias`` (mean of da − reference) and ``rmse``
        in the units of ``da``, ``r`` (Pearson), ``nse`` = 1 − MSE / variance of the reference (Nash–Sutcliffe) and
        ``nnse`` = 1/(2 − nse). ``r`` is NaN where either series is constant or n < 2, ``nse`` and ``nnse`` where the
        reference is; everything but ``n`` is NaN where n = 0. No warnings are raised for these.

    Raises
    ------
    ValueError
        Contents, signs, area basis or units that differ, labels or calendars that do not match, no such dim.

    Examples
    --------
    >>> reference = xr.DataArray([1.0, 2.0, 3.0, np.nan], dims="time")
    >>> scores = score(reference + 1, reference)
    >>> float(scores.rmse), float(scores.r), float(scores.nse), int(scores.n)
    (1.0, 1.0, -0.5, 3)
    """
    da, reference, dims = align_pair(da, reference, dim, allow_contents)
    return _scores(da, reference, dims, weights)


def _scores(
    da: xr.DataArray, reference: xr.DataArray, dims: list[Hashable], weights: xr.DataArray | None
) -> xr.Dataset:
    """Of an aligned pair."""
    m = moments(da, reference, dims, check_weights(weights, da))
    enough = m.n >= 2
    defined = enough & ~m.constant_x & ~m.constant_y
    r = (m.cov / np.sqrt((m.var_x * m.var_y).where(defined))).clip(-1.0, 1.0)
    nse = 1.0 - m.mse / m.var_y.where(enough & ~m.constant_y)
    scores = xr.Dataset({"n": m.n, "bias": m.bias, "rmse": np.sqrt(m.mse), "r": r, "nse": nse, "nnse": 1 / (2 - nse)})
    return _describe(scores, da, reference, dims)


def score_by(
    da: xr.DataArray,
    reference: xr.DataArray,
    by: str | xr.DataArray,
    dim: str | Iterable[Hashable] | None = "time",
    *,
    weights: xr.DataArray | None = None,
    allow_contents: Iterable[str] = (),
) -> xr.Dataset:
    """``score`` for every group of steps: by "month", "year", "season" or "dayofyear" of ``time``, or by own labels,
    whose name the new dim has.

    Parameters
    ----------
    by : a part of ``time``'s date, or a named DataArray of labels along one dim.
    da, reference, dim, weights, allow_contents : as in ``score``.

    Raises
    ------
    ValueError
        Labels without a name, of several dims or of another length; what ``score`` refuses.

    Examples
    --------
    >>> time = xr.date_range("2001-01", periods=24, freq="MS")
    >>> da = xr.DataArray(np.arange(24.0), dims="time", coords={"time": time})
    >>> score_by(da, da + 1, by="year").rmse.values.tolist()
    [1.0, 1.0]
    """
    da, reference, dims = align_pair(da, reference, dim, allow_contents)
    labels = getattr(da["time"].dt, by).rename(by) if isinstance(by, str) else by
    if labels.name is None or labels.ndim != 1:
        raise ValueError(f"the labels to group by need a name and one dim, got {labels.name!r} with {labels.dims}")
    (along,) = labels.dims
    if along not in da.dims or da.sizes[along] != labels.size:
        raise ValueError(f"the labels {labels.name!r} have {labels.size} entries along {along!r}, the array {da.sizes}")
    values = np.unique(np.asarray(labels))
    parts = []
    for value in values:
        chosen = {along: np.flatnonzero(np.asarray(labels) == value)}
        one, other, weight = (
            a.isel(chosen) if a is not None and along in a.dims else a for a in (da, reference, weights)
        )
        parts.append(_scores(one, other, dims, weight))
    return xr.concat(parts, xr.DataArray(values, dims=labels.name, name=labels.name), combine_attrs="override")


def decompose_mse(
    da: xr.DataArray,
    reference: xr.DataArray,
    dim: str | Iterable[Hashable] | None = "time",
    *,
    weights: xr.DataArray | None = None,
    allow_contents: Iterable[str] = (),
) -> xr.Dataset:
    """Split the mean squared error into bias, variance and phase, which sum to ``mse`` exactly.

    MSE = (μ − μ_ref)² + (σ − σ_ref)² + 2 (σ σ_ref − cov), with population moments: Kobayashi & Salam (2000, Agron.
    J. 92, 345) and Gupta et al. (2009, J. Hydrol. 377, 80). The third term is 2 σ σ_ref (1 − r), the error of
    timing and shape; written with the covariance it holds for constant series too. All are in units squared;
    ``rmse`` and ``n`` stand beside them.

    Parameters
    ----------
    da, reference, dim, weights, allow_contents : as in ``score``.

    Raises
    ------
    ValueError
        What ``score`` refuses.

    Examples
    --------
    >>> parts = decompose_mse(xr.DataArray([1.0, 2.0, 6.0], dims="time"), xr.DataArray([1.0, 2.0, 3.0], dims="time"))
    >>> bool(np.isclose(parts.mse, parts.bias + parts.variance + parts.phase))
    True
    """
    da, reference, dims = align_pair(da, reference, dim, allow_contents)
    weights = check_weights(weights, da)
    m = moments(da, reference, dims, weights)
    product = np.sqrt(m.var_x * m.var_y)
    parts = xr.Dataset(
        {
            "n": m.n,
            "rmse": np.sqrt(m.mse),
            "mse": m.mse,
            "bias": m.bias**2,
            "variance": (np.sqrt(m.var_x) - np.sqrt(m.var_y)) ** 2,
            "phase": 2 * (product - m.cov),
        }
    )
    units = da.attrs.get("units")
    parts = _describe(parts, da, reference, dims)
    for name in ("mse", "bias", "variance", "phase"):
        parts[name].attrs = {"units": f"({units})2"} if units else {}
    return parts


def spread_skill(
    ensemble: xr.DataArray,
    reference: xr.DataArray,
    dim: str | Iterable[Hashable] = "time",
    *,
    member: str = "member",
    allow_contents: Iterable[str] = (),
) -> xr.Dataset:
    """Compare an ensemble's spread with its error against a reference.

    Parameters
    ----------
    ensemble : with the dim ``member`` (at least two members); a step with any member missing is left out.
    reference : without it, in the same units.
    member : the dim of the members.
    dim, allow_contents : as in ``score``.

    Returns
    -------
    xr.Dataset
        ``n``; ``rmse`` of the ensemble's mean; ``spread`` = root of the mean variance over members (n − 1); ``ratio`` =
        spread · √((m+1)/m) / rmse, 1 for a reliable ensemble of m members (Fortin et al. 2014, J. Hydrometeorol. 15,
        1708); ``coverage`` = share of references within the members' range and ``coverage_expected`` = (m−1)/(m+1), its
        value where reference and members are exchangeable; ``coverage_sigma`` = share within the mean ± one standard
        deviation.

    Raises
    ------
    ValueError
        Fewer than two members, a reference with the dim ``member``; what ``score`` refuses.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> centre = xr.DataArray(rng.normal(size=4000), dims="time")
    >>> ensemble = centre + xr.DataArray(rng.normal(size=(9, 4000)), dims=("member", "time"))
    >>> found = spread_skill(ensemble, centre + xr.DataArray(rng.normal(size=4000), dims="time"))
    >>> round(found.ratio.item(), 2), round(found.coverage.item(), 2), found.coverage_expected.item()
    (1.0, 0.8, 0.8)
    """
    if member not in ensemble.dims or ensemble.sizes[member] < 2:
        raise ValueError(f"spread needs at least two members along {member!r}; the ensemble has {dict(ensemble.sizes)}")
    if member in reference.dims:
        raise ValueError(f"the reference must not have the ensemble's dim {member!r}: reduce it first")
    ensemble, reference, dims = align_pair(ensemble, reference, dim, allow_contents)
    ensemble, reference = ensemble.astype("float64"), reference.astype("float64")
    count = ensemble.sizes[member]
    valid = ensemble.notnull().all(member) & reference.notnull()
    ensemble, reference = ensemble.where(valid, 0.0), reference.where(valid, 0.0)
    mean, deviation = ensemble.mean(member), ensemble.std(member, ddof=1)
    inside = (reference >= ensemble.min(member)) & (reference <= ensemble.max(member))
    n = valid.sum(dims)

    def average(values: xr.DataArray) -> xr.DataArray:
        return values.where(valid, 0.0).sum(dims) / n.where(n > 0)

    rmse, spread = np.sqrt(average((mean - reference) ** 2)), np.sqrt(average(deviation**2))
    result = xr.Dataset(
        {
            "n": n,
            "rmse": rmse,
            "spread": spread,
            "ratio": spread * np.sqrt((count + 1) / count) / rmse.where(rmse > 0),
            "coverage": average(inside.astype("float64")),
            "coverage_sigma": average((abs(reference - mean) <= deviation).astype("float64")),
            "coverage_expected": (count - 1) / (count + 1),
        }
    )
    return _describe(result, ensemble, reference, dims)


def _describe(scores: xr.Dataset, da: xr.DataArray, reference: xr.DataArray, dims: list[Hashable]) -> xr.Dataset:
    """Units, the dims scored over, and which way the two fluxes are positive, where either says it."""
    units, direction = da.attrs.get("units"), sign(da) or sign(reference)
    scores = np.positive(scores)  # dask.compute(scores) would miss what others are made from (pydata/xarray#11329)
    for name, variable in scores.data_vars.items():
        has_units = name in ("bias", "rmse", "spread")
        variable.attrs = {"units": units} if has_units and units else ({} if has_units else {"units": "1"})
    scores.attrs = {"scored_over": ", ".join(map(str, dims))} | ({"positive": direction} if direction else {})
    return scores

"""Predictions at towers against what the towers measured (Sect. 4.4): by site, fold, plant type and time scale."""

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from xflux.evaluate.pairs import comparable
from xflux.evaluate.tables import HEADINGS

COMPONENTS = ("daily", "seasonal", "anomalies", "between_sites")


def _same_samples(observed: xr.DataArray, others: dict[str, xr.DataArray | None], dim: Hashable) -> None:
    for name, array in {"observed": observed, **others}.items():
        if array is None:
            continue
        if not isinstance(array, xr.DataArray):
            raise TypeError(f"{name} must be a DataArray along {dim!r}, got {type(array).__name__}")
        if dim not in array.dims:
            raise ValueError(f"{name} has no dim {dim!r} (it has {array.dims})")
        if array.sizes[dim] != observed.sizes[dim]:
            raise ValueError(f"{name} has {array.sizes[dim]} entries along {dim!r}, observed has {observed.sizes[dim]}")
        if dim in array.indexes and dim in observed.indexes and not array.indexes[dim].equals(observed.indexes[dim]):
            raise ValueError(f"{name} and observed have different labels along {dim!r}: align them first")


def _units(flux: xr.DataArray) -> dict[str, str]:
    return {"units": flux.attrs["units"]} if flux.attrs.get("units") else {}


def _codes(labels: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    values, codes = np.unique(np.asarray(labels), return_inverse=True)
    return values, codes.reshape(-1)


def _group_sum(values: np.ndarray, codes: np.ndarray, groups: int) -> np.ndarray:
    """Sum over the last axis by group: (…, sample) → (…, group), float64."""
    flat = values.reshape(-1, values.shape[-1])
    out = np.stack([np.bincount(codes, weights=row, minlength=groups) for row in flat])
    return out.reshape(*values.shape[:-1], groups)


def _grouped_scores(x: np.ndarray, y: np.ndarray, codes: np.ndarray, groups: int) -> tuple[np.ndarray, ...]:
    """n, rmse, r2 and bias of (…, sample) predictions y against x by group; a NaN pair is left out."""
    valid = np.isfinite(x) & np.isfinite(y)
    x0, error = np.where(valid, x, 0.0), np.where(valid, y - x, 0.0)
    n = _group_sum(valid.astype("float64"), codes, groups)
    some = np.where(n > 0, n, np.nan)
    mean = _group_sum(x0, codes, groups) / some
    deviation = np.where(valid, x - mean[..., codes], 0.0)
    sse, sst = (_group_sum(v**2, codes, groups) for v in (error, deviation))
    sst = np.where(sst > n * (1e-13 * mean) ** 2, sst, np.nan)  # constant observations have no R²
    return n.astype(int), np.sqrt(sse / some), 1.0 - sse / sst, _group_sum(error, codes, groups) / some


def tower_scores(
    observed: xr.DataArray,
    predicted: xr.DataArray,
    site: xr.DataArray,
    dim: str = "sample",
    *,
    by: xr.DataArray | None = None,
) -> xr.Dataset:
    """RMSE, R², bias and n of predictions at towers, over all samples or by group.

    Parameters
    ----------
    observed : (sample) measured flux.
    predicted : (…, sample) in the same units; other dims (member) are kept.
    site : (sample) site of each sample.
    by : (sample) labels to group by: ``site`` itself, the fold that held the sample out, ``igbp``, a climate.
    dim : the dim of the samples.

    Returns
    -------
    xr.Dataset
        With the dim of ``by`` (its name, else "group") or none: ``n`` samples, ``sites``, ``rmse`` and ``bias`` (mean
        of predicted − observed) in the units of ``observed``, ``r2`` = 1 − SSE/SST (SST about the group's own mean; NaN
        where the observations are constant). NaN on either side leaves the sample out.

    Raises
    ------
    ValueError
        Arrays of other samples, or without their dim.

    Examples
    --------
    >>> observed = xr.DataArray([0.0, 2.0, 4.0, 6.0], dims="sample")
    >>> site = xr.DataArray(["A", "A", "B", "B"], dims="sample", name="site")
    >>> scores = tower_scores(observed, observed + 1, site, by=site)
    >>> scores.rmse.sel(site="B").item(), scores.r2.sel(site="A").item()
    (1.0, 0.0)
    """
    _same_samples(observed, {"predicted": predicted, "site": site, "by": by}, dim)
    observed, predicted = comparable(observed, predicted)
    others = [d for d in predicted.dims if d != dim]
    x = np.asarray(observed.astype("float64"))
    y = np.asarray(predicted.transpose(*others, dim).astype("float64"))
    labels, codes = _codes(by) if by is not None else (np.array([0]), np.zeros(x.size, dtype=int))
    n, rmse, r2, bias = _grouped_scores(x, y, codes, len(labels))
    name = (by.name or "group") if by is not None else "group"
    dims = (*others, name)
    coords = {name: labels, **{d: predicted[d] for d in others if d in predicted.coords}}
    scores = xr.Dataset({"n": (dims, n), "rmse": (dims, rmse), "r2": (dims, r2), "bias": (dims, bias)}, coords=coords)
    used = np.isfinite(x) & np.isfinite(y).any(axis=tuple(range(len(others))))
    sites, place = _codes(site)
    seen = np.zeros((len(labels), len(sites)), bool)
    seen[codes[used], place[used]] = True
    scores["sites"] = (name, seen.sum(axis=1))
    for key in ("rmse", "bias"):
        scores[key].attrs = _units(observed)
    return scores if by is not None else scores.squeeze(name, drop=True)


def paired_difference(
    observed: xr.DataArray,
    predicted_a: xr.DataArray,
    predicted_b: xr.DataArray,
    site: xr.DataArray,
    n_boot: int = 2000,
    seed: int = 0,
    *,
    dim: str = "sample",
) -> xr.Dataset:
    """RMSE of ``b`` minus RMSE of ``a`` on the same samples, with a bootstrap over sites.

    Samples of one tower are not independent, so whole sites are drawn with replacement; both models see the same
    draws. Extra dims of the predictions (member) are averaged first.

    Parameters
    ----------
    observed : (sample) measured flux.
    predicted_a, predicted_b : (…, sample) two models' fluxes, in the same units.
    site : (sample) site of each sample.
    n_boot, seed : draws of the bootstrap, and where its random numbers start.
    dim : the dim of the samples.

    Returns
    -------
    xr.Dataset
        Of scalars: ``rmse_a``, ``rmse_b``, ``difference`` (b − a; negative: b is better), ``low`` and ``high`` (2.5th
        and 97.5th percentile of the difference over ``n_boot`` draws), ``share_below_zero`` of the draws, ``n`` and
        ``sites``. The same seed gives the same numbers.

    Raises
    ------
    ValueError
        Fewer than two sites with valid samples, ``n_boot`` below 1, arrays of other samples.

    Examples
    --------
    >>> observed = xr.DataArray([1.0, 2.0, 3.0, 4.0], dims="sample")
    >>> site = xr.DataArray(["A", "A", "B", "B"], dims="sample")
    >>> found = paired_difference(observed, observed + 1.0, observed - 0.5, site)
    >>> found.difference.item(), found.high.item(), found.sites.item()
    (-0.5, -0.5, 2)
    """
    _same_samples(observed, {"predicted_a": predicted_a, "predicted_b": predicted_b, "site": site}, dim)
    (observed, predicted_a), (_, predicted_b) = (comparable(observed, p) for p in (predicted_a, predicted_b))
    if n_boot < 1:
        raise ValueError(f"n_boot must be at least 1, got {n_boot}")
    x = np.asarray(observed.astype("float64"))
    a, b = (np.asarray(p.astype("float64").mean([d for d in p.dims if d != dim])) for p in (predicted_a, predicted_b))
    valid = np.isfinite(x) & np.isfinite(a) & np.isfinite(b)
    names, codes = _codes(site.isel({dim: valid}))
    if len(names) < 2:
        raise ValueError(f"a bootstrap over sites needs at least two sites with valid samples, got {len(names)}")
    n, sse_a, sse_b = (
        np.bincount(codes, weights=w) for w in (np.ones(codes.size), (a - x)[valid] ** 2, (b - x)[valid] ** 2)
    )
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_boot)
    count = drawn @ n
    differences = np.sqrt(drawn @ sse_b / count) - np.sqrt(drawn @ sse_a / count)
    rmse_a, rmse_b = np.sqrt(sse_a.sum() / n.sum()), np.sqrt(sse_b.sum() / n.sum())
    low, high = np.percentile(differences, [2.5, 97.5])
    values = {"rmse_a": rmse_a, "rmse_b": rmse_b, "difference": rmse_b - rmse_a, "low": low, "high": high}
    result = xr.Dataset({key: ((), value, _units(observed)) for key, value in values.items()})
    result["share_below_zero"] = float((differences < 0).mean())
    result["n"], result["sites"] = int(n.sum()), len(names)
    return result.assign_attrs(n_boot=n_boot, seed=seed, resampled="sites, with replacement")


def site_means(values: xr.DataArray, site: xr.DataArray, dim: str = "sample") -> xr.DataArray:
    """Mean of (…, sample) by site, NaN left out: dims (…, site).

    Parameters
    ----------
    values : (…, sample), any units.
    site : (sample) site of each sample.
    dim : name of the dim of samples.

    Raises
    ------
    ValueError
        Arrays of other samples, or without their dim.

    Examples
    --------
    >>> nee = xr.DataArray([1.0, np.nan, 3.0, 5.0], dims="sample")
    >>> means = site_means(nee, xr.DataArray(["A", "A", "B", "B"], dims="sample"))
    >>> means.site.values.tolist(), means.values.tolist()
    (['A', 'B'], [1.0, 4.0])
    """
    _same_samples(values, {"site": site}, dim)
    finite = values.where(np.isfinite(values)).astype("float64").reset_coords(drop=True)
    means = finite.groupby(xr.DataArray(np.asarray(site), dims=dim, name="site")).mean()
    return means.transpose(..., "site").assign_coords(site=np.unique(np.asarray(site))).assign_attrs(values.attrs)


def tower_components(
    observed: xr.DataArray,
    predicted: xr.DataArray,
    site: xr.DataArray,
    time: xr.DataArray,
    *,
    by: xr.DataArray | None = None,
    dim: str = "sample",
    min_days: int = 10,
    min_months: int = 10,
) -> xr.Dataset:
    """Skill at towers by time scale, as in Tramontana et al. (2016) and Sect. 4.4.

    Each site's series is split into its mean over months (*between_sites*), its mean seasonal cycle about that mean
    (*seasonal*: mean by month, months with fewer than ``min_days`` samples left out), and what is left of the daily
    values about the monthly cycle (*anomalies*); *daily* is the series itself. The parts of prediction and
    observation are made from the same samples. Sites with fewer than ``min_months`` months of the cycle are not in
    *between_sites* and *seasonal*.

    Parameters
    ----------
    by : (sample) labels, each scored by itself: plant type, climate. A site must not change its label.
    observed, predicted, site : as in ``tower_scores``.
    time : (sample) date of each sample.
    dim : the dim of the samples.
    min_days, min_months : samples that a month, and months that a site's cycle needs.

    Returns
    -------
    xr.Dataset
        Along ``component`` (daily, seasonal, anomalies, between_sites), and the dim of ``by``: ``n``, ``rmse``, ``r2``,
        ``bias``.

    Raises
    ------
    ValueError
        Arrays of other samples, or without their dim.

    Examples
    --------
    >>> day = xr.date_range("2001-01-01", "2001-12-31", freq="D")
    >>> time = xr.DataArray(np.tile(day, 2), dims="sample")
    >>> site = xr.DataArray(np.repeat(["A", "B"], 365), dims="sample")
    >>> observed = np.cos(2 * np.pi * time.dt.dayofyear / 365) + xr.where(site == "A", -2.0, 0.0)
    >>> tower_components(observed, 0.5 * observed, site, time).r2.round(2).to_series().to_dict()
    {'daily': 0.58, 'seasonal': 0.75, 'anomalies': 0.75, 'between_sites': 0.5}
    """
    _same_samples(observed, {"predicted": predicted, "site": site, "time": time, "by": by}, dim)
    observed, predicted = comparable(observed, predicted)
    if by is not None:
        options = {"dim": dim, "min_days": min_days, "min_months": min_months}
        labels = np.unique(np.asarray(by))
        parts = []
        for label in labels:
            rows = {dim: np.flatnonzero(np.asarray(by) == label)}
            parts.append(tower_components(*(a.isel(rows) for a in (observed, predicted, site, time)), **options))
        name = by.name or "group"
        return xr.concat(parts, xr.DataArray(labels, dims=name, name=name), combine_attrs="override")
    others = [d for d in predicted.dims if d != dim]
    x = np.asarray(observed.astype("float64"))
    y = np.asarray(predicted.astype("float64").mean(others))
    valid = np.isfinite(x) & np.isfinite(y)
    sites, code = _codes(site)
    cell = code * 12 + np.asarray(time.dt.month) - 1
    cells = len(sites) * 12
    count = np.bincount(cell[valid], minlength=cells)
    used = count >= min_days

    def cycle(values: np.ndarray) -> np.ndarray:
        sums = np.bincount(cell[valid], weights=values[valid], minlength=cells)
        return np.where(used, sums / np.maximum(count, 1), np.nan)

    pairs = {"daily": (x, y)}
    cycles = [cycle(v) for v in (x, y)]
    by_site = [pd.DataFrame(c.reshape(-1, 12)) for c in cycles]
    means = [c.mean(axis=1).where(c.count(axis=1) >= min_months).to_numpy() for c in by_site]
    pairs["seasonal"] = tuple((c.reshape(-1, 12) - m[:, None]).ravel() for c, m in zip(cycles, means, strict=True))
    pairs["anomalies"] = tuple(v - c[cell] for v, c in zip((x, y), cycles, strict=True))
    pairs["between_sites"] = tuple(means)
    rows = [_grouped_scores(a, b, np.zeros(a.size, dtype=int), 1) for a, b in (pairs[c] for c in COMPONENTS)]
    names = ("n", "rmse", "r2", "bias")
    data = {name: ("component", np.array([row[i][0] for row in rows])) for i, name in enumerate(names)}
    result = xr.Dataset(data, coords={"component": list(COMPONENTS)})
    for key in ("rmse", "bias"):
        result[key].attrs = _units(observed)
    return result


def tower_table(
    observed: xr.DataArray,
    predictions: Mapping[str, xr.DataArray],
    site: xr.DataArray,
    time: xr.DataArray,
    groups: Mapping[str, xr.DataArray] | None = None,
    *,
    metrics: Iterable[str] = ("rmse", "r2", "bias"),
    dim: str = "sample",
) -> pd.DataFrame:
    """Sect. 4.4 as one table: rows all samples by time scale, then daily values by group; columns (metric, model)
    and *n*, the number of samples; RMSE and bias in the units of ``observed``.

    Parameters
    ----------
    predictions : model → (sample [, member]).
    groups : heading → (sample) labels (IGBP type, climate, fold).
    observed, site, time, dim, metrics : as in ``tower_components``; ``metrics`` names its variables.

    Raises
    ------
    ValueError
        What ``tower_components`` refuses.

    Examples
    --------
    >>> day = xr.date_range("2001-01-01", "2001-12-31", freq="D")
    >>> time = xr.DataArray(np.tile(day, 2), dims="sample")
    >>> site = xr.DataArray(np.repeat(["A", "B"], 365), dims="sample")
    >>> observed = np.cos(2 * np.pi * time.dt.dayofyear / 365) + xr.where(site == "A", -2.0, 0.0)
    >>> tower_table(observed, {"EC": 0.5 * observed}, site, time, metrics=["rmse"]).round(2)
    metric                      n  RMSE
    product                          EC
    by         group
    time scale daily          730  0.79
               seasonal        24  0.35
               anomalies      730  0.05
               between_sites    2  0.71
    """
    blocks = []
    for model, predicted in predictions.items():
        parts = tower_components(observed, predicted, site, time, dim=dim)
        mean = predicted.mean([d for d in predicted.dims if d != dim])
        rows = {("time scale", name): parts.sel(component=name) for name in COMPONENTS}
        for heading, labels in (groups or {}).items():
            scores = tower_scores(observed, mean, site, dim, by=labels.rename("group"))
            rows |= {(heading, str(g)): scores.sel(group=g) for g in scores["group"].values}
        blocks.append({(HEADINGS[m], model): [float(s[m]) for s in rows.values()] for m in metrics})
        counts = {("n", ""): [int(s["n"]) for s in rows.values()]}
    columns = counts | {key: block[key] for m in metrics for block in blocks for key in block if key[0] == HEADINGS[m]}
    table = pd.DataFrame(columns, index=pd.MultiIndex.from_tuples(rows, names=["by", "group"]))
    table.columns = pd.MultiIndex.from_tuples(table.columns, names=["metric", "product"])
    table.attrs = {"units": observed.attrs.get("units", "unknown")}
    return table

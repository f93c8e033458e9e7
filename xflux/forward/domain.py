"""Area of applicability: how far a pixel's drivers lie from the towers' (Meyer and Pebesma, 2021)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from xflux.align import DriverError
from xflux.forward.lazy import predict
from xflux.forward.model import wrap
from xflux.towers import site_folds

PAIRS = 5_000  # rows from which the mean distance of pairs is taken where there are more
QUERIES = 20_000  # rows from which the threshold is taken where there are more


def applicability(
    grid: xr.Dataset,
    towers: xr.Dataset,
    drivers: Sequence[str],
    weights: Mapping[str, float] | None = None,
    folds: xr.DataArray | Mapping[str, int] | None = None,
    *,
    time: Any = None,
    interpolate: bool = False,
    max_rows: int | None = None,
    seed: int = 0,
) -> xr.Dataset:
    """Dissimilarity index of every pixel and step, and whether the model may be applied there; lazy.

    The drivers are standardised by the towers' mean and standard deviation and multiplied by ``weights``. The index
    is the distance to the nearest tower row, divided by the mean distance between tower rows (Eq. 2–4 of Meyer and
    Pebesma, 2021, doi:10.1111/2041-210X.13650): 0 where a tower has seen these very drivers. The threshold is the
    largest index of the tower rows themselves against the rows of other folds, without outliers (beyond the third
    quartile plus 1.5 interquartile ranges): farther than that, cross-validation has tested nothing.

    Parameters
    ----------
    grid, time, interpolate
        As in :func:`predict`.
    towers
        Dataset over ``sample`` with the drivers; rows with a missing driver are left out.
    drivers
        Names of the drivers, on the towers and on the grid.
    weights
        Importance of each driver, relative to the others; those not named have 1.
    folds
        Fold of every sample, or of every site (``model.folds``). By default ten folds by site.
    max_rows, seed
        Keep at most so many tower rows, drawn at random: daily rows of a site repeat each other.

    Returns
    -------
    xr.Dataset
        ``dissimilarity`` (time, lat, lon) float32, NaN where a driver is missing, with the attribute ``threshold``, and
        ``applicable`` (the same dims) bool, False where a driver is missing.

    Raises
    ------
    KeyError, ValueError
        Towers without a driver, or with rows in fewer than two folds; folds or weights that do not fit; what
        :func:`predict` refuses.

    Examples
    --------
    >>> towers = xr.Dataset({"x": ("sample", [0.0, 1.0, 2.0, 3.0])}, {"site": ("sample", list("aabb"))})
    >>> grid = xr.Dataset({"x": (("lat", "lon"), [[1.0, 8.0]])})
    >>> applicability(grid, towers, ["x"]).dissimilarity.values
    array([[0., 3.]], dtype=float32)
    """
    names = list(drivers)
    rows, fold = _tower_rows(towers, names, folds, max_rows, seed)
    measure = _measure(rows, names, dict(weights or {}), seed)
    threshold = _threshold(measure.scaled(rows), fold, measure.mean_distance, seed)
    units = {n: towers[n].attrs["units"] for n in names if "units" in towers[n].attrs}
    model = wrap(measure, names, "1", targets="dissimilarity", driver_units=units)
    index = predict(grid, model, time=time, interpolate=interpolate)
    index.attrs |= {
        "long_name": "dissimilarity index of the drivers to those of the towers",
        "threshold": threshold,
        "mean_distance": measure.mean_distance,
        "tower_rows": len(rows),
        "references": "Meyer and Pebesma, 2021, doi:10.1111/2041-210X.13650",
    }
    applicable = (index <= threshold).assign_attrs(long_name="area of applicability", threshold=threshold)
    return xr.Dataset({"dissimilarity": index, "applicable": applicable})


@dataclass(frozen=True, eq=False)
class _Measure:
    """Rows of drivers → dissimilarity index."""

    mean: np.ndarray
    factor: np.ndarray  # weight / standard deviation
    tree: Any
    mean_distance: float

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        return (rows - self.mean) * self.factor

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        distance, _ = self.tree.query(self.scaled(rows.astype(np.float64)))
        return distance / self.mean_distance


def _tower_rows(
    towers: xr.Dataset, names: list[str], folds: Any, max_rows: int | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Complete rows (n, drivers) and the fold of each."""
    lacking = [n for n in names if n not in towers]
    if lacking:
        raise DriverError(f"applicability: the towers lack {lacking}; they have {sorted(map(str, towers.data_vars))}")
    rows = np.stack([towers[n].values.astype(np.float64) for n in names], axis=1)
    fold = _folds(towers, folds)
    keep = np.flatnonzero(np.isfinite(rows).all(axis=1))
    if max_rows is not None and keep.size > max_rows:
        keep = np.sort(np.random.default_rng(seed).choice(keep, max_rows, replace=False))
    if np.unique(fold[keep]).size < 2:
        raise ValueError(
            f"applicability: {keep.size} complete tower rows in {np.unique(fold[keep]).size} folds; the threshold "
            "needs rows in two folds or more: check the drivers for NaN, or give folds="
        )
    return rows[keep], fold[keep]


def _folds(towers: xr.Dataset, folds: Any) -> np.ndarray:
    if isinstance(folds, Mapping):
        sites = towers["site"].values
        lacking = sorted(set(sites.tolist()) - set(folds))
        if lacking:
            raise ValueError(f"applicability: folds= lacks the sites {lacking[:5]}; add them, or leave them out")
        return np.array([folds[s] for s in sites])
    if folds is not None:
        values = np.asarray(folds)
        if values.shape != (towers.sizes["sample"],):
            raise ValueError(f"applicability: folds has shape {values.shape}; expected one per sample")
        return values
    if "site" not in towers.coords:
        raise ValueError("applicability: the towers have no coordinate 'site', so no folds by site: give folds=")
    return site_folds(towers, folds=min(10, np.unique(towers["site"].values).size)).values


def _measure(rows: np.ndarray, names: list[str], weights: dict[str, float], seed: int) -> _Measure:
    from scipy.spatial import cKDTree
    from scipy.spatial.distance import pdist

    unknown = sorted(set(weights) - set(names))
    importance = np.array([float(weights.get(n, 1.0)) for n in names])
    if unknown or not np.isfinite(importance).all() or (importance < 0).any() or not importance.any():
        raise ValueError(f"applicability: weights={weights}; expected numbers ≥ 0, not all 0, for some of {names}")
    mean, spread = rows.mean(axis=0), rows.std(axis=0, ddof=1)
    constant = [n for n, s, w in zip(names, spread, importance, strict=True) if w > 0 and not s > 0]
    if constant:
        raise ValueError(
            f"applicability: {constant} do not vary over the towers, so that no distance along them has a scale; "
            "leave them out, or give them the weight 0"
        )
    factor = importance / np.where(spread > 0, spread, 1)
    scaled = (rows - mean) * factor
    some = scaled
    if len(scaled) > PAIRS:
        some = scaled[np.random.default_rng(seed).choice(len(scaled), PAIRS, replace=False)]
    return _Measure(mean, factor, cKDTree(scaled), float(pdist(some).mean()))


def _threshold(scaled: np.ndarray, fold: np.ndarray, mean_distance: float, seed: int) -> float:
    """Largest index of tower rows against other folds, outliers left out."""
    from scipy.spatial import cKDTree

    asked = np.arange(len(scaled))
    if asked.size > QUERIES:
        asked = np.random.default_rng(seed).choice(asked, QUERIES, replace=False)
    found = []
    for k in np.unique(fold):
        mine = asked[fold[asked] == k]
        if mine.size:
            found.append(cKDTree(scaled[fold != k]).query(scaled[mine])[0])
    index = np.concatenate(found) / mean_distance
    low, high = np.quantile(index, [0.25, 0.75])
    return float(index[index <= high + 1.5 * (high - low)].max())

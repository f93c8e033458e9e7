"""Folds by site: a site is never split between training and validation (Sect. 3.4)."""

import numpy as np
import xarray as xr

from xflux.cells import RADIUS
from xflux.display import some_of
from xflux.reading import require_variables
from xflux.values import as_text

EARTH_RADIUS_KM = RADIUS / 1000


def great_circle_km(lat1, lon1, lat2, lon2) -> np.ndarray:
    """Great-circle distance in km (haversine) on a sphere of 6371 km; degrees in, NumPy broadcasting.

    >>> float(great_circle_km(0.0, 179.5, 0.0, -179.5).round(3))
    111.195
    """
    p1, p2 = np.deg2rad(lat1), np.deg2rad(lat2)
    half_lon = np.deg2rad(np.asarray(lon2) - lon1) / 2
    a = np.sin((p2 - p1) / 2) ** 2 + np.cos(p1) * np.cos(p2) * np.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(a, 0, 1)))


def site_table(towers: xr.Dataset) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sites in alphabetical order, their latitude and longitude, and for every sample the number of its site."""
    require_variables(towers, ["site"], "the tower table")
    names, first, number = np.unique(as_text(towers["site"]), return_index=True, return_inverse=True)
    lat = np.asarray(towers["lat"].values, float)[first] if "lat" in towers.coords else np.full(len(names), np.nan)
    lon = np.asarray(towers["lon"].values, float)[first] if "lon" in towers.coords else np.full(len(names), np.nan)
    return names, lat, lon, number


def require_places(names: np.ndarray, lat: np.ndarray, lon: np.ndarray, what: str) -> None:
    """Raise where a site has no coordinates, and name the sites."""
    lost = names[~(np.isfinite(lat) & np.isfinite(lon))]
    if len(lost):
        raise ValueError(
            f"{what} needs the place of every tower, but lat/lon are NaN at {len(lost)} of {len(names)} sites: "
            f"{some_of(lost)}. Give read_towers a site list: sites= (columns site, lat, lon, igbp) or a BADM file."
        )


def site_folds(towers: xr.Dataset, folds: int = 10, seed: int = 0, distance: float | None = None) -> xr.DataArray:
    """Number of the fold (0 … folds − 1) of every sample; all samples of a site are in one fold.

    The folds hold equal numbers of sites (±1), drawn at random ("10 equal subsets", Sect. 3.4). With ``distance``
    in km, sites that are linked by steps shorter than that (great-circle single linkage) share a fold, and the
    folds are as equal as the groups allow. The result does not depend on the order of the samples.

    Parameters
    ----------
    towers
        Dataset with the coordinate ``site`` over ``sample`` (and ``lat``, ``lon`` where ``distance`` is given).
    folds, seed
        Number of folds, and the seed of the draw.
    distance
        Blocking distance in km; ``None`` does not block.

    Raises
    ------
    ValueError
        Fewer than two folds, fewer sites (or groups of sites) than folds, unknown places with ``distance``.

    Examples
    --------
    >>> towers = xr.Dataset(coords={"site": ("sample", ["A", "B", "A", "C"])})
    >>> fold = site_folds(towers, folds=3)
    >>> bool(fold[0] == fold[2]), sorted(set(fold.values.tolist()))
    (True, [0, 1, 2])
    """
    names, lat, lon, number = site_table(towers)
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got folds={folds}")
    if distance is None:
        group = np.arange(len(names))
    else:
        require_places(names, lat, lon, "site_folds(distance=…)")
        group = _linked(lat, lon, distance)
    groups = len(np.unique(group))
    if groups < folds:
        unit = "sites" if distance is None else f"groups of sites closer than {distance} km"
        raise ValueError(
            f"{folds} folds need at least {folds} {unit}, but there are {groups} ({len(names)} sites): "
            f"use fewer folds{'' if distance is None else ' or a shorter distance'}"
        )
    fold_of_site = _spread(group, folds, np.random.default_rng(seed))
    attrs = {"long_name": "fold by site", "folds": folds, "seed": seed, "distance_km": distance or 0.0}
    return xr.DataArray(fold_of_site[number], dims="sample", coords={"site": towers["site"]}, name="fold", attrs=attrs)


def _linked(lat: np.ndarray, lon: np.ndarray, distance: float) -> np.ndarray:
    """Group number of every site: connected components of the graph of pairs closer than ``distance`` km."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    near = great_circle_km(lat[:, None], lon[:, None], lat, lon) < distance
    np.fill_diagonal(near, True)
    return connected_components(csr_array(near), directed=False)[1]


def _spread(group: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of every site: the largest groups first, each into the fold with the fewest sites (ties at random)."""
    names, sizes = np.unique(group, return_counts=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, int)
    rank = rng.permutation(folds)
    fold_of_group = np.empty(len(names), int)
    for g in order:
        fold = rank[np.argmin(filled[rank])]
        fold_of_group[g] = fold
        filled[fold] += sizes[g]
    return fold_of_group[np.searchsorted(names, group)]

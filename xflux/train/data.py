"""From the tower table to standardised rows, and what every part of a training run shares."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from xflux.reading import require_variables
from xflux.towers import site_folds
from xflux.units import UnitsError, factor, parse, spelled_out
from xflux.values import as_text, checked, decoded, warn, warn_of_fills

TRAINED = {"carbon": "gC m-2 d-1", "water": "kgH2O m-2 d-1", "energy": "MJ m-2 d-1"}
MAX_MISSING = 0.5  # share of tower rows that may be dropped for a missing driver or target before it is an error


@dataclass(frozen=True)
class Scaling:
    """Mean, scale and units of every driver, taken from the training towers; they travel with the model."""

    drivers: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    units: dict[str, str]

    def __call__(self, values: np.ndarray, driver: str) -> np.ndarray:
        """Standardised values of one driver."""
        i = self.drivers.index(driver)
        return (values - self.mean[i]) / self.scale[i]


@dataclass(frozen=True)
class Setting:
    """What every part of a training run shares: seed, held-out years, number type, device, block size, targets.

    ``validation_years`` is None where nothing is trained; ``scratch`` is the folder for drivers too large for memory.
    """

    seed: int
    validation_years: int | None
    torch_dtype: torch.dtype
    torch_device: torch.device
    block_rows: int
    targets: tuple[str, ...]
    resample_inversions: bool | int = False
    units: dict[str, str] = field(default_factory=dict)
    scratch: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))

    def flux_number(self, name: str | None) -> int:
        """Which output of the network is the flux `name` (None: the first)."""
        if name is None:
            return 0
        if name not in self.targets:
            raise ValueError(f"flux={name!r} is no target of the model; its targets are {', '.join(self.targets)}")
        return self.targets.index(name)


def trained_units(attrs: Mapping) -> tuple[str, float]:
    """The units in which the network learns a flux, and how many of them one of the towers' own units is.

    Its weights start near 1 and its steps are of one size: values of 1e-8 (kgC m-2 s-1) would never be learned.

    >>> trained_units({"units": "kgC m-2 d-1"}), trained_units({"units": "percent"})
    (('gC m-2 d-1', 1000.0), ('percent', 1.0))
    """
    text = spelled_out(attrs)
    try:
        usual = TRAINED[parse(text).kind]
        return usual, factor(text, usual)
    except (KeyError, UnitsError):
        return text, 1.0


@dataclass(frozen=True)
class TowerRows:
    """The complete rows of the tower table: drivers ``x (row, driver)`` and observations ``y (row, target)``.

    Weights ``weight (row,)`` have the mean 1. ``y`` is in `trained_units`, of which ``scale (target,)`` are one of the
    towers' own ``units``.
    """

    x: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    fold: np.ndarray
    site: np.ndarray
    scaling: Scaling
    scale: np.ndarray
    units: dict[str, str]
    dropped: int

    def training(self, member: int) -> np.ndarray:
        """Row numbers outside the member's own fold."""
        return np.flatnonzero(self.fold != member)

    def held_out(self, member: int) -> np.ndarray:
        """Row numbers of the member's own fold."""
        return np.flatnonzero(self.fold == member)


def tower_rows(
    towers: xr.Dataset,
    drivers: Sequence[str],
    targets: Sequence[str],
    folds: int,
    seed: int,
    distance: float | None = None,
    missing: str = "raise",
    weights: str | None = None,
) -> TowerRows:
    """Complete, standardised rows of the tower table and their folds by site.

    NaN in a driver is an error, or with ``missing="drop"`` such rows are left out as those without any target are,
    with one warning that counts them; more than half of the rows is an error too. Values are kept in float64 until
    they are standardised.
    """
    for what, names in (("drivers", drivers), ("target", targets)):
        if not names or len(set(names)) < len(names):
            raise ValueError(f"{what}={list(names)}: expected one name at least, and none twice")
    if both := [name for name in targets if name in drivers]:
        raise ValueError(f"{', '.join(both)}: target and driver at once; leave it out of drivers=")
    require_variables(towers, [*drivers, *targets, "site", *([weights] if weights else [])], "the tower table")
    if "sample" not in towers.dims:
        raise ValueError(f"the tower table has the dims {tuple(towers.dims)}; expected sample (rename it)")
    x = np.stack([np.asarray(decoded(towers[name]).values, float) for name in drivers], axis=1)
    y = np.stack([np.asarray(checked(towers[name]).values, float) for name in targets], axis=1)
    for name, values in zip(drivers, x.T, strict=True):
        warn_of_fills(values, f"driver {name!r}")
    complete = np.isfinite(x).all(1) & np.isfinite(y).any(1)
    _refuse_missing(x, drivers, missing)
    _report_dropped(x, y, complete, drivers, targets)
    x, y = x[complete], y[complete]
    scaling = _scaling(x, towers, drivers)
    scale = np.array([trained_units(towers[name].attrs)[1] for name in targets])
    places = _places(towers, complete)
    fold = _folds(places, folds, seed, distance)
    return TowerRows(
        x=(x - scaling.mean) / scaling.scale,
        y=y * scale,
        weight=_weight(towers[weights].values[complete], weights) if weights else np.ones(len(y)),
        fold=fold,
        site=places["site"].values,
        scaling=scaling,
        scale=scale,
        units={name: spelled_out(towers[name].attrs) for name in targets},
        dropped=int((~complete).sum()),
    )


def _weight(values: np.ndarray, name: str) -> np.ndarray:
    weight = np.asarray(values, float)
    if not (np.isfinite(weight).all() and (weight > 0).all()):
        raise ValueError(f"weights={name!r}: expected a finite number above 0 in every row")
    return weight / weight.mean()


def _places(towers: xr.Dataset, complete: np.ndarray) -> xr.Dataset:
    """Site, lat and lon of the complete rows as NumPy has them: xarray cannot index text of pandas' own types."""
    found = {name: towers[name].values[complete] for name in ("site", "lat", "lon") if name in towers.variables}
    found["site"] = as_text(found["site"])
    return xr.Dataset(coords={name: ("sample", values) for name, values in found.items()})


def _refuse_missing(x: np.ndarray, drivers: Sequence[str], missing: str) -> None:
    lost = ~np.isfinite(x)
    if missing == "drop" or not lost.any():
        return
    text = ", ".join(f"{name}: {count}" for name, count in zip(drivers, lost.sum(0), strict=True) if count)
    raise ValueError(
        f"{lost.any(1).sum()} of {len(x)} tower rows have NaN in a driver ({text}): fill the drivers "
        "(xflux.drivers.fill_nearest, colocate with a larger max_distance), or leave the rows out with "
        'towers.dropna("sample", subset=drivers) or TrainConfig(missing_drivers="drop")'
    )


def _report_dropped(x, y, complete, drivers, targets) -> None:
    lost = int((~complete).sum())
    if not lost:
        return
    named = {name: int((~np.isfinite(x[:, i])).sum()) for i, name in enumerate(drivers)}
    named |= {name: int((~np.isfinite(y[:, i])).sum()) for i, name in enumerate(targets)}
    text = ", ".join(f"{name}: {count}" for name, count in named.items() if count)
    if lost > MAX_MISSING * len(complete):
        raise ValueError(
            f"{lost} of {len(complete)} tower rows have NaN in a driver or in the target ({text}): "
            "fill or leave out the variable that is missing before training"
        )
    warn(f"{lost} of {len(complete)} tower rows are left out for NaN in a driver or in the target ({text})")


def _scaling(x: np.ndarray, towers: xr.Dataset, drivers: Sequence[str]) -> Scaling:
    mean, scale = x.mean(0), x.std(0)
    # relative to the values, whatever their units: rounding leaves a spread of about 1e-16
    largest = np.abs(x).max(0)
    constant = [name for name, m, s in zip(drivers, largest, scale, strict=True) if not s > 1e-10 * m]
    if constant:
        raise ValueError(
            f"driver {', '.join(constant)} is constant over the training towers, so it cannot be standardised "
            "and the model could not learn from it: leave it out of drivers="
        )
    units = {name: str(towers[name].attrs["units"]) for name in drivers if "units" in towers[name].attrs}
    return Scaling(tuple(drivers), mean, scale, units)


def _folds(towers: xr.Dataset, folds: int, seed: int, distance: float | None) -> np.ndarray:
    sites = np.unique(towers["site"].values)
    if len(sites) < 2:
        raise ValueError(
            f"the tower table has one site ({', '.join(sites)}): folds are made by site, so two are needed at least"
        )
    return np.asarray(site_folds(towers, folds=folds, seed=seed, distance=distance).values)

"""Does a bridge still hold for a later field (paper, Sect. 3.5)?"""

import warnings
from typing import Any

import numpy as np
import xarray as xr

from . import lasso
from .states import CONSTANT, EMPTY


def diagnose(
    regions: xr.Dataset,
    options: dict[str, Any],
    bridged: xr.DataArray,
    full: xr.DataArray,
    threshold: float | None,
    warn: bool,
) -> xr.Dataset:
    """What :meth:`Bridge.diagnose` returns, from both integrals (…, region)."""
    import dask

    b, f = dask.compute(bridged.data, full.data)
    size = regions.sizes["region"]
    out = _diagnosis(regions, options.get("r2", 0.95), np.reshape(b, (-1, size)), np.reshape(f, (-1, size)), threshold)
    for name in ("bias", "rmse", "full", "bridged"):
        out[name].attrs["units"] = full.attrs["units"]
    if warn:
        _warn_broken(out.isel(region=regions["status"].values != EMPTY))
    return out


def _diagnosis(
    regions: xr.Dataset, asked: float, bridged: np.ndarray, full: np.ndarray, threshold: float | None
) -> xr.Dataset:
    labels = regions["region"].values
    rows = [_compare(bridged[:, k], full[:, k]) for k in range(len(labels))]
    out = xr.Dataset({name: ("region", np.array([row[name] for row in rows])) for name in rows[0]}, {"region": labels})
    fitted = np.minimum(regions["r2"].values, asked)
    limit = fitted - 0.1 if threshold is None else np.full(len(labels), threshold)
    constant = regions["status"].values == CONSTANT
    still = out["rmse"].values <= 0.01 * np.abs(out["full"].values)
    holds = np.where(constant, still, out["r2"].values >= limit)
    out["holds"] = ("region", holds.astype(bool))
    return out


def _warn_broken(diagnosis: xr.Dataset) -> None:
    broken = diagnosis.isel(region=~diagnosis["holds"].values)
    judged = np.isfinite(broken["r2"].values) | (broken["rmse"].values > 0)
    said = []
    if judged.any():
        said.append(
            f"the bridge no longer holds for {', '.join(_named(broken.isel(region=judged)))}: the pattern of the flux "
            "has changed there; fit it anew."
        )
    if not judged.all():
        labels = ", ".join(map(str, broken["region"].values[~judged]))
        said.append(
            f"the bridge cannot be judged for {labels}: a contributing pixel, or every pixel, of the region is missing "
            "in this field."
        )
    if said:
        warnings.warn(" ".join(said), UserWarning, stacklevel=4)


def _named(broken: xr.Dataset) -> list[str]:
    units = broken["bias"].attrs["units"]
    return [
        f"{name} (R² {r2:.2f}, bias {bias:+.3g} {units})"
        for name, r2, bias in zip(*(broken[v].values for v in ("region", "r2", "bias")), strict=True)
    ]


def _compare(bridged: np.ndarray, full: np.ndarray) -> dict[str, float]:
    """n, R² (1 − SSE/SST), slope, bias, RMSE and the means, over pairs where both are known."""
    both = np.isfinite(bridged) & np.isfinite(full)
    b, f = bridged[both], full[both]
    if not b.size:
        return {"n": 0} | dict.fromkeys(("r2", "slope", "bias", "rmse", "full", "bridged"), np.nan)
    r2 = lasso.r_squared(f, b)
    centred = f - f.mean()
    slope = float(centred @ b / (centred @ centred)) if np.isfinite(r2) else np.nan
    error = b - f
    return {
        "n": b.size, "r2": r2, "slope": slope, "bias": float(error.mean()), "rmse": float(np.sqrt(np.mean(error**2))),
        "full": float(f.mean()), "bridged": float(b.mean()),
    }  # fmt: skip

"""GLOBAL: what falls in the regions and what falls in none, as long as the two are known to belong together."""

import numpy as np
import xarray as xr

from xflux.temporal.convert import own_riding
from xflux.values import as_text, warn

GLOBAL = "GLOBAL"
REMAINDERS = ("unassigned", "assigned")
# Shares of the regions' absolute sum by which sums in single precision may differ.
_ROUNDING = 1e-5


def region_attrs(remainder: bool, overlapping: bool) -> dict:
    """Attributes of the coordinate ``region``, which outlast arithmetic, selection and means: what the rest is."""
    attrs = {"long_name": "region"}
    if remainder:
        attrs["remainder"] = "unassigned"
    if overlapping:
        attrs["regions_overlap"] = 1
    return attrs


def check_labels(labels: np.ndarray) -> None:
    """Regions beside which GLOBAL is to stand."""
    if GLOBAL in as_text(labels):
        raise ValueError(f"a region is called {GLOBAL!r}, as the sum of all is: give it another label.")


def with_global(sums: xr.DataArray) -> xr.DataArray:
    """Integrals by region with GLOBAL as the last region, without the coordinates that lie on the regions.

    GLOBAL is absent where regions overlap. It is NaN, with a warning, where the coordinate ``unassigned`` is lost or
    no longer that of these numbers: ``assigned``, which rides with it, is the sum of the regions that it belongs to,
    and arithmetic, means and selections of regions change the one but not the other. Regions of other origin, without
    ``unassigned``, are taken as all there is.

    Parameters
    ----------
    sums
        (…, region), of ``aggregate_regions``, in any units.

    Warns
    -----
    UserWarning
        GLOBAL is unknown.

    Examples
    --------
    >>> sums = xr.DataArray([1.0, 2.0], {"region": ["EU", "BRA"], "unassigned": 0.5, "assigned": 3.0}, ("region",))
    >>> with_global(sums).sel(region="GLOBAL").item()
    3.5
    """
    sums = sums.rename({name: c for name, c in own_riding(sums).items() if c not in sums.coords})
    rest, said = sums.coords.get("unassigned"), sums["region"].attrs
    assigned = sums.coords.get("assigned")
    lost = said.get("remainder") if rest is None else None
    beside = [c for c, coord in sums.coords.items() if c in REMAINDERS or ("region" in coord.dims and c != "region")]
    sums = sums.drop_vars(beside)
    if GLOBAL in sums["region"].values or "regions_overlap" in {*sums.attrs, *said}:
        return sums
    whole = sums.sum("region", min_count=1)
    if rest is not None:
        whole = whole + rest.reset_coords(drop=True)
        if assigned is not None or "remainder" in said:
            whole = whole.where(_belongs(sums, assigned))
    elif lost:
        whole = whole * np.nan
    if lost or (rest is not None and whole.chunks is None and bool((whole.isnull() & rest.notnull()).any())):
        warn(
            "GLOBAL is unknown: what lies in no region (the coordinate 'unassigned') is lost, or was not changed with "
            "the regions, as by arithmetic, a mean or a choice of regions. Integrate with include_global=True, or do "
            "the same to sums of all regions and to 'unassigned', and drop the coordinate 'assigned'."
        )
    sums = sums.assign_coords(region=("region", as_text(sums["region"]), sums["region"].attrs))
    whole = whole.expand_dims(region=[GLOBAL], axis=-1).transpose(*sums.dims)
    return xr.concat([sums, whole], "region").assign_attrs(sums.attrs)


def _belongs(sums: xr.DataArray, assigned: xr.DataArray | None) -> xr.DataArray | bool:
    """Where the regions still add up to what they did when the remainder was taken."""
    if assigned is None:
        return False
    apart = abs(sums.sum("region") - assigned.reset_coords(drop=True).fillna(0))
    return apart <= _ROUNDING * abs(sums).sum("region")

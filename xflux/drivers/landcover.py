"""Land cover as drivers: the share of classes on the grid, a tower's own class as 0 or 1, under the same names."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from xflux.units import same
from xflux.values import as_text

IGBP = tuple("ENF EBF DNF DBF MF CSH OSH WSA SAV GRA WET CRO URB CVM SNO BSV WAT".split())
"""Classes of the International Geosphere-Biosphere Programme, in the order of their numbers from 1."""
Classes = Mapping[str, str | list[str] | Mapping[str, str | list[str]]]


def cover(obj: xr.Dataset | xr.DataArray, classes: Classes) -> xr.Dataset:
    """Shares of groups of land-cover classes, one variable a group, from 0 to 1; NaN where the class is unknown.

    Parameters
    ----------
    obj
        On the grid a DataArray: shares (class, lat, lon) whose one other dim is labelled by the classes, of 1 or in %
        (its units), or a map (lat, lon) of class numbers, labelled by ``flag_values`` and ``flag_meanings``, else those
        of IGBP (1 ENF … 17 WAT). At towers the Dataset over ``sample`` with the coordinate ``igbp``.
    classes
        Name of the driver = the classes that it adds up, e.g. ``{"forest": ["ENF", "EBF", "DNF", "DBF", "MF"]}``.
        Where the grid's classes are others than the towers', both: ``{"tree": {"grid": ["broadleaf_tree",
        "needleleaf_tree"], "towers": ["ENF", "EBF", "DNF", "DBF", "MF"]}}``.

    Raises
    ------
    ValueError
        Classes that the grid or the towers have no label for; they are listed. Shares above 1.

    Examples
    --------
    >>> towers = xr.Dataset(coords={"igbp": ("sample", ["ENF", "GRA", ""])})
    >>> cover(towers, {"forest": ["ENF", "MF"]}).forest.values
    array([ 1.,  0., nan])
    >>> igbp = xr.DataArray([[1.0, 10.0]], {"lat": [0.0], "lon": [0.0, 1.0]}, ("lat", "lon"), name="IGBP")
    >>> cover(igbp, {"forest": ["ENF", "MF"]}).forest.values
    array([[1., 0.]])
    """
    side = "towers" if isinstance(obj, xr.Dataset) else "grid"
    shares = _of_towers(obj) if side == "towers" else class_shares(obj)
    known = list(map(str, shares["class"].values))
    out = {}
    for name, given in classes.items():
        labels = given[side] if isinstance(given, Mapping) else given
        labels = [labels] if isinstance(labels, str) else list(labels)
        unknown = [label for label in labels if label not in known]
        if unknown:
            raise ValueError(f"cover {name!r}: no class {', '.join(unknown)}; the {side} have {', '.join(known)}")
        out[name] = shares.sel({"class": labels}).sum("class", skipna=False)
        out[name].attrs = {"units": "1", "long_name": f"share of {', '.join(labels)}"}
    return xr.Dataset(out).drop_vars("class", errors="ignore")


def _of_towers(towers: xr.Dataset) -> xr.DataArray:
    """(sample, class): 1 for a tower's own class."""
    if "igbp" not in towers.coords:
        raise ValueError("the towers have no coordinate igbp: give read_towers a site list with their classes")
    own = np.char.upper(np.char.strip(as_text(towers["igbp"])))
    labels = np.array(IGBP)
    share = np.where(np.isin(own, labels)[:, None], own[:, None] == labels, np.nan).astype(float)
    return xr.DataArray(share, {"class": labels}, ("sample", "class"))


def class_shares(field: xr.DataArray) -> xr.DataArray:
    """Shares ``class`` × (lat, lon), of fractions or of a map of class numbers, as `cover` takes them."""
    other = [d for d in field.dims if d not in ("lat", "lon")]
    if len(other) == 1 and other[0] in field.coords:
        shares = field.rename({other[0]: "class"}).assign_coords({"class": field[other[0]].values.astype(str)})
        shares = shares * 0.01 if same(str(field.attrs.get("units", "1")), "%") else shares
        if shares.chunks is None and shares.max() > 1.01:
            raise ValueError(f"land cover: shares of up to {shares.max():g}, not of 1: set attrs['units'] = '%' if so")
        return shares
    if other:
        raise ValueError(f"land cover: expected (lat, lon) or (class, lat, lon) with labels, got {field.dims}")
    labels = str(field.attrs["flag_meanings"]).split() if "flag_meanings" in field.attrs else list(IGBP)
    numbers = np.ravel(field.attrs.get("flag_values", np.arange(1, len(labels) + 1)))
    if len(numbers) != len(labels):
        raise ValueError(f"land cover: {len(numbers)} flag_values and {len(labels)} flag_meanings")
    number = xr.DataArray(numbers, {"class": labels}, "class")
    return (field == number).astype(float).where(field.isin(numbers))

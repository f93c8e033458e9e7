"""What a flux says of itself beside its numbers: per m2 of what it is."""

import re
import warnings

import xarray as xr

BASES = ("land", "cell")
_METHOD = re.compile(r"((?:\w+:\s*)+)(\w+)(?:\s+where\s+(\w+)(?:\s+over\s+(\w+))?)?")
_HORIZONTAL = ({"area"}, {"lat", "lon"}, {"latitude", "longitude"})


def check_basis(basis: str) -> str:
    if basis not in BASES:
        raise ValueError(f"area_basis {basis!r} is unknown; expected 'land' or 'cell': what the flux is per m2 of.")
    return basis


def area_basis(obj: xr.DataArray | xr.Dataset, given: str | None = None) -> str | None:
    """Whether a flux is per m2 of "land" or of the whole "cell"; None where nothing says so.

    Parameters
    ----------
    obj
        Its ``attrs["area_basis"]``, else its CF ``cell_methods`` are read.
    given
        Said by the caller, and then true.

    Raises
    ------
    ValueError
        Another basis: an unknown word, or a mean over something else than land or the cell ("area: mean where crops").

    Examples
    --------
    >>> area_basis(xr.DataArray(attrs={"cell_methods": "area: mean where land time: mean"}))
    'land'
    >>> area_basis(xr.DataArray(attrs={"cell_methods": "area: mean where land over all_area_types"}))
    'cell'
    """
    own = given or obj.attrs.get("area_basis")
    return check_basis(own) if own else _from_cell_methods(str(obj.attrs.get("cell_methods", "")))


def assumed_area_basis(obj: xr.DataArray, given: str | None = None, stacklevel: int = 2) -> tuple[str, bool]:
    """The basis, and whether it had to be assumed: then it is "cell", with a warning."""
    basis = area_basis(obj, given)
    if basis is None:
        warnings.warn(
            "the flux does not say whether it is per m2 of land or of the whole cell; area_basis 'cell' is assumed. "
            "Set attrs['area_basis'] to 'land' or 'cell', or give area_basis=.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return basis or "cell", basis is None


def _from_cell_methods(methods: str) -> str | None:
    """CF 7.3.3: a mean "where X" is per area of X, "where X over Y" per area of Y."""
    for names, method, where, over in _METHOD.findall(re.sub(r"\(.*?\)", " ", methods)):
        axes = set(re.findall(r"\w+", names))
        if method != "mean" or not any(horizontal <= axes for horizontal in _HORIZONTAL):
            continue
        kind = (over or where or "all_area_types").lower()
        if kind not in ("land", "all_area_types"):
            raise ValueError(
                f"cell_methods {methods!r}: the flux is per m2 of {kind}, neither of land nor of the cell. Multiply it "
                f"by the share of {kind} in the cell and give area_basis='cell', or drop cell_methods if it is wrong."
            )
        return "land" if kind == "land" else "cell"
    return None

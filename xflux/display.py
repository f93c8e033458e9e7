"""What an object is, as text of one screen: a title and its facts."""

import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from textwrap import fill

import xarray as xr

WIDTH = 110
ENSEMBLE_DIMS = ("member", "inversion", "realization", "realisation", "ensemble", "site_fold")
"""What the dim of an ensemble's members may be called."""


def described(title: str, facts: Mapping[str, object]) -> str:
    """A title in angle brackets and one aligned line for each fact; empty ones are left out.

    >>> print(described("xflux.Model: nee", {"drivers": "tair, rg", "members": ""}))
    <xflux.Model: nee>
      drivers:  tair, rg
    """
    shown = {name: str(value) for name, value in facts.items() if value not in (None, "", ())}
    width = max(map(len, shown), default=0) + 2
    lines = [
        fill(value, WIDTH, initial_indent=f"  {name + ':':{width}}", subsequent_indent=" " * (width + 2))
        for name, value in shown.items()
    ]
    return "\n".join([f"<{title}>", *lines])


def some_of(names: Sequence, most: int = 12) -> str:
    """The first names of a long list, and how many more there are.

    >>> some_of(["BRA", "EU", "USA"], 2)
    'BRA, EU and 1 more'
    """
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def sized(da: xr.DataArray) -> str:
    """Sizes of the dims, the first and the last step, units.

    >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
    >>> sized(xr.DataArray([[0.0] * 24], {"time": time}, ("region", "time"), attrs={"units": "PgC month-1"}))
    '1 region × 24 time (2001-01-01 … 2002-12-01), PgC month-1'
    """
    sizes = []
    for dim, size in da.sizes.items():
        dates = f" ({str(da[dim].values[0])[:10]} … {str(da[dim].values[-1])[:10]})" if dim == "time" and size else ""
        sizes.append(f"{size} {dim}{dates}")
    units = da.attrs.get("units")
    return " × ".join(sizes) + (f", {units}" if units else "")


def contents_of(attrs: Mapping) -> str:
    """What a flux contains by its attributes, in words.

    >>> contents_of({"includes_fire": 1, "includes_rivers": 0})
    'with fire, without rivers'
    """
    known = {key.removeprefix("includes_"): str(value) for key, value in attrs.items() if key.startswith("includes_")}
    none = ("0", "0.0", "False")
    return ", ".join(f"{'without' if value in none else 'with'} {name}" for name, value in known.items())


def named_units(names, units: Mapping[str, str]) -> str:
    """ "tair (degC), rg": names with the units that are known."""
    return ", ".join(f"{name} ({units[name]})" if units.get(name) else str(name) for name in names)


def teller(progress: bool | Callable[[str], None], log: logging.Logger) -> Callable[[str], None]:
    """Who hears of progress, line by line: a function, standard error (True), else the log.

    >>> teller(print, logging.getLogger())("3/18 regions")
    3/18 regions
    """
    if callable(progress):
        return progress
    return (lambda line: print(line, file=sys.stderr, flush=True)) if progress else log.info

"""A budget as text for a terminal, as a file (csv, markdown, netCDF), and as a figure."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from xflux.extras import require
from xflux.files import require_place, whole
from xflux.plot import annual, regions
from xflux.plot.styling import CM, MOST, PAGE, save, style
from xflux.regions.globe import GLOBAL
from xflux.tabulate.table import Budget

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Group
    from rich.table import Table

KIND, FIGURE = "xflux budget", "xflux figure"
_SIGN = {"up": "positive into the atmosphere", "down": "positive into the land"}
TABLES, FIGURES = (".csv", ".md", ".nc"), (".png", ".pdf", ".svg")


def frame(budget: Budget) -> "pd.DataFrame":
    """One row for each region and period, all digits."""
    table = budget.table
    names = ["mean", "spread", "sd_years", "valid_fraction", "n_members"]
    rows = table[[*names, "n_years"]].to_dataframe(dim_order=["period", "region"]).reset_index()
    first = ["region", *(["region_name"] if "region_name" in table.coords else []), "period"]
    return rows[[*first, *names, "n_years"]].assign(units=table.attrs["units"])


def caption(budget: Budget, period: str) -> str:
    """What the numbers of a period are."""
    table = budget.table
    one = table.sel(period=period)
    several = budget.yearly["flux"].ndim > 1 + ("year" in budget.yearly.dims)
    said = [f"{table.attrs['flux']} of {table.attrs['products']}", table.attrs["units"]]
    said += [_SIGN[table.attrs["positive"]]] if table.attrs.get("positive") in _SIGN else []
    if "year" in budget.yearly.dims:
        said.append(f"{period} ({int(one['n_years'])} year{'s' * (int(one['n_years']) != 1)})")
    if several:
        said.append(f"{int(one['n_members'].max())} members")
    return ", ".join(said)


def digits_of(table: xr.Dataset) -> int:
    """Decimals that leave a region of ordinary size two digits."""
    regions = abs(table["mean"]).where((table["region"] != GLOBAL) | (table.sizes["region"] == 1))
    middle = float(regions.where(regions > 0).median())
    return int(np.clip(1 - np.floor(np.log10(middle)), 0, 6)) if np.isfinite(middle) else 2


def words(budget: Budget, period: str) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of a period; columns of which nothing is known are left out."""
    table, digits = budget.table.sel(period=period), digits_of(budget.table)
    columns = {"mean": "mean", "spread": "± members", "sd_years": "sd of years", "valid_fraction": "covered"}
    columns = {key: label for key, label in columns.items() if bool(table[key].notnull().any()) or key == "mean"}
    named = "region_name" in table.coords and bool((table["region_name"] != table["region"]).isel(region=0))
    told = {"region": "region"} | ({"region_name": "name"} if named else {})
    shown = [table[key].values.astype(str) for key in told]
    shown += [[_number(value, digits, key) for value in table[key].values.tolist()] for key in columns]
    return [*told.values(), *columns.values()], [list(row) for row in zip(*shown, strict=True)]


def _number(value: float, digits: int, key: str) -> str:
    if np.isnan(value):
        return "–"
    if key == "valid_fraction":
        return f"{100 * value:.0f} %"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else text.replace("-", "")


def text(budget: Budget, period: str) -> "Group":
    """The table of a period under its caption for a terminal (``rich``), GLOBAL below a line.

    Parameters
    ----------
    budget
        As :func:`budget` returns it.
    period
        A label of its table.

    Raises
    ------
    KeyError
        Another period.

    Examples
    --------
    >>> from xflux.regions import regional_budget
    >>> flux = xr.DataArray([[-0.2, -0.4]], {"region": ["EU"], "year": [2001, 2002]}, attrs={"units": "PgC yr-1"})
    >>> table = regional_budget(flux).assign_attrs(flux="nee", products="CTE")
    >>> found = Budget(table, flux.to_dataset(name="flux"), ["CTE"])
    >>> text(found, "2001–2002").renderables[0].plain
    'nee of CTE, PgC yr-1, 2001–2002 (2 years)'
    """
    from rich.console import Group
    from rich.text import Text

    heads, rows = words(budget, period)
    table = aligned(heads, rows, left=2 if "name" in heads else 1)
    return Group(Text(caption(budget, period), style="bold"), table)


def aligned(heads: list[str], rows: list[list[str]], left: int = 1) -> "Table":
    """Rows under headings for a terminal, the first columns (``left``) set to the left, the rest to the right."""
    from rich.box import HORIZONTALS
    from rich.table import Table
    from rich.text import Text

    table = Table(box=HORIZONTALS, show_edge=False, pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(Text(head), justify="left" if i < left else "right", no_wrap=i == 0)
    for row, following in zip(rows, [*rows[1:], [""]], strict=True):
        table.add_row(*map(Text, row), end_section=following[0] == GLOBAL)
    return table


def in_markdown(budget: Budget) -> str:
    """All periods as Markdown tables under their captions."""
    parts = [f"<!-- {KIND} -->"]
    for period in budget.table["period"].values.tolist():
        heads, rows = words(budget, period)
        left = 2 if "name" in heads else 1
        rule = [":--" if i < left else "--:" for i in range(len(heads))]
        lines = [f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows)]
        parts.append(f"**{caption(budget, period)}**\n\n" + "\n".join(lines))
    return "\n\n".join(parts) + "\n"


def check_places(out: str | Path | None = None, plot: str | Path | None = None) -> None:
    """An error where a table or a figure could not be written, before anything is worked out.

    Raises ValueError: a suffix that is none of ``TABLES`` or ``FIGURES``; FileExistsError, PermissionError: something
    else is there, or the folder may only be read; ImportError: a figure without matplotlib.

    >>> check_places(plot="table.xlsx")
    Traceback (most recent call last):
        ...
    ValueError: plot='table.xlsx': expected a name that ends in .png, .pdf, .svg
    """
    if plot is not None:
        require("plot", by="a figure of the budget")
    for option, path, known, kind in (("out", out, TABLES, KIND), ("plot", plot, FIGURES, FIGURE)):
        if path is None:
            continue
        if Path(path).suffix.lower() not in known:
            raise ValueError(f"{option}={str(path)!r}: expected a name that ends in {', '.join(known)}")
        require_place(path, kind)


def write(budget: Budget, path: str | Path) -> Path:
    """Write the table to a file, whose path is returned; only an older one is replaced.

    Parameters
    ----------
    budget
        As :func:`budget` returns it.
    path
        .csv and .nc (all digits) or .md (as it is shown).

    Raises
    ------
    ValueError, FileExistsError, PermissionError
        Another suffix; something else is there, or the folder may only be read.

    Examples
    --------
    >>> import tempfile
    >>> from xflux.regions import regional_budget
    >>> flux = xr.DataArray([[-0.2, -0.4]], {"region": ["EU"], "year": [2001, 2002]}, attrs={"units": "PgC yr-1"})
    >>> table = regional_budget(flux).assign_attrs(flux="nee", products="CTE")
    >>> found = Budget(table, flux.to_dataset(name="flux"), ["CTE"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write(found, f"{folder}/table.md").read_text().splitlines()[-2]
    '| EU | −0.30 | 0.14 |'
    """
    check_places(out=path)
    path = Path(path)
    with whole(path, KIND) as part:
        if path.suffix.lower() == ".csv":
            frame(budget).to_csv(part, index=False)
        elif path.suffix.lower() == ".md":
            part.write_text(in_markdown(budget), encoding="utf-8")
        else:
            units = budget.table.attrs["units"]
            by_year = budget.yearly["flux"].drop_attrs().assign_attrs(units=units)
            budget.table.assign(yearly=by_year).assign_attrs(title=KIND).to_netcdf(part)
    return path


def draw(budget: Budget, path: str | Path) -> Path:
    """Write :func:`figure` to a file, whose path is returned; only an older figure is replaced.

    Parameters
    ----------
    budget
        As :func:`budget` returns it.
    path
        .png, .pdf or .svg.

    Raises
    ------
    ValueError, FileExistsError, PermissionError
        Another suffix; something else is there, or the folder may only be read.

    Examples
    --------
    >>> import tempfile
    >>> from xflux.regions import regional_budget
    >>> flux = xr.DataArray([[-0.2, -0.4]], {"region": ["EU"], "year": [2001, 2002]}, attrs={"units": "PgC yr-1"})
    >>> table = regional_budget(flux).assign_attrs(flux="nee", products="CTE")
    >>> found = Budget(table, flux.to_dataset(name="flux"), ["CTE"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     draw(found, f"{folder}/budget.png").name
    'budget.png'
    """
    check_places(plot=path)
    path = Path(path)
    (saved,) = save(figure(budget), path.with_suffix(""), (path.suffix[1:],))
    return saved


def figure(budget: Budget):
    """Bars of the largest regions of the first period and, below, the years of the globe or of the largest region."""
    import matplotlib.pyplot as plt

    name = _quantity(budget)
    period = str(budget.table["period"].values[0])
    means = _members(budget, period)
    means = means.sel(region=means["region"] != GLOBAL).dropna("region", how="all")  # the globe has its own panel
    if "region_name" in budget.table.coords:
        means = means.assign_coords(region_name=budget.table["region_name"].sel(region=means["region"]))
    years = _series(budget)
    height = max(6.0, 3.0 + 0.42 * min(means.sizes["region"], MOST)) * CM
    with style():
        fig, axes = plt.subplots(
            1, 1 if years is None else 2, figsize=(PAGE / (2 if years is None else 1), height), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        label = period if "year" in budget.yearly.dims else ""
        regions(
            {name: means}, axes[0, 0], kinds={name: "bar"}, title=f"{label} mean".strip().capitalize(), legend=False
        )
        if years is not None:
            annual({name: years}, axes[0, 1], title=str(years.attrs.pop("where")))
        fig.suptitle(caption(budget, period))
    return fig


def _quantity(budget: Budget) -> str:
    return budget.table.attrs["products"] if len(budget.products) == 1 else budget.table.attrs["flux"]


def _members(budget: Budget, period: str) -> xr.DataArray:
    """([member], region): each member's mean over the years of a period."""
    flux = budget.yearly["flux"]
    if "year" in flux.dims:
        flux = flux.sel(year=_years_of(flux, period)).mean("year", skipna=False)
    return _one_ensemble(flux, "region", budget)


def _one_ensemble(flux: xr.DataArray, along: str, budget: Budget) -> xr.DataArray:
    """([member], along): all dims of the ensemble as one."""
    inner = [d for d in flux.dims if d != along]
    flux = flux.stack(member=inner).reset_index("member", drop=True) if inner else flux
    return flux.assign_attrs(units=budget.table.attrs["units"]).rename(None)


def _years_of(flux: xr.DataArray, period: str) -> slice:
    first, _, last = period.partition("–")
    known = flux["year"].values
    return slice(int(first), int(last)) if first.isdigit() and last.isdigit() else slice(known.min(), known.max())


def _series(budget: Budget) -> xr.DataArray | None:
    flux = budget.yearly["flux"]
    if "year" not in flux.dims or flux.sizes["year"] < 2:
        return None
    where = GLOBAL if GLOBAL in flux["region"].values else flux["region"].values[0]
    flux = flux.sel(region=where, drop=True)
    flux = flux.where(flux.notnull().all([d for d in flux.dims if d != "year"]))  # a year is that of all members
    return _one_ensemble(flux, "year", budget).assign_attrs(where="Globe" if where == GLOBAL else where)

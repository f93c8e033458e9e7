"""A bridge to look at: text, HTML, bridged against full integrals."""

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = ("n_pixels", "r2", "r2_cv", "r2_anomaly", "intercept", "alpha", "status")


def _headline(regions: xr.Dataset, opts: dict[str, Any]) -> str:
    band = "no band" if opts.get("window") is None else f"DTW band {opts['window']} months"
    form = "mean rates" if opts.get("month_lengths", True) else "months as they are (the paper's literal form)"
    return (
        f"{int(regions['n_pixels'].sum())} contributing pixels for {regions.sizes['region']} regions; "
        f"fitted to R² {opts.get('r2')} on {opts.get('n_samples')} samples, {form}, {band}, seed {opts.get('seed')}"
    )


def _cell(name: str, value: Any) -> str:
    if name == "status" or name == "n_pixels":
        return str(value)
    return "–" if np.isnan(value) else f"{value:.3f}" if name.startswith("r2") else f"{value:.3g}"


def _rows(table: xr.Dataset) -> list[list[str]]:
    return [
        [str(table["region"].values[k]), *(_cell(name, table[name].values[k]) for name in _COLUMNS)]
        for k in range(table.sizes["region"])
    ]


def text(regions: xr.Dataset, options: dict[str, Any]) -> str:
    """The readable form: a headline and one line a region."""
    rows = [["region", *_COLUMNS], *_rows(regions)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([f"<xflux.Bridge> {_headline(regions, options)}", *lines])


def html(regions: xr.Dataset, options: dict[str, Any]) -> str:
    """The same as an HTML table, for notebooks."""
    head = "".join(f"<th>{escape(name)}</th>" for name in ("region", *_COLUMNS))
    body = "".join(
        "<tr>" + "".join(f"<td style='text-align:right'>{escape(cell)}</td>" for cell in row) + "</tr>"
        for row in _rows(regions)
    )
    return (
        f"<div><b>xflux.Bridge</b><br>{escape(_headline(regions, options))}"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def plot_diagnosis(
    diagnosis: xr.Dataset, bridged: xr.DataArray, full: xr.DataArray, ax: "Axes | None" = None
) -> "Axes":
    """Bridged against full integrals (PgC month-1), a colour per region and the line of equality; broken ones named."""
    import matplotlib.pyplot as plt

    ax = plt.subplots(figsize=(5, 4.5), layout="constrained")[1] if ax is None else ax
    colours = plt.get_cmap("tab20")
    for k, label in enumerate(diagnosis["region"].values):
        row = diagnosis.sel(region=label)
        if not int(row["n"]):
            continue
        mark = "" if bool(row["holds"]) else " BROKEN"
        values = [obj.sel(region=label).values.ravel() for obj in (full, bridged)]
        ax.plot(*values, ".", color=colours(k % 20), markersize=3, label=f"{label} R² {float(row['r2']):.2f}{mark}")
    ends = ax.get_xlim()
    ax.plot(ends, ends, "k-", linewidth=0.6, zorder=0)
    units = full.attrs["units"].replace("-1", "$^{-1}$")
    ax.set_xlabel(f"full integral ({units})")
    ax.set_ylabel(f"through the bridge ({units})")
    ax.legend(fontsize="xx-small", ncols=2, markerscale=2)
    return ax

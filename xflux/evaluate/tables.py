"""The paper's Tables 2, 3 and C1 for any set of products and a reference, as data frames in the paper's layout."""

from collections.abc import Hashable, Iterable, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from xflux.display import ENSEMBLE_DIMS, some_of
from xflux.evaluate.pairs import in_units
from xflux.evaluate.scores import score
from xflux.regions import GLOBAL, with_global
from xflux.temporal.averages import GAP
from xflux.units import usual_amount
from xflux.values import warn

CARBON_UNITS = "PgC yr-1"
HEADINGS = {"r": "Pearson's R", "rmse": "RMSE", "bias": "Bias", "nse": "NSE", "nnse": "nNSE", "r2": "R²", "n": "n"}
# Table C1, last three columns of every row: mean land sink and its interannual variability (PgC yr-1), period
LITERATURE = (
    ("Crisp et al. (2022)", -2.2, 0.6, "2000–2009"),
    ("Friedlingstein et al. (2022)", -2.91, 0.81, "2000–2017"),
    ("Gaubert et al. (2019), northern extratropics", -2.17, 0.36, "2004–2014"),
    ("Gaubert et al. (2019), tropics + southern extratropics", -0.06, 0.11, "2004–2014"),
    ("Ruehr et al. (2023)", -3.1, 0.6, "2010–2019"),
)


def annual_table(
    products: Mapping[str, xr.DataArray],
    reference: xr.DataArray,
    *,
    second: xr.DataArray | None = None,
    second_name: str = "BUDGET",
    metrics: Iterable[str] = ("r", "rmse"),
    allow_contents: Iterable[str] = (),
) -> pd.DataFrame:
    """Table 2: annual regional integrals of every product against a reference.

    Parameters
    ----------
    products : name → (time | year, region [, member | inversion]) regional integrals, PgC per month or year; steps
        shorter than a year are summed first. The mean over an ensemble's dim is scored. What ``valid_fraction`` says
        less of is valid than in the same month of other years is left out, with a warning.
    reference : the same for the reference (the inversions; their mean is used).
    second : (time | year) a second reference for the globe alone (the budget), the last row.
    second_name : what that row is called.
    metrics : names of ``score``'s variables, one block of columns each.
    allow_contents : as in ``score``.

    Returns
    -------
    pd.DataFrame
        Rows GLOBAL, the regions in the reference's order, then ``second_name``; columns (metric, product), in PgC yr-1
        (water PgH2O, energy ZJ). GLOBAL is the region of that name, else the sum of the regions and what lies in none
        (``unassigned``). Years are matched by number, whatever the stamps and calendars; ``attrs["period"]`` names
        those that all share.

    Raises
    ------
    ValueError
        No years in common; what ``score`` refuses.

    Examples
    --------
    >>> place = {"year": [2001, 2002, 2003], "region": ["EU", "BRA"]}
    >>> inversions = xr.DataArray([[-0.5, 0.2], [-0.3, 0.4], [-0.4, 0.6]], place, attrs={"units": "PgC yr-1"})
    >>> annual_table({"EC-ATM": inversions + 0.1}, inversions).round(2)
    metric  Pearson's R   RMSE
    product      EC-ATM EC-ATM
    region
    GLOBAL          1.0    0.2
    EU              1.0    0.1
    BRA             1.0    0.1
    """
    annual = {name: _by_year(_mean(_with_global(da))) for name, da in products.items()}
    target = _by_year(_mean(_with_global(reference)))
    beside = None if second is None else _by_year(_mean(second))
    extra = {} if beside is None else {second_name: beside}
    years = _common({**annual, "the reference": target, **extra}, "year")
    target = target.sel(year=years)
    annual = {name: da.sel(year=years) for name, da in annual.items()}
    scores = _scores(annual, target, "year", allow_contents)
    table = _block(scores, metrics, list(target["region"].values))
    if beside is not None:
        for name, da in annual.items():
            globe = da.sel(region=GLOBAL, drop=True)
            found = score(globe, beside.sel(year=years), "year", allow_contents=allow_contents)
            for metric in metrics:
                table.loc[second_name, (HEADINGS[metric], name)] = float(found[metric])
    return _stamp(table, target.attrs.get("units", CARBON_UNITS), years)


def monthly_table(
    products: Mapping[str, xr.DataArray],
    reference: xr.DataArray,
    *,
    metrics: Iterable[str] = ("r", "rmse"),
    allow_contents: Iterable[str] = (),
) -> pd.DataFrame:
    """Table 3: monthly regional integrals and mean seasonal cycles (MSC) of every product against a reference.

    Parameters are those of ``annual_table``. Months are matched by year and month, whatever the stamps; the MSC is
    the mean by month over the common months. Where a side has only a climatology (dim ``month``), the blocks of the
    monthly series are left out.

    Parameters
    ----------
    products, reference, metrics, allow_contents : as in ``annual_table``, by month: (time | month, region [, …]).

    Returns
    -------
    pd.DataFrame
        Rows GLOBAL and the regions; columns (metric, product), the monthly integrals first ("RMSE – monthly
        integrals"), then the MSC ("RMSE – MSC"), in PgC month-1 (water PgH2O, energy ZJ).

    Raises
    ------
    ValueError
        No months in common; what ``score`` refuses.

    Examples
    --------
    >>> time = xr.date_range("2001-01-01", periods=24, freq="MS")
    >>> nee = np.cos(2 * np.pi * (time.month.to_numpy() - 1) / 12)[:, None] * [1.0, 0.2]
    >>> inversions = xr.DataArray(nee, {"time": time, "region": ["EU", "BRA"]}, attrs={"units": "PgC month-1"})
    >>> monthly_table({"EC-ATM": 0.9 * inversions}, inversions)["RMSE – MSC"].round(3)
    product  EC-ATM
    region
    GLOBAL    0.085
    EU        0.071
    BRA       0.014
    """
    monthly = {name: _by_month(_mean(_with_global(da))) for name, da in products.items()}
    target = _by_month(_mean(_with_global(reference)))
    names = list(target["region"].values)
    series = all("month_of_era" in da.dims for da in (*monthly.values(), target))
    blocks, months = [], None
    if series:
        months = _common({**monthly, "the reference": target}, "month_of_era")
        target = target.sel(month_of_era=months)
        monthly = {name: da.sel(month_of_era=months) for name, da in monthly.items()}
        scores = _scores(monthly, target, "month_of_era", allow_contents)
        blocks.append(_block(scores, metrics, names, " – monthly integrals"))
    cycles = {name: _cycle(da) for name, da in monthly.items()}
    scores = _scores(cycles, _cycle(target), "month", allow_contents)
    blocks.append(_block(scores, metrics, names, " – MSC"))
    table = pd.concat(blocks, axis=1)
    years = None if months is None else np.unique((np.asarray(months) - 1) // 12)
    return _stamp(table, target.attrs.get("units", "PgC month-1"), years)


def sink_table(
    products: Mapping[str, xr.DataArray], *, literature: bool = True, years: Iterable[int] | None = None
) -> pd.DataFrame:
    """Table C1: mean annual land flux and the magnitude of its interannual variability, beside recent studies.

    Parameters
    ----------
    products : name → (time | year [, region] [, member | inversion]); with ``region``, GLOBAL or the sum is taken.
    years : restrict to these years; default all of each product (the column *Period* says which).
    literature : whether the rows of recent studies stand below.

    Returns
    -------
    pd.DataFrame
        By study: mean, its standard deviation over members (NaN without), IAV (standard deviation, n − 1, of the
        linearly detrended annual values of each member, then averaged; NaN below three years), period.

    Raises
    ------
    ValueError
        Values that are neither annual nor can be summed to years, products of different kinds, no such years.

    Examples
    --------
    >>> nee = xr.DataArray([-3.1, -2.8, -3.4, -3.0], {"year": range(2001, 2005)}, attrs={"units": "PgC yr-1"})
    >>> sink_table({"EC-ATM": nee}, literature=False).round(2).T
    Study                         EC-ATM
    Land flux mean (PgC yr-1)      -3.08
    ± over members                   NaN
    IAV magnitude (PgC yr-1)        0.25
    Period                     2001–2004
    """
    rows, units = [], set()
    for name, da in products.items():
        annual = _by_year(_with_global(da).sel(region=GLOBAL, drop=True))
        units.add(annual.attrs.get("units") or CARBON_UNITS)
        annual = annual.dropna("year") if annual.notnull().any() else annual
        if years is not None:
            annual = annual.sel(year=sorted(set(years) & set(annual["year"].values.tolist())))
        axis, values = annual["year"].values, np.asarray(annual.transpose("year", ...), dtype="float64")
        values = values.reshape(len(axis), -1)
        means = values.mean(axis=0)
        spread = means.std(ddof=1) if means.size > 1 else np.nan
        rows.append((name, means.mean(), spread, _detrended_std(axis, values), _period(axis)))
    if len(units) > 1:
        raise ValueError(f"products of different kinds, in {sorted(units)}: make a table of each kind")
    if literature and units <= {CARBON_UNITS}:
        rows += [(study, mean, np.nan, iav, period) for study, mean, iav, period in LITERATURE]
    per = next(iter(units), CARBON_UNITS)
    columns = ["Study", f"Land flux mean ({per})", "± over members", f"IAV magnitude ({per})", "Period"]
    return pd.DataFrame(rows, columns=columns).set_index("Study")


def markdown(table: pd.DataFrame, digits: int = 3, best: bool = True) -> str:
    """A table of this module as Markdown; the best product of each row and metric is bold.

    Best is the highest R, R², NSE or nNSE, the lowest RMSE, the bias nearest to zero.

    Parameters
    ----------
    table : as ``annual_table``, ``monthly_table`` and ``tower_table`` give it.
    digits : after the point.
    best : whether the best of each row is bold.

    Examples
    --------
    >>> place = {"year": [2001, 2002, 2003], "region": ["EU", "BRA"]}
    >>> inversions = xr.DataArray([[-0.5, 0.2], [-0.3, 0.4], [-0.4, 0.6]], place, attrs={"units": "PgC yr-1"})
    >>> table = annual_table({"A": inversions + 0.2, "B": inversions + 0.1}, inversions, metrics=["rmse"])
    >>> print(markdown(table, digits=1))
    | region | RMSE: A | RMSE: B |
    |---|---|---|
    | GLOBAL | 0.4 | **0.2** |
    | EU | 0.2 | **0.1** |
    | BRA | 0.2 | **0.1** |
    """
    frame, nested = table, isinstance(table.columns, pd.MultiIndex)
    heads = [f"{a}: {b}" if nested else str(a) for a, b in (c if nested else (c, "") for c in frame.columns)]
    cells = [[_cell(v, digits) for v in row] for row in frame.itertuples(index=False)]
    if best and nested:
        for heading in dict.fromkeys(frame.columns.get_level_values(0)):
            where = [i for i, c in enumerate(frame.columns) if c[0] == heading]
            for i, row in enumerate(frame.iloc[:, where].to_numpy(dtype="float64")):
                winner = _best(heading, row)
                if winner is not None:
                    cells[i][where[winner]] = f"**{cells[i][where[winner]]}**"
    first = " / ".join(str(n or "") for n in frame.index.names)
    rows = [" / ".join(map(str, name)) if isinstance(name, tuple) else str(name) for name in frame.index]
    lines = ["| " + " | ".join([first, *heads]) + " |", "|" + "---|" * (len(heads) + 1)]
    lines += ["| " + " | ".join([name, *row]) + " |" for name, row in zip(rows, cells, strict=True)]
    return "\n".join(lines) + "\n"


def _cell(value, digits: int) -> str:
    if isinstance(value, str):
        return value
    if value is None or not np.isfinite(value):
        return "–"
    return str(int(value)) if float(value).is_integer() and abs(value) >= 10 else f"{value:.{digits}f}"


def _best(heading: str, row: np.ndarray) -> int | None:
    if np.isfinite(row).sum() < 2 or heading.startswith("n "):
        return None
    if heading.startswith("RMSE"):
        return int(np.nanargmin(row))
    return int(np.nanargmin(np.abs(row))) if heading.startswith("Bias") else int(np.nanargmax(row))


def _mean(da: xr.DataArray) -> xr.DataArray:
    """The mean over an ensemble's dim; where members differ in their gaps, all must be there."""
    dims = [d for d in da.dims if d in ENSEMBLE_DIMS]
    return da.mean(dims, skipna=False, keep_attrs=True) if dims else da


def _by_year(da: xr.DataArray) -> xr.DataArray:
    """Annual amounts along ``year``, in PgC yr-1."""
    if "year" not in da.dims:
        if "time" not in da.dims:
            raise ValueError(f"annual values need the dim time or year; got {da.dims} (a climatology has no years)")
        if len(np.unique(da["time"].dt.year)) < da.sizes["time"]:
            from xflux.temporal import annual

            if not da.attrs.get("units"):
                raise ValueError("steps shorter than a year need units, such as 'PgC month-1': is this an amount?")
            da = annual(da.drop_vars("valid_fraction", errors="ignore"), complete=True)
            da = da.where(da["valid_fraction"] > 1 - 1e-6)  # a sum with a month missing is no annual value
        da = _relabel(da, "year", da["time"].dt.year)
    return _in_usual(da, "yr-1")


def _by_month(da: xr.DataArray) -> xr.DataArray:
    """Monthly amounts along ``month`` (a climatology) or ``month_of_era`` (12 · year + month), in PgC month-1."""
    if "month" in da.dims:
        return _in_usual(da, "month-1")
    if "time" not in da.dims:
        raise ValueError(f"monthly values need the dim time or month; got {da.dims}")
    era = da["time"].dt.year * 12 + da["time"].dt.month
    if len(np.unique(era)) < da.sizes["time"]:
        raise ValueError("these values are not monthly (several fall in one month): integrate them to months first")
    return _in_usual(_relabel(da, "month_of_era", era), "month-1")


def _relabel(da: xr.DataArray, name: str, labels: xr.DataArray) -> xr.DataArray:
    da = da.drop_vars([name, "valid_fraction"], errors="ignore")
    da = da.assign_coords({name: ("time", np.asarray(labels))}).swap_dims(time=name)
    return da.drop_vars("time").sortby(name)


def _in_usual(da: xr.DataArray, per: str) -> xr.DataArray:
    """In PgC, PgH2O or ZJ, by what the flux is of."""
    return in_units(da, f"{usual_amount(da.attrs)} {per}")


def _with_global(da: xr.DataArray) -> xr.DataArray:
    """GLOBAL first, then the regions; before units, means or steps change the regions but not the remainder."""
    if "region" not in da.dims:
        return da.expand_dims(region=[GLOBAL])
    da, short = with_global(da), _short(da)
    if short is not None and da.sizes["region"] > short.sizes["region"]:
        short = xr.concat([short, short.any("region").expand_dims("region")], "region")
    da = da if short is None else da.where(~short.assign_coords(region=da["region"]))
    names = da["region"].values.tolist()
    if GLOBAL not in names:
        raise ValueError(f"the regions {names} overlap, so they have no sum: give integrals that hold {GLOBAL}.")
    return da.sel(region=[GLOBAL, *(name for name in names if name != GLOBAL)])


def _short(da: xr.DataArray) -> xr.DataArray | None:
    """Where less of a region is valid than in the same month of other years; None where nowhere, or nothing says it."""
    valid = da.coords.get("valid_fraction")
    if valid is None or not {"time", "region"} <= set(valid.dims):
        return None
    by_month = valid.reset_coords(drop=True).groupby("time.month")
    short = ((by_month - (1 - GAP) * by_month.max()) < 0) & da.notnull().reset_coords(drop=True)
    short = short.drop_vars(["month", "region"], errors="ignore").compute()
    if not short.any():
        return None
    years = np.unique(da["time"].dt.year[short.any([d for d in short.dims if d != "time"]).values])
    regions = da["region"].values[short.any([d for d in short.dims if d != "region"]).values]
    warn(
        f"in {some_of(years)} less of {some_of(regions)} is valid than in other years "
        f"(valid_fraction): left out of the table. Drop the coordinate valid_fraction of integrals to keep it."
    )
    return short


def _common(arrays: Mapping[str, xr.DataArray], dim: str) -> np.ndarray:
    """Labels of ``dim`` that all arrays share; none raises."""
    labels = None
    for da in arrays.values():
        labels = set(da[dim].values.tolist()) if labels is None else labels & set(da[dim].values.tolist())
    if not labels:
        spans = {name: f"{da[dim].values.min()}–{da[dim].values.max()}" for name, da in arrays.items() if da.sizes[dim]}
        raise ValueError(f"the products have no {dim} in common: {spans}")
    return np.array(sorted(labels))


def _scores(
    products: Mapping[str, xr.DataArray], target: xr.DataArray, dim: str, allow: Iterable[str]
) -> dict[str, xr.Dataset]:
    """Each product's scores against the target, region by region."""
    found, theirs = {}, list(target["region"].values)
    for name, da in products.items():
        ours = list(da["region"].values)
        if set(ours) != set(theirs):
            raise ValueError(f"the regions of {name!r} {ours} are not those of the reference {theirs}")
        found[name] = score(da.sel(region=theirs), target, dim, allow_contents=allow)
    return found


def _cycle(da: xr.DataArray) -> xr.DataArray:
    if "month" in da.dims:
        return da
    months = ((da["month_of_era"] - 1) % 12 + 1).rename("month")
    return da.groupby(months).mean("month_of_era").assign_attrs(da.attrs)


def _block(scores: Mapping[str, xr.Dataset], metrics: Iterable[str], regions: list[Hashable], suffix: str = ""):
    columns = {(HEADINGS[m] + suffix, name): np.asarray(s[m]) for m in metrics for name, s in scores.items()}
    table = pd.DataFrame(columns, index=pd.Index([str(r) for r in regions], name="region"))
    table.columns = pd.MultiIndex.from_tuples(table.columns, names=["metric", "product"])
    return table


def _stamp(table: pd.DataFrame, units: str, years) -> pd.DataFrame:
    table.attrs = {"units": units, "period": "climatology" if years is None else _period(years)}
    return table


def _period(years) -> str:
    years = np.sort(np.asarray(years, dtype=int))
    if years.size == 0:
        return "none"
    gaps = "" if years[-1] - years[0] + 1 == years.size else f" ({years.size} years)"
    return (f"{years[0]}–{years[-1]}" if years.size > 1 else f"{years[0]}") + gaps


def _detrended_std(years: np.ndarray, values: np.ndarray) -> float:
    if len(years) < 3 or not np.isfinite(values).all():
        return np.nan
    fit = np.polynomial.polynomial.polyfit(years - years.mean(), values, 1)
    residual = values - (fit[0] + np.outer(years - years.mean(), fit[1]))
    return float(residual.std(axis=0, ddof=1).mean())

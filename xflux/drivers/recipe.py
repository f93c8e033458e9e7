"""Recipes: a driver is a formula over base variables, written as data."""

import ast
import functools
import importlib.resources
import operator
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import xarray as xr

from xflux.align import axis_of
from xflux.drivers.axis import STEP_LENGTH
from xflux.drivers.base import Base, common_axis
from xflux.drivers.memory import running_mean, running_sum
from xflux.drivers.seasonal import amplitude, mean, minimum, seasonal_cycle
from xflux.reading import blamed_on

_OPERATORS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


@functools.cache
def _shipped() -> dict:
    return tomllib.loads(importlib.resources.files("xflux.data").joinpath("drivers.toml").read_text())


def base_table() -> dict:
    """Base variables: the names under which they come, and the units that the recipes work in."""
    return _shipped()["base"]


def recipes() -> list[dict]:
    """The recipes of Table A2 as shipped: name, formula, units, long_name, period, by_name, proxy.

    Examples
    --------
    >>> [r["formula"] for r in recipes() if r["name"] == "AMP_MSC_NDVI"]
    ['amplitude(msc(NDVI))']
    """
    return [dict(r) for r in _shipped()["driver"]]


def table_a2(
    base: xr.Dataset | Mapping[str, xr.DataArray] | Iterable[xr.Dataset],
    variant: str = "formulas",
    recipes: str | os.PathLike | Iterable[Mapping] | None = None,
    within: xr.DataArray | None = None,
) -> xr.Dataset:
    """The drivers of Table A2 that the base variables allow.

    Parameters
    ----------
    base
        Dataset of base variables with (time | month | dayofyear, lat, lon), or with towers in place of lat, lon
        (``lat`` is then a coordinate). Several Datasets, or a mapping of names to DataArrays, may have time axes of
        their own: composites of several days (MODIS, dekads, half months, or what a Dataset's time bounds say) are
        interpolated to days where they meet other steps. Names are those of ``data/drivers.toml`` (EVI, NDVI, FPAR,
        LST_DAY, RG, TAIR, PREC …), or ERA5's (t2m, tp, ssrd, latitude, valid_time …); potential radiation,
        evapotranspiration and water availability are made where they are not given. Units are converted to those the
        recipes work in (degC, W m-2, mm d-1).
    variant
        The table's names and formulas disagree: ``"formulas"`` follows the formulas as printed (MSC_EVIRpot =
        EVI × Rg, Rg_VIMSC = NDVI × Rpot), ``"names"`` the names (EVI × Rpot, NDVI × Rg).
    recipes
        More recipes, or others of the same name: a TOML file with ``[[driver]]`` tables, or a list of mappings with
        ``name``, ``formula`` and optionally ``units``, ``long_name``, ``period``, ``by_name``, ``proxy``.
    within
        Times (time, …) that seasonal cycles, minima, amplitudes and means are taken over, True or False; all times
        where a place has none. Memory and water balance see all times.

    Returns
    -------
    xr.Dataset
        Of drivers with ``units``, ``long_name`` and ``formula``; daily ones keep ``time``, seasonal cycles have
        ``dayofyear`` or ``month``. A proxy has its own name and says in ``attrs["proxy_for"]`` what it stands for. The
        Dataset's ``attrs["not_made"]`` lists what cannot be made and what it would need, ``attrs["proxies"]`` the
        proxies.

    Raises
    ------
    ValueError
        No driver can be made, units that do not fit, no time in common, a recipe that is none.

    Examples
    --------
    >>> months = {"month": range(1, 13), "lat": [10.0], "lon": [0.0]}
    >>> ndvi = xr.DataArray(np.linspace(0.2, 0.75, 12).reshape(12, 1, 1), months, attrs={"units": "1"})
    >>> made = table_a2(xr.Dataset({"NDVI": ndvi}))
    >>> list(made.data_vars), round(made.AMP_MSC_NDVI.item(), 2)
    (['Rg_VIMSC', 'AMP_MSC_NDVI'], 0.55)
    >>> made.attrs["not_made"].split("; ")[2]
    'MSC_FparLST (needs FPAR, LST_DAY)'
    """
    return make(base, _merged(recipes), variant, within)


def make(
    base: xr.Dataset | Mapping[str, xr.DataArray] | Iterable[xr.Dataset],
    recipes: Iterable[Mapping],
    variant: str = "formulas",
    within: xr.DataArray | None = None,
) -> xr.Dataset:
    """Drivers by any recipes; see ``table_a2``, which uses those of the paper.

    Parameters
    ----------
    base, variant, within
        As in ``table_a2``.
    recipes
        A list of mappings, as in ``table_a2``.

    Raises
    ------
    ValueError
        As ``table_a2``; an unknown ``variant``.

    Examples
    --------
    >>> months = {"month": range(1, 13), "lat": [10.0], "lon": [0.0]}
    >>> ndvi = xr.DataArray(np.linspace(0.2, 0.75, 12).reshape(12, 1, 1), months, attrs={"units": "1"})
    >>> recipe = {"name": "NDVI_range", "formula": "amplitude(msc(NDVI))", "units": "1"}
    >>> made = make(xr.Dataset({"NDVI": ndvi}), [recipe])
    >>> round(made.NDVI_range.item(), 2)
    0.55
    """
    if variant not in ("formulas", "names"):
        raise ValueError(f"variant is 'formulas' or 'names', got {variant!r}")
    found = Base(base, base_table())
    out, lacking, proxies = {}, [], []
    for recipe in recipes:
        options = [recipe, *({**recipe, **proxy, "proxy_for": recipe["name"]} for proxy in recipe.get("proxy", ()))]
        missing = [_missing(found, _formula(option, variant)) for option in options]
        possible = next((o for o, m in zip(options, missing, strict=True) if not m), None)
        if possible is None:
            lacking.append(f"{recipe['name']} (needs {', '.join(missing[0])})")
            continue
        out[possible["name"]] = _evaluated(found, possible, variant, within)
        if "proxy_for" in possible:
            proxies.append(f"{possible['name']} for {recipe['name']}")
    if not out:
        raise ValueError(f"no driver can be made from {', '.join(found.data)}: {'; '.join(lacking)}")
    attrs = {"not_made": "; ".join(lacking), "proxies": "; ".join(proxies), "variant": variant}
    return xr.Dataset(out, attrs=attrs)


def _merged(more) -> list[dict]:
    """The shipped recipes with the user's: same name replaces, new ones follow."""
    if more is None:
        return recipes()
    if isinstance(more, str | os.PathLike):
        with blamed_on(more, "a TOML file of recipes"), open(more, "rb") as file:
            more = [dict(recipe) for recipe in tomllib.load(file).get("driver", [])]
    more = [dict(r) for r in more]
    for recipe in more:
        unknown = set(recipe) - {"name", "formula", "by_name", "units", "long_name", "period", "proxy"}
        if unknown or not {"name", "formula"} <= set(recipe):
            raise ValueError(
                f"recipe {recipe.get('name', '?')!r}: needs name and formula, may have by_name, units, long_name, "
                f"period, proxy; got {', '.join(sorted(recipe))}"
            )
    own = {r["name"]: r for r in more}
    return [own.pop(r["name"], r) for r in recipes()] + list(own.values())


def _formula(recipe: Mapping, variant: str) -> str:
    return recipe.get("by_name", recipe["formula"]) if variant == "names" else recipe["formula"]


def _missing(base: Base, formula: str) -> list[str]:
    tree = _parse(formula)
    functions = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in functions]
    return list(dict.fromkeys(m for n in names for m in base.missing(n)))


def _parse(formula: str) -> ast.AST:
    try:
        return ast.parse(formula, mode="eval").body
    except SyntaxError as problem:
        raise ValueError(f"formula {formula!r} cannot be read: {problem.msg}") from problem


def _evaluated(base: Base, recipe: Mapping, variant: str, within: xr.DataArray | None) -> xr.DataArray:
    formula = _formula(recipe, variant)
    period = recipe.get("period")
    functions: dict[str, Callable] = {
        "msc": lambda x: _over(within, seasonal_cycle, x, *([tuple(period)] if period else [])),
        **{name: partial(_over, within, f) for name, f in (("min", minimum), ("amplitude", amplitude), ("mean", mean))},
        "exp": np.exp,
        "running_mean": running_mean, "running_sum": running_sum,
        "clip": lambda x, low, high: x.clip(low, high),
    }  # fmt: skip
    value = _value(_parse(formula), base, functions, formula)
    attrs = {k: recipe[k] for k in ("units", "long_name", "proxy_for") if k in recipe}
    attrs |= {"formula": formula} | {k: v for k, v in value.attrs.items() if k == "msc_period"}
    axis = axis_of(value)
    value = value.drop_vars(STEP_LENGTH, errors="ignore")
    return value.drop_attrs().transpose(*[axis] if axis else [], ...).rename(recipe["name"]).assign_attrs(attrs)


def _over(within: xr.DataArray | None, function: Callable, x: xr.DataArray, *options) -> xr.DataArray:
    """A function along time, over some times; over more where these have nothing: without options, then all times."""
    if within is None or "time" not in x.dims:
        return function(x, *options)
    inside = x.where(within.reindex(time=x["time"], fill_value=False))
    found = function(inside, *options)
    return found.fillna(function(inside)).fillna(function(x)).assign_attrs(found.attrs)


def _value(node: ast.AST, base: Base, functions: Mapping[str, Callable], formula: str):
    """The value of a formula: names, numbers, + − × ÷, and the functions above; nothing else."""
    if isinstance(node, ast.Name):
        return base[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, base, functions, formula)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        sides = {k: _value(n, base, functions, formula) for k, n in (("left", node.left), ("right", node.right))}
        arrays = common_axis({k: v for k, v in sides.items() if isinstance(v, xr.DataArray)})
        sides |= arrays
        return _OPERATORS[type(node.op)](sides["left"], sides["right"])
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords
    if called and node.func.id in functions:
        return functions[node.func.id](*(_value(a, base, functions, formula) for a in node.args))
    raise ValueError(
        f"formula {formula!r}: {ast.unparse(node)!r} is not understood; base variables, numbers, + - * / and the "
        f"functions {', '.join(functions)} are"
    )

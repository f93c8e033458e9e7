"""What a model is to the forward run, and ``wrap``, which makes one of any regressor or function."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd

from xflux.display import contents_of, described, named_units


@runtime_checkable
class Model(Protocol):
    """Anything that maps rows of drivers to fluxes. ``predict`` must be safe to call from several threads.

    Optional: ``members`` (int; absent or None: the result has no member dim), ``driver_units`` (name → units),
    ``attrs`` (what the flux contains), ``to(device)``.

    Attributes
    ----------
    drivers
        Names of the grid's variables, in the order of the columns.
    units
        Of the flux; a mapping by target where they differ.
    target_names
        Names of the fluxes.

    Examples
    --------
    >>> class Decay:
    ...     drivers, units, target_names = ["soil_carbon"], "gC m-2 d-1", ["ter"]
    ...     def predict(self, rows, members=None):
    ...         return 0.001 * rows[:, 0]
    >>> isinstance(Decay(), Model), Decay().predict(np.array([[1000.0]]))
    (True, array([1.]))
    """

    @property
    def drivers(self) -> Sequence[str]: ...
    @property
    def units(self) -> str | Mapping[str, str]: ...
    @property
    def target_names(self) -> Sequence[str]: ...

    def predict(self, rows: np.ndarray, members: Any = None) -> np.ndarray:
        """Fluxes (n,), (members, n), or (targets, [members,] n) where there are several targets.

        Parameters
        ----------
        rows
            (n, drivers) float32.
        members
            Numbers of some; None: all.
        """


@dataclass(frozen=True)
class Wrapped:
    """A model made by :func:`wrap`."""

    functions: tuple[Callable[[np.ndarray], np.ndarray], ...]
    drivers: tuple[str, ...]
    units: str | Mapping[str, str]
    target_names: tuple[str, ...]
    members: int | None = None
    driver_units: Mapping[str, str] = field(default_factory=dict)
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        units = self.units if isinstance(self.units, Mapping) else dict.fromkeys(self.target_names, self.units)
        made_of = dict.fromkeys(type(getattr(f, "__self__", getattr(f, "model", f))).__name__ for f in self.functions)
        facts = {
            "model": ", ".join(made_of),
            "drivers": named_units(self.drivers, self.driver_units),
            "contains": contents_of(self.attrs),
        }
        several = f"{self.members} members, " if self.members else ""
        fluxes = named_units(self.target_names, units)
        return described(
            f"xflux.wrap: {several}{len(self.drivers)} driver{'s' * (len(self.drivers) != 1)} → {fluxes}", facts
        )

    def predict(self, rows: np.ndarray, members: Any = None) -> np.ndarray:
        """Fluxes of the rows; ``members`` picks some of an ensemble."""
        n, k = len(rows), len(self.target_names)
        chosen = self.functions if members is None else [self.functions[m] for m in np.atleast_1d(members)]
        fluxes = np.stack([_as_targets(f(rows), n, k) for f in chosen], axis=1)  # (targets, members, n)
        if self.members is None:
            fluxes = fluxes[:, 0]
        return fluxes[0] if k == 1 else fluxes


def wrap(
    model: Any,
    drivers: Sequence[str],
    units: str | Mapping[str, str],
    *,
    targets: str | Sequence[str] = "nee",
    driver_units: Mapping[str, str] | None = None,
    attrs: Mapping[str, Any] | None = None,
) -> Wrapped:
    """A model for the forward run from a regressor, a pipeline or a plain function.

    Parameters
    ----------
    model
        An object with ``predict(rows)`` (scikit-learn, XGBoost, LightGBM), or a function of rows (n, drivers)
        that returns (n,), or (n, targets) where there are several. A list of them is an ensemble: the result
        then has a ``member`` dim. It is called from several threads at once.
    drivers
        Names of the grid's variables, in the order of the columns.
    units
        Units of the flux; a dict by target where they differ.
    targets
        Name of the flux, or names.
    driver_units
        Units in which the model expects its drivers; a grid that says otherwise is refused.
    attrs
        What the flux contains (``includes_fire``, …): they ride on the result.

    Raises
    ------
    TypeError
        Drivers as one string; a model that cannot predict.
    ValueError
        Names given twice or none; units of other targets; a model that is not fitted, or on other drivers.

    Examples
    --------
    >>> model = wrap(lambda rows: 2 * rows[:, 0], drivers=["tair"], units="gC m-2 d-1")
    >>> float(model.predict(np.ones((1, 1), "float32"))[0])
    2.0
    """
    if isinstance(drivers, str):
        raise TypeError(f"wrap: drivers is the string {drivers!r}; give a list of names, as in drivers=[{drivers!r}]")
    if not len(drivers) or len(set(drivers)) < len(drivers):
        raise ValueError(f"wrap: drivers={list(drivers)}; expected one name or more, each once")
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    if isinstance(units, Mapping) and set(units) != set(names):
        raise ValueError(f"wrap: units are given for {sorted(units)}, the targets are {sorted(names)}")
    ensemble = isinstance(model, (list, tuple))
    members = list(model) if ensemble else [model]
    if not members:
        raise ValueError("wrap: the list of models is empty; give at least one")
    functions = tuple(_rows_function(m, tuple(drivers)) for m in members)
    return Wrapped(
        functions,
        tuple(drivers),
        units if isinstance(units, str) else dict(units),
        names,
        len(members) if ensemble else None,
        dict(driver_units or {}),
        dict(attrs or {}),
    )


@dataclass(frozen=True)
class _Framed:
    """A regressor that was fitted on a DataFrame gets one again, with the same names."""

    model: Any
    columns: tuple[str, ...]

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.model.predict(pd.DataFrame(rows, columns=list(self.columns)))


@dataclass(frozen=True)
class _Boosted:
    """A bare XGBoost booster: its ``predict`` takes matrices of its own kind, and its names are checked already."""

    model: Any

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        return self.model.inplace_predict(np.ascontiguousarray(rows), validate_features=False)


def _rows_function(model: Any, drivers: tuple[str, ...]) -> Callable[[np.ndarray], np.ndarray]:
    if any(base.__module__.startswith("torch.") for base in type(model).__mro__):
        raise TypeError(
            f"wrap: {type(model).__name__} is a torch module, which takes tensors; wrap a function, as in "
            "lambda rows: net(torch.from_numpy(rows)).detach().numpy()"
        )
    if not hasattr(model, "predict"):
        if callable(model):
            return model
        raise TypeError(f"wrap: {type(model).__name__} has no predict(rows) and is not a function")
    if isinstance(model, type):
        raise TypeError(
            f"wrap: {model.__name__} is a class; give one that is made and fitted, as in {model.__name__}()"
        )
    _check_fitted(model)
    _check_fitted_columns(model, drivers)
    if hasattr(model, "inplace_predict"):
        return _Boosted(model)
    return _Framed(model, drivers) if hasattr(model, "feature_names_in_") else model.predict


def _check_fitted(model: Any) -> None:
    """scikit-learn's estimators, and those made like them, say whether they were fitted: not only at compute time."""
    if not any(base.__module__.startswith("sklearn.") for base in type(model).__mro__):
        return
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(model)
    except NotFittedError as error:
        raise ValueError(f"wrap: {type(model).__name__} is not fitted; call its fit first") from error


def _check_fitted_columns(model: Any, drivers: tuple[str, ...]) -> None:
    """Columns in another order than at the fit give wrong fluxes without an error: refuse them."""
    fitted = _fitted_names(model)
    if fitted and fitted != drivers:
        raise ValueError(f"wrap: the model was fitted on {list(fitted)}, drivers are {list(drivers)}; give that order")
    counts = (getattr(model, name, None) for name in ("n_features_in_", "num_features", "num_feature"))
    count = next((c for c in counts if c is not None), None)
    count = count() if callable(count) else count
    if count is not None and count != len(drivers):
        raise ValueError(f"wrap: the model was fitted on {count} columns, {len(drivers)} drivers are given")


def _fitted_names(model: Any) -> tuple[str, ...]:
    """Names of the columns at the fit (scikit-learn; boosters of XGBoost and LightGBM); empty where they had none."""
    kinds = (getattr(model, name, None) for name in ("feature_names_in_", "feature_names", "feature_name"))
    names = next((n for n in kinds if n is not None), ())
    found = tuple(str(n) for n in (names() if callable(names) else names))
    return () if found == tuple(f"Column_{i}" for i in range(len(found))) else found  # LightGBM's own, for arrays


def _as_targets(values: Any, n: int, k: int) -> np.ndarray:
    values = np.asarray(values)
    if values.size != n * k or values.shape[:1] != (n,):
        expected = f"({n},)" if k == 1 else f"({n}, {k})"
        raise ValueError(f"the wrapped model returned shape {values.shape} for {n} rows; expected {expected}")
    return values.reshape(n, k).T


@dataclass(frozen=True)
class Outputs:
    """Which planes come out of a model: ``planes`` per block, and how they are named."""

    targets: tuple[str, ...]
    members: int | None
    choice: str | tuple[int, ...]  # "all" | "mean" | "mean+std" | indices

    @property
    def per_target(self) -> int:
        """Planes per target."""
        if self.choice == "all":
            return self.members or 1
        if isinstance(self.choice, tuple):
            return len(self.choice)
        return 2 if self.choice == "mean+std" else 1

    @property
    def has_member_dim(self) -> bool:
        """Whether the result has a dim ``member``."""
        return self.members is not None and self.choice not in ("mean", "mean+std")

    def reduce(self, fluxes: np.ndarray, n: int) -> np.ndarray:
        """The model's answer for n rows as planes (targets × per_target, n); means and spreads in float64."""
        k = len(self.targets)
        m = self.per_target if self.has_member_dim else (self.members or 1)
        if fluxes.size != k * m * n or fluxes.shape[-1:] != (n,):
            raise ValueError(
                f"model.predict returned shape {fluxes.shape} for {n} rows; expected "
                f"{'' if k == 1 else f'{k} targets × '}{m if self.members else 'no'} members × {n}"
            )
        fluxes = fluxes.reshape(k, m, n)
        if self.has_member_dim or self.members is None:
            return fluxes.reshape(k * m, n)
        mean = fluxes.mean(axis=1, dtype=np.float64)
        if self.choice == "mean":
            return mean
        spread = np.sqrt(((fluxes - mean[:, None]) ** 2).mean(axis=1))
        return np.stack([mean, spread], axis=1).reshape(2 * k, n)


def outputs(model: Model, members: Any) -> Outputs:
    """Check the choice of members against the model."""
    count = getattr(model, "members", None)
    targets = tuple(model.target_names)
    if isinstance(members, str):
        if members not in ("all", "mean", "mean+std"):
            raise ValueError(f'predict: members={members!r}; expected "all", "mean", "mean+std" or indices')
        if members == "mean+std" and count is None:
            raise ValueError('predict: members="mean+std", but the model has one member and so no spread; use "all"')
        return Outputs(targets, count, members)
    if members is None:
        return Outputs(targets, count, "all")
    chosen = np.arange(count or 0)[members] if isinstance(members, slice) else np.atleast_1d(members)
    if chosen.dtype.kind not in "iu":
        raise ValueError(f'predict: members={members!r}; expected "all", "mean", "mean+std" or indices from 0')
    chosen = tuple(int(m) for m in chosen)
    if count is None or not all(0 <= m < count for m in chosen) or not chosen:
        raise ValueError(f"predict: members={members!r}; the model has {count or 'no'} members, counted from 0")
    return Outputs(targets, count, chosen)

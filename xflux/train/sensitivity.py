"""One against many (Sect. 3.6): how the result depends on how many inversions there are, and on which."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from xflux.train.config import TrainConfig
from xflux.train.constraints import RegionalConstraint
from xflux.train.fitting import fit
from xflux.train.model import FluxModel
from xflux.train.network import generator
from xflux.train.posthoc import regional_integrals
from xflux.values import as_text


def one_against_many(
    towers: xr.Dataset,
    drivers: Sequence[str],
    constraint: RegionalConstraint,
    target: str = "nee",
    config: TrainConfig | None = None,
    *,
    sizes: Sequence[int] = (1, 2, 3),
    draws: int = 5,
    integrate: Callable[[FluxModel], xr.DataArray] | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | Callable[[str], None] = False,
) -> xr.Dataset:
    """Train on each inversion alone, on random pairs and triples, and on all of them (Sect. 3.6).

    Every run has the same seed, so that initial weights, folds and tower batches are the same.

    Parameters
    ----------
    towers, drivers, target, config, progress
        As in :func:`xflux.train.fit`, with its errors.
    constraint
        The constraint with all inversions (at least two); subsets are drawn from its target.
    sizes, draws
        Numbers of inversions; for each but 1 (every inversion in turn) and all, `draws` random subsets at most.
    integrate
        Regional integrals (member, region, step) of a trained model, in PgC month-1; by default those of
        :func:`xflux.train.regional_integrals`, for which all cells of a year of the drivers are in memory at once.
    checkpoint
        A folder in which every run keeps its state after each epoch; the same call goes on from there.

    Returns
    -------
    xarray.Dataset
        By ``run`` (labelled by its inversions, joined by "+"): ``size (run)``, ``used (run, inversion)``,
        ``regional (run, member, region, step)`` the full integral in PgC (PgH2O, ZJ) month-1, ``annual (run, member)``
        its sum in the same per year, ``tower_loss (run, member)`` and ``constraint_loss (run, member)`` on held-out
        data at the best epoch, ``difference (run)``: mean annual sum less that of the run with all.

    Raises
    ------
    ValueError
        Fewer than two inversions.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> towers = xr.Dataset({"x": ("sample", rng.normal(size=60))}, {"site": ("sample", np.repeat(["A", "B"], 30))})
    >>> towers["nee"] = (2 * towers.x).assign_attrs(units="gC m-2 d-1")
    >>> grid = xr.Dataset({"x": (("lat", "lon"), np.ones((2, 2)))}, {"lat": [-45.0, 45], "lon": [-90.0, 90]})
    >>> coords = {"inversion": ["CAMS", "UoE"], "region": ["0"]}
    >>> target = xr.DataArray([[-3.0], [-2.0]], coords, attrs={"units": "PgC yr-1"})
    >>> constraint = RegionalConstraint(target, grid, regions=xr.zeros_like(grid.x, dtype=int), integral="full")
    >>> runs = one_against_many(towers, ["x"], constraint, config=TrainConfig(folds=2, max_epochs=1, activation="tanh"))
    >>> runs.run.values.tolist(), runs.annual.dims
    (['CAMS', 'UoE', 'CAMS+UoE'], ('run', 'member'))
    """
    if "inversion" not in constraint.target.dims or constraint.target.sizes["inversion"] < 2:
        raise ValueError("one_against_many needs a target with the dim inversion and at least two inversions")
    config = config or TrainConfig()
    n = constraint.target.sizes["inversion"]
    if checkpoint:
        Path(checkpoint).mkdir(parents=True, exist_ok=True)
    runs = []
    for subset in _subsets(n, sizes, draws, config.seed):
        own = replace(constraint, target=constraint.target.isel(inversion=list(subset)))
        kept = Path(checkpoint) / f"{'-'.join(map(str, subset))}.checkpoint" if checkpoint else None
        model = fit(towers, drivers, target, [own], config, checkpoint=kept, progress=progress)
        regional = integrate(model) if integrate else regional_integrals(model, own)["full"]
        runs.append(_labelled(model, regional, constraint, subset))
    found = xr.concat(runs, "run", data_vars="all", join="outer", coords="minimal", compat="override")
    return found.assign(difference=found["annual"].mean("member") - found["annual"].isel(run=-1).mean("member"))


def _subsets(n: int, sizes: Sequence[int], draws: int, seed: int) -> list[tuple[int, ...]]:
    """Each one, random different subsets of the other sizes, and all at last.

    >>> _subsets(3, (1, 2), 5, seed=0)
    [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
    """
    found = []
    for size in sizes:
        if size == 1:
            found += [(i,) for i in range(n)]
        elif size < n:
            rng = generator(seed, 6, size)
            some = {tuple(sorted(rng.choice(n, size, replace=False).tolist())) for _ in range(20 * draws)}
            some = sorted(some)
            drawn = range(len(some)) if len(some) <= draws else sorted(rng.choice(len(some), draws, replace=False))
            found += [some[i] for i in drawn]
    return [*found, tuple(range(n))]


def _labelled(
    model: FluxModel, regional: xr.DataArray, constraint: RegionalConstraint, subset: tuple[int, ...]
) -> xr.Dataset:
    names = as_text(constraint.target["inversion"])
    per_year = regional.attrs["units"].replace("month-1", "yr-1")
    at = model.history.sel(epoch=model.history["best_epoch"])["validation_loss"]
    return xr.Dataset(
        {
            "size": len(subset),
            "used": ("inversion", np.isin(np.arange(len(names)), subset)),
            "regional": regional,
            "annual": (12 * regional.sum("region").mean("step")).assign_attrs(units=per_year),
            "tower_loss": ("member", at.isel(term=0).values),
            "constraint_loss": ("member", at.sel(term=constraint.name).values),
        },
        coords={"run": "+".join(names[list(subset)]), "inversion": names},
    )

"""Top-down constraints as the user states them: a regional target, or any linear view of the flux."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

import numpy as np
import xarray as xr

from xflux import temporal, units
from xflux.cells import standardise
from xflux.display import contents_of, described, sized
from xflux.regions.weights import is_weights
from xflux.train.config import check_whole_numbers, plain_numbers
from xflux.train.target import KINDS, MONTHS
from xflux.values import checked

_PER_FLUX = re.compile(r"(?:/|\bper\b)\s*\(?([^()]+?)\)?\s*$|\(([^()]+)\)\s*(?:\*\*|\^)?-1\s*$")
INTEGRALS = ("bridge", "sampled", "full")


@dataclass(frozen=True, eq=False)
class RegionalConstraint:
    """Regional fluxes from an ensemble of inversions, compared with the model's regional integrals (Eq. 6–11).

    Parameters
    ----------
    target
        ``(inversion, region, time | month)`` or ``(inversion, region)`` (a mean over years), in PgC month-1 or another
        amount of carbon, water or energy (latent heat) per month or year: of what the towers' flux is of, and the
        bridge. ``inversion`` may be absent (one inversion). NaN is a gap.
    drivers
        Dataset of gridded drivers, as for the forward run.
    bridge
        An `xflux.Bridge`: the integral is then the paper's (Eq. 7).
    integral
        "bridge" (the default with `bridge`), "sampled" (the default without: an unbiased estimate from pixels drawn
        anew at each step, stratified by region) or "full" (every pixel at every step).
    regions, land_fraction
        As `xflux.region_weights` takes them; not needed with a bridge, except for validation by the full integral.
    total
        The regions' sum as one more loss of the same form, with its own range and its own learned log-variance. Take it
        where the global budget matters: regions alone, each within its inversions' range, can leave an offset of their
        sum (real study: 0.8 PgC yr-1 without it, 0.1 or less with it).
    pixels
        Number of pixels drawn at a step (``integral="sampled"``), split between the regions.
    control_variate
        Estimate the change since the last full field in place of the field itself. The full field is renewed at the end
        of each epoch, over all steps that the target has. Draws then have the same expectation and less noise (FLUXNET
        and the OCO-2 MIP, 12 000 of 65 000 pixels: a step's standard error of the global sum, over the inversions'
        range, falls from 0.027 to 0.009 in the second and 0.002 in the last of three epochs), and a bridge cannot
        drift away from the full integral for longer than an epoch. None: for draws where the drivers have no ``time``,
        so that there is one field, and for a bridge that is fitted anew (a bridge alone is the paper's); True: also for
        dated drivers, also for a bridge alone.
    months_per_step
        Consecutive months of the target that a step uses, where the drivers have ``time`` (the paper: one year).
    years_per_step
        Training years that a step sees, drawn anew, or "all" of them (the paper: 1). A step that sees one year pulls
        now up, now down where years differ; needs drivers with ``time``.
    anomalies
        Annual anomalies of the regions and of their sum as one more loss (`objective.anomaly_loss`), with its own
        log-variance: each inversion's own mean is removed, so that the offsets between inversions do not drown the
        differences between years. True, or a number: its weight, as `weight`. Needs drivers and a target by year and
        at least two years a step; of fewer than all, the expectation is that of all.
    exponent, normalise, area_weights
        ℓ3 norm (Eq. 8), division by 1 + range (Eq. 9–10), area weights (Eq. 11): the paper's are the defaults. The 1 is
        1 PgC month-1. Of water and energy, whose amounts are of another size, it is s, the mean of |target| over the
        inversions, regions and steps of the member's training years: L / (s + range), counted in s.
    misfit, shrinkage
        "range": Eq. 8–11, the paper's, and with `total` what we recommend. "covariance": differences weighted by the
        inverse of the inversions' covariance between regions and months, whose correlations are shrunk by `shrinkage`
        (0 … 1) towards zero: it knows of the sum, and takes away half of that offset.
    weight
        Power to which the constraint's likelihood is taken: its losses and their log-variances enter Eq. 14 times
        `weight`; two numbers are that of the regions and that of their sum (`total`). 1 is the paper's: each loss
        counts as one task, however few numbers it is made of, and a small loss pulls as hard as all towers. Below 1
        costs less skill at towers (synthetic Earth: docs, "Does the constraint help?").
    refit_bridge
        Fit the bridge anew every so many epochs (3 is good), on the members' own fields of the last three epochs, whose
        anomalies from the mean seasonal cycle it has to follow to its R². Between fits the bridge says what has changed
        since the last full field (`control_variate`): its gap is then what one epoch of training adds (real study at
        0.5°: 0.15 in place of 2.3 PgC yr-1).
    sampling_error
        Largest standard error of a step's regional estimate over the inversions' range that passes without a warning.
    regions_per_step
        "all", or how many regions, drawn anew for each member, a step compares; only their pixels are computed, unless
        `total` needs the others too.
    allow
        Contents in which the target may differ from the towers, by name, e.g. ``("fire", "rivers")``.
    flux, name
        The model's flux that is compared, where it has several; label of the loss in the model's history.

    Raises
    ------
    TypeError, ValueError
        Target, drivers or bridge of another kind; an option out of its range, or options that exclude each other; no
        bridge or regions for the integral; a bridge or weights per m2 of whole cells.

    Examples
    --------
    >>> grid = xr.Dataset({"tair": (("lat", "lon"), np.ones((2, 2)))}, {"lat": [-45.0, 45], "lon": [-90.0, 90]})
    >>> target = xr.DataArray([[-0.2], [0.1]], {"region": ["0"]}, ("inversion", "region"), attrs={"units": "PgC yr-1"})
    >>> constraint = RegionalConstraint(target, grid, regions=xr.zeros_like(grid.tair, dtype=int), total=True)
    >>> constraint.kind, constraint.name
    ('sampled', 'ATM')
    >>> constraint.check_units(xr.DataArray(name="nee", attrs={"units": "gC m-2 d-1"}))
    """

    target: xr.DataArray = field(repr=False)
    drivers: xr.Dataset = field(repr=False)
    bridge: object | None = field(default=None, repr=False)
    integral: str | None = None
    regions: object | None = field(default=None, repr=False)
    land_fraction: xr.DataArray | None = field(default=None, repr=False)
    total: bool = False
    pixels: int = 12_000
    control_variate: bool | None = None
    months_per_step: int = MONTHS
    regions_per_step: int | str = "all"
    years_per_step: int | str = 1
    anomalies: bool | float = False
    exponent: float = 3.0
    normalise: bool = True
    area_weights: bool = True
    sampling_error: float = 0.1
    misfit: str = "range"
    shrinkage: float = 0.5
    weight: float | tuple[float, float] = 1.0
    refit_bridge: int | None = None
    allow: tuple[str, ...] = ()
    flux: str | None = None
    name: str = "ATM"
    kind: str = field(init=False, default="sampled")

    def __repr__(self) -> str:
        regions = [str(region) for region in self.target["region"].values] if "region" in self.target.coords else []
        facts = {
            "target": sized(self.target),
            "contains": contents_of(self.target.attrs),
            "regions": ", ".join(regions),
            "integral": self.kind + (f", {self.pixels} pixels a step" if self.kind == "sampled" else ""),
            "drivers": _drivers_of(self.drivers),
            "options": _chosen(self),
        }
        return described(f"xflux.train.RegionalConstraint: {self.name}", facts)

    def __post_init__(self):
        plain_numbers(self)
        _check_types(self, target=xr.DataArray, drivers=xr.Dataset)
        if self.bridge is not None and not (hasattr(self.bridge, "pixels") and hasattr(self.bridge, "regions")):
            raise TypeError(f"bridge is a {type(self.bridge).__name__}; expected a Bridge (load_bridge reads a file)")
        object.__setattr__(self, "drivers", standardise(temporal.standardise(self.drivers)))
        kind = self.integral or ("bridge" if self.bridge is not None else "sampled")
        if kind not in INTEGRALS:
            raise ValueError(f"integral is {self.integral!r}; expected one of {INTEGRALS}")
        if kind == "bridge" and self.bridge is None:
            raise ValueError('integral="bridge" needs bridge=; fit one with da.flux.fit_bridge(regions)')
        if kind != "bridge" and self.regions is None:
            raise ValueError(f'integral="{kind}" needs regions= (a name, a mask or region weights)')
        _check_basis(self, kind)
        if self.misfit not in ("range", "covariance"):
            raise ValueError(f"misfit is {self.misfit!r}; expected 'range' or 'covariance'")
        if self.refit_bridge is not None and (kind != "bridge" or self.refit_bridge < 1):
            raise ValueError(
                f"refit_bridge is {self.refit_bridge} with integral={kind!r}; expected a number of epochs, and a bridge"
            )
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage is {self.shrinkage}; expected a share of 0 … 1")
        if isinstance(self.weight, list | tuple | np.ndarray):
            object.__setattr__(self, "weight", tuple(np.asarray(self.weight).tolist()))
            if len(self.weight) != 2 or not self.total:
                raise ValueError(
                    f"weight is {self.weight} with total={self.total}; expected one number, or with total=True two: of "
                    "the regions and of their sum"
                )
        for weight in self.weight if isinstance(self.weight, tuple) else [self.weight]:
            _check_weight(weight)
        check_whole_numbers(self, "pixels", "months_per_step", "refit_bridge")
        if self.exponent < 1 or self.pixels < 1:
            raise ValueError(f"exponent={self.exponent}, pixels={self.pixels}: expected at least 1")
        if not 1 <= self.months_per_step <= MONTHS:
            raise ValueError(f"months_per_step is {self.months_per_step}; expected 1 … 12")
        if self.regions_per_step != "all" and not (
            isinstance(self.regions_per_step, int) and self.regions_per_step > 0
        ):
            raise ValueError(f"regions_per_step is {self.regions_per_step!r}; expected 'all' or a number of regions")
        self._check_years()
        object.__setattr__(self, "kind", kind)

    def _check_years(self):
        years, anomalies = self.years_per_step, self.anomalies
        if years != "all" and not (isinstance(years, int) and not isinstance(years, bool) and years > 0):
            raise ValueError(f"years_per_step is {years!r}; expected 'all' or a number of years")
        if not isinstance(anomalies, bool):
            _check_weight(anomalies, "anomalies")
        if self.misfit == "covariance" and years != 1:
            raise ValueError(f"misfit='covariance' is of one year; expected years_per_step=1, not {years!r}")
        if anomalies and years == 1:
            raise ValueError(
                "anomalies compare years: set years_per_step='all', or a number of at least 2 (a step has one year now)"
            )
        if anomalies and self.months_per_step != MONTHS:
            raise ValueError(f"anomalies compare whole years: months_per_step is {self.months_per_step}; expected 12")

    def check_units(self, flux: xr.DataArray) -> None:
        """Check that target, flux and bridge are of one kind: carbon, water or energy.

        Parameters
        ----------
        flux
            The towers'; its name and attributes are read.

        Raises
        ------
        ValueError
            They are not, or the flux is none per m2.
        """
        own = f"the towers' {flux.name}" + ("" if flux.attrs.get("units") else ", without units,")
        attrs = flux.attrs | {"units": flux.attrs.get("units") or "gC m-2 d-1"}
        said = {"the target": self.target.attrs, own: attrs}
        if self.kind == "bridge" and (weight := self.bridge.pixels["weight"].attrs.get("units")):
            said["the bridge"] = {"units": weight.partition(" per ")[0]}
        kinds = {f"{what} is in {a['units']!r}": _kind(a) for what, a in said.items() if "units" in a}
        if len(set(kinds.values())) > 1:
            raise ValueError(
                f"constraint {self.name}: {', '.join(f'{what} ({kind})' for what, kind in kinds.items())}; expected "
                "fluxes of one kind. flux= names another target of the model"
            )
        try:
            units.factor(units.parse(attrs["units"], attrs), units.usual_rate(attrs))
        except units.UnitsError as error:
            raise ValueError(
                f"{own} is in {attrs['units']!r}, no flux per area and time: a regional constraint cannot add it up "
                f"({error})"
            ) from error


@dataclass(frozen=True, eq=False)
class LinearConstraint:
    """Observations that are a linear view of the flux: footprints of tall towers, satellite columns, sums.

    Parameters
    ----------
    operator
        ``(obs, time | month | dayofyear, lat, lon)`` or ``(obs, lat, lon)`` (a view of the mean flux), in the
        observations' unit per unit of the flux; dense or sparse (pydata sparse). Steps and cells are the drivers'.
        ``attrs["units"]`` such as "ppm / (umol m-2 s-1)" is checked against the flux.
    observations
        ``(obs,)``, less all that the flux does not explain; NaN is no observation.
    sigma
        Standard deviation of an observation's error, one or ``(obs,)``: it scales the residuals before the learned
        weight of the loss.
    drivers
        Dataset of gridded drivers, as for the forward run.
    held_out
        Share of the observations that each member keeps for validation.
    exponent
        The loss is the mean of ``|residual / sigma| ** exponent``.
    weight, flux, name
        As those of `RegionalConstraint`.

    Raises
    ------
    TypeError, ValueError
        Arrays of another kind; dims, sizes or labels that do not fit each other; ``sigma`` that is not above 0.

    Examples
    --------
    >>> grid = xr.Dataset({"tair": (("lat", "lon"), np.ones((1, 2)))}, {"lat": [45.0], "lon": [0.0, 1.0]})
    >>> footprint = xr.DataArray([[[0.4, 0.1]]], {"lat": grid.lat, "lon": grid.lon}, ("obs", "lat", "lon"))
    >>> tall_tower = LinearConstraint(footprint, xr.DataArray([-0.8], dims="obs"), sigma=0.2, drivers=grid)
    >>> tall_tower.name, tall_tower.operator.dims
    ('LINEAR', ('obs', 'lat', 'lon'))
    >>> tall_tower.check_units(xr.DataArray(attrs={"units": "gC m-2 d-1"}))
    """

    operator: xr.DataArray = field(repr=False)
    observations: xr.DataArray = field(repr=False)
    sigma: float | xr.DataArray = field(repr=False)
    drivers: xr.Dataset = field(repr=False)
    held_out: float = 0.2
    exponent: float = 2.0
    weight: float = 1.0
    flux: str | None = None
    name: str = "LINEAR"

    def __repr__(self) -> str:
        facts = {
            "observations": f"{self.observations.size}, {int(self.observations.notnull().sum())} with a value",
            "operator": sized(self.operator),
            "drivers": _drivers_of(self.drivers),
            "options": _chosen(self),
        }
        return described(f"xflux.train.LinearConstraint: {self.name}", facts)

    def __post_init__(self):
        plain_numbers(self)
        _check_types(self, operator=xr.DataArray, drivers=xr.Dataset)
        object.__setattr__(self, "drivers", standardise(temporal.standardise(self.drivers)))
        object.__setattr__(self, "operator", standardise(temporal.standardise(self.operator, lengths=False)))
        if "obs" not in self.operator.dims or {"lat", "lon"} - set(self.operator.dims):
            raise ValueError(
                f"the operator has the dims {tuple(self.operator.dims)}; expected (obs, lat, lon) or "
                "(obs, time | month | dayofyear, lat, lon)"
            )
        if not isinstance(self.observations, xr.DataArray):
            object.__setattr__(self, "observations", xr.DataArray(np.asarray(self.observations, float), dims="obs"))
        object.__setattr__(self, "observations", checked(self.observations))
        if self.operator.sizes["obs"] != self.observations.size:
            raise ValueError(
                f"the operator has {self.operator.sizes['obs']} rows (obs) but there are {self.observations.size} "
                "observations"
            )
        for name in ("observations", "sigma"):
            object.__setattr__(self, name, _by_label(getattr(self, name), self.operator, name))
        sigma = np.asarray(self.sigma, float)
        if sigma.shape not in ((), (1,), self.observations.shape):
            raise ValueError(f"sigma has the shape {sigma.shape} for {self.observations.size} observations; expected "
                             "one number, or one of each")  # fmt: skip
        if not (np.isfinite(sigma).all() and (sigma > 0).all()):
            raise ValueError("sigma must be finite and above 0 for every observation")
        _check_weight(self.weight)
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is {self.held_out}; expected a share of at least 0 and below 1")

    def check_units(self, flux: xr.DataArray) -> None:
        """Check that the operator is per unit of the flux, where it says so.

        Parameters
        ----------
        flux
            Its ``attrs["units"]`` are read.

        Raises
        ------
        ValueError
            It is per another unit.
        """
        own, theirs = self.operator.attrs.get("units", ""), flux.attrs.get("units", "")
        per = _PER_FLUX.search(str(own))
        try:
            number = units.factor(per[1] or per[2], theirs) if per and theirs else 1.0
        except units.UnitsError:  # per something else, or no unit of a flux: it says nothing of it
            return
        if abs(number - 1) > 1e-6:
            raise ValueError(
                f"the operator of {self.name} is in {own!r}, the flux in {theirs!r}: multiply the operator by "
                f"{1 / number:.6g} and set its units to 'per {theirs}'"
            )


def _drivers_of(drivers: xr.Dataset) -> str:
    sizes = " × ".join(f"{size} {dim}" for dim, size in drivers.sizes.items())
    return f"{', '.join(map(str, drivers.data_vars))} on {sizes}"


def _chosen(constraint: RegionalConstraint | LinearConstraint) -> str:
    """The settings that are not the defaults."""
    told = ("name", "pixels", "kind", "integral")
    plain = [f for f in fields(constraint) if f.repr and f.init and f.name not in told]
    chosen = {f.name: getattr(constraint, f.name) for f in plain if getattr(constraint, f.name) != f.default}
    return ", ".join(f"{name}={value!r}" for name, value in chosen.items())


def _check_types(constraint: RegionalConstraint | LinearConstraint, **expected: type) -> None:
    for name, kind in expected.items():
        given = getattr(constraint, name)
        if not isinstance(given, kind):
            raise TypeError(f"{name} is a {type(given).__name__}; expected an xarray {kind.__name__}")


def _check_basis(constraint: RegionalConstraint, kind: str) -> None:
    """The model's flux is per m2 of land: raise where the bridge or the regions' areas are those of whole cells."""
    regions = constraint.regions if is_weights(constraint.regions) else None
    parts = {"bridge": constraint.bridge if kind == "bridge" else None, "regions": regions}
    for name, part in parts.items():
        if getattr(part, "attrs", {}).get("area_basis") == "cell":
            raise ValueError(
                f"{name} is per m2 of the whole cell (attrs['area_basis'] is 'cell'), the model's flux per m2 of land: "
                "coasts would count with their sea. Fit the bridge on a flux per m2 of land, or make the weights with "
                'area_basis="land"'
            )


def plain_options(constraint: RegionalConstraint | LinearConstraint) -> dict:
    """Those of its settings that are words or numbers, by name."""
    given = {f.name: getattr(constraint, f.name) for f in fields(constraint)}
    return {k: v for k, v in given.items() if isinstance(v, str | bool | int | float | tuple | None)}


def _check_weight(weight: float, name: str = "weight") -> None:
    if not (isinstance(weight, int | float | np.number) and 0 < weight < np.inf):
        raise ValueError(f"{name} is {weight!r}; expected a number above 0 (1: one task like the towers)")


def _by_label(values, operator: xr.DataArray, name: str):
    """Observations or their errors in the order of the operator's rows, where both have labels."""
    if not isinstance(values, xr.DataArray) or "obs" not in values.coords or "obs" not in operator.coords:
        return values
    if not values.get_index("obs").is_unique or set(values["obs"].values) != set(operator["obs"].values):
        raise ValueError(
            f"the labels obs of {name} are not those of the operator ({values['obs'].values[:4]} … and "
            f"{operator['obs'].values[:4]} …): give both the same, or drop them where the order is the same"
        )
    return values.sel(obs=operator["obs"].values)


def _kind(attrs: Mapping) -> str:
    try:
        kind = units.parse(attrs["units"], attrs).kind
    except units.UnitsError:
        kind = ""
    return kind if kind in KINDS else "no flux"

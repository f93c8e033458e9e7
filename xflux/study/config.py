"""The study file: a validated TOML whose every key is named here, with its unit and default."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from xflux.files import at_home


class StudyError(ValueError):
    """A study that cannot be run as it is written: the message names the key or file and what to do.

    >>> from importlib import resources
    >>> from xflux.study import load_study
    >>> load_study(resources.files("xflux.data") / "study_template.toml", {"train.epoch": 10})
    Traceback (most recent call last):
        ...
    xflux.study.config.StudyError: study file ...unknown key 'train.epoch'; did you mean 'epochs'...
    """


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _name(given: str) -> str:
    """A name that can be a folder's: results go to ``runs/NAME`` where no folder is given."""
    if not given.strip() or given.startswith(".") or len(given.encode()) > 100 or not given.isprintable():
        raise ValueError("expected a name of 1 to 100 letters that does not start with a dot")
    if set(given) & set("/\\"):
        raise ValueError("expected a name, not a path: say where results go by --out")
    return given


Name = Annotated[str, AfterValidator(_name)]
"""A name, not a path."""
Patterns = Annotated[list[str], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]
"""One file or glob pattern, or several."""
Years = tuple[int, int]
"""First and last year, both included."""


class Published(_Section):
    """A published product, read by :func:`xflux.open_product`."""

    product: str
    """Its name in the table of products (``xflux products``)."""
    files: Patterns
    variable: str
    """The flux's name in the schema of xflux, e.g. ``nbe_river_adjusted``."""
    select: dict[str, list[str]] = Field(default_factory=dict)
    """dim = labels to take, e.g. ``inversion = ["CAMS", "CTE"]``."""
    land_fraction: str | None = None
    """A file with the land share of each cell, where the product publishes it apart (FLUXCOM)."""


class Named(Published):
    """A published product with a name for tables and figures."""

    name: str


class Inversions(Published):
    """One or several inversions of a published product."""

    name: str | None = None
    """Label of a single inversion; by default the product's name."""


class Towers(_Section):
    """Eddy-covariance towers: daily tables or FLUXNET files, quality control, folds."""

    table: Patterns
    """A table (parquet, CSV), or files as published, e.g. ``FLX_*_DD_*.csv``."""
    sites: Patterns | None = None
    """Where the towers are: a table, or BADM files."""
    qc: float = Field(0.8, ge=0, le=1)
    start: str | None = None
    keep: dict[str, str] = Field(default_factory=dict)
    """driver = the tower's own column that stands in for it, e.g. ``Tair = "Tair"``."""
    base: dict[str, str] = Field(default_factory=dict)
    """base variable = the tower's own column, from which its drivers are made, e.g. ``RG = "SW_IN"``."""
    units: dict[str, str] = Field(default_factory=dict)
    """Units of columns whose units the files do not say, e.g. ``Ta = "degC"``."""
    step: Literal["day", "month"] = "day"
    """Steps of the samples: days, or months as a monthly grid has them."""
    min_days: int = Field(15, ge=1, le=31)
    """Days of a good flux that a month needs (``step = "month"``)."""
    max_distance: float = Field(50.0, gt=0)
    """km from a tower to the nearest land cell that has all drivers."""
    block_distance: float = Field(100.0, gt=0)
    """km: sites closer than this share a fold in the blocked cross-validation."""


class Group(_Section):
    """Classes of land cover that make a driver, where the grid's are others than the towers' (IGBP)."""

    grid: list[str]
    towers: list[str]


class LandCover(_Section):
    """Shares of land cover as drivers; at a tower, its own class."""

    variable: str
    """Of the base files: a map of classes (lat, lon), or fractions (class, lat, lon)."""
    classes: dict[str, list[str] | Group]
    """driver = the classes that it adds up, e.g. ``forest = ["ENF", "EBF"]``."""

    def groups(self) -> dict:
        """As :func:`xflux.drivers.cover` takes them."""
        return {k: v.model_dump() if isinstance(v, Group) else v for k, v in self.classes.items()}


class Anomalies(_Section):
    """Anomalies by month or by year, which make base variables of single years out of a climatology."""

    files: Patterns
    add: dict[str, str] = Field(default_factory=dict)
    """base variable = the anomaly that is added to its month, e.g. ``TAIR = "tas_anom"``."""
    multiply: dict[str, str] = Field(default_factory=dict)
    """base variable = the ratio that its month is multiplied by, e.g. ``PREC = "pr_ratio"``."""
    largest_ratio: float | None = Field(None, gt=0)
    """Ratios above this are taken as this (dry months, whose mean is near zero)."""
    detrend: list[str] = []
    """Base variables whose anomalies lose the linear trend of each cell over ``drivers.years``."""

    @model_validator(mode="after")
    def _one_way(self) -> "Anomalies":
        if not (self.add or self.multiply) or set(self.add) & set(self.multiply):
            raise ValueError("name every base variable that has anomalies once: in add or in multiply")
        if strange := set(self.detrend) - set(self.add) - set(self.multiply):
            raise ValueError(f"detrend: {sorted(strange)} has no anomalies here (add, multiply)")
        return self


class Drivers(_Section):
    """Gridded base variables, from which the drivers of Table A2 are made; daily ones never stand in memory whole."""

    base: Patterns
    """Every pattern is one set of files that follow each other in time (daily weather, composites, a climatology)."""
    years: Years | None = None
    """Years that the models run over; all of the base variables (their seasonal cycles see all years anyhow)."""
    anomalies: Anomalies | None = None
    resolution: float | None = Field(None, gt=0)
    """degrees: base variables are averaged, by land area, to a coarser global grid."""
    land_fraction: str
    land_fraction_variable: str = "land_fraction"
    variant: Literal["formulas", "names", "none"] = "formulas"
    """Of :func:`xflux.drivers.table_a2`; ``"none"`` where the file holds the drivers themselves."""
    recipes: dict[str, str] = Field(default_factory=dict)
    """More drivers = their formulas, e.g. ``Tair_30d = "running_mean(TAIR, 30)"``."""
    cover: Annotated[
        list[LandCover], BeforeValidator(lambda given: [given] if isinstance(given, dict) else given or [])
    ] = []
    """One table of classes, or several."""
    variables: list[str] | None = None
    """The drivers that the model takes; all that can be made, if not given."""
    fill_distance: float = Field(1.0, ge=0)
    """degrees: land without drivers takes the nearest cell's within this distance."""

    @model_validator(mode="after")
    def _years_of_anomalies(self) -> "Drivers":
        if self.anomalies and not self.years:
            raise ValueError("anomalies need years = [first, last], the years that the models run over")
        if self.resolution and abs(180 / self.resolution - round(180 / self.resolution)) > 1e-9:
            raise ValueError(f"resolution = {self.resolution:g} degrees does not divide 180")
        return self


class Target(_Section):
    """Regional fluxes from inversions: a file (…, region, time) of carbon per time, or gridded products."""

    file: str | None = None
    variable: str | None = None
    products: list[Inversions] = []
    """Published inversions, whose regional integrals are made here."""
    fire: Published | None = None
    """Fire emissions that are taken out, cell by cell, of every inversion that has fires in it (Sect. 2.3)."""
    years: Years | None = None
    region_dim: str = "region"
    ensemble_dims: list[str] = ["inversion"]
    select: dict[str, list[str | int]] = Field(default_factory=dict)
    regions: str = "reccap2"
    includes_fire: bool | None = None
    includes_rivers: bool | None = None
    allow: list[Literal["fire", "rivers"]] = []
    """Contents that may differ between the towers' NEE and the target, named on purpose."""

    @model_validator(mode="after")
    def _one_source(self) -> "Target":
        if bool(self.file) == bool(self.products):
            raise ValueError("give either file (regional fluxes) or products (gridded inversions)")
        if self.file and not self.variable:
            raise ValueError("file needs variable")
        if self.file and self.fire:
            raise ValueError("fire is taken out of gridded products only; a file holds regional sums already")
        return self


class BridgeProduct(_Section):
    """The flux from which bridges are fitted; by default the EC model's own forward run."""

    file: str | None = None
    variable: str = "nee"
    product: Published | None = None
    """A published bottom-up product on the drivers' cells (the paper: FLUXCOM RS+METEO)."""
    r2: float = Field(0.95, gt=0, lt=1)
    fit: bool = True
    """False: no bridges, for a study whose variants need none (the post-hoc test of Sect. 3.5 is left out then)."""
    stability: int = Field(0, ge=0)
    """Random draws in which the choice of pixels is counted (Fig. B2)."""

    @model_validator(mode="after")
    def _one_source(self) -> "BridgeProduct":
        if self.file and self.product:
            raise ValueError("give file or product, not both")
        return self


class Variant(_Section):
    """One way to constrain: what :class:`xflux.train.RegionalConstraint` takes."""

    integral: Literal["bridge", "sampled", "full"] = "sampled"
    total: bool = True
    """The regions' sum as one more loss."""
    years_per_step: int | Literal["all"] = 1
    anomalies: bool | float = False
    """Annual anomalies as one more loss; a number is its weight."""
    weight: float | list[float] = 1.0
    means: dict[str, str] = Field(default_factory=dict)
    """One more constraint each: a map of ``evaluation.maps`` = the region set whose mean fluxes it gives."""


VARIANTS = {
    "bridge": Variant(integral="bridge", total=False),
    "sampled": Variant(total=False),
    "sampled+total": Variant(),
}
"""Variants that need no section of their own."""


class Truth(_Section):
    """The true flux where it is known: the synthetic Earth."""

    file: str
    variable: str = "nee"


class Training(_Section):
    """What :class:`xflux.train.TrainConfig` takes; the defaults are the paper's network (Table B1)."""

    folds: int = Field(10, ge=2)
    epochs: int = Field(50, ge=1)
    batch: int = Field(10_000, ge=1)
    learning_rate: float = Field(0.003, gt=0)
    log_variance_rate: float = Field(10.0, gt=0)
    """Learning rate of the log-variances (Eq. 12-14), in units of ``learning_rate``."""
    schedule: Literal["cosine"] | None = "cosine"
    hidden: list[int] = [32, 32, 32]
    pixels_per_step: int = Field(12_000, ge=1)
    validation_years: int = Field(2, ge=0)
    weights: str | None = None
    """Variable of the towers that weights them, e.g. ``days`` where ``towers.step = "month"``."""


class OneAgainstMany(_Section):
    """More models, each trained on few of the inversions (Sect. 3.6, Figs. C3 to C5): as many trainings more."""

    sizes: list[Annotated[int, Field(ge=1)]] = []
    """Numbers of inversions: 1 is every inversion in turn; empty, there are no such models."""
    draws: int = Field(5, ge=1)
    """Random subsets of every other number, at most."""
    members: int | None = Field(None, ge=1)
    """So many of the folds are trained; all, if not given."""
    variant: str | None = None
    """Which of ``variants``; the first, if not given."""


class Comparison(_Section):
    """A map of a mean flux to compare with."""

    name: str
    file: str
    variable: str
    period: str
    contains: str


class PlantTypes(_Section):
    """A map of plant types (lat, lon | pft, lat, lon), as :meth:`xflux.Bridge.composition` takes it (Figs. B3, B4)."""

    file: str
    variable: str


class PublishedBudget(_Section):
    """A table of the global carbon budget, one row a year."""

    name: str
    file: str
    variable: str = "net_land_residual"
    years: Years
    spread: float | None = None
    """PgC yr-1, the published one-sigma uncertainty of a year."""
    rivers: float = 0.65
    """PgC yr-1 of natural river export, which inversions see and the budget's land term does not."""
    rivers_spread: float = 0.35


class Series(_Section):
    """Fluxes by month or year that stand beside the models' annual anomalies (land models)."""

    name: str
    file: str
    variable: str
    region_dim: str
    regions: dict[str, str]
    """"globe" or a name of ``evaluation.groups`` = the file's label of the same region."""
    ensemble_dim: str | None = None
    leave_out: list[str] = []
    """Labels of the ensemble that do not count in its mean."""


class Evaluation(_Section):
    """What the models are compared with."""

    unseen_years: Years | None = None
    """Years, of towers and target, in which no model trains or validates: they judge."""
    unseen_inversions: list[str] = []
    """Inversions on which no model trains: they judge."""
    groups: dict[str, tuple[float, float]] = {"30S-30N": (-30, 30), "20-50N": (20, 50), "50-80N": (50, 80)}
    """Sums of latitude bands whose annual anomalies are scored."""
    series: list[Series] = []

    regions: list[str] = ["latitude-bands", "reccap2"]
    maps: list[Comparison] = []
    products: list[Named] = []
    """Published monthly products that stand beside the models in Tables 2 and 3 (the paper: FLUXCOM)."""
    plant_types: PlantTypes | None = None
    """Which the bridge's contributing pixels are counted by."""
    budget: PublishedBudget | None = None
    well_observed: tuple[float, float] = (-60.0, 80.0)
    """Latitudes between which the bands' months are scored."""
    truth: Truth | None = None


class StudyConfig(_Section):
    """A study file.

    Attributes
    ----------
    name, title, seed
        Its name, a heading, and the seed of everything random.
    data
        Folder that paths are relative to; it may name an environment variable.
    variants, variant
        EC-ATM in its variants, by name; the settings of those that are not xflux's own (``[variant.NAME]``).
    held_out_inversions, blocked, blocked_variants
        Whether to train on half of the inversions too, and EC or the variants too on folds blocked by distance.
    limits
        What may not be claimed with these data.
    towers, drivers, target, bridge, train, one_against_many, evaluation
        Sections, whose keys ``xflux new`` writes out with their units and defaults.

    Raises
    ------
    ValueError
        Names every key that is unknown, is missing or does not fit (:func:`load_study` adds the nearest valid one).

    Examples
    --------
    >>> from importlib import resources
    >>> from xflux.study import load_study
    >>> study = load_study(resources.files("xflux.data") / "upton2024.toml", {"data": "."})
    >>> study.name, study.target.regions, study.drivers.years, study.train.folds
    ('upton2024', 'reccap2', (2001, 2017), 10)
    >>> study.smoke().train.folds, study.constraint("bridge").integral, study.data_folder().is_dir()
    (3, 'bridge', True)
    """

    name: Name
    title: str = ""
    seed: int = 0
    data: str = "$XFLUX_DATA"
    variants: list[str] = ["bridge", "sampled", "sampled+total"]
    variant: dict[str, Variant] = Field(default_factory=dict)
    held_out_inversions: bool = True
    blocked: bool = True
    blocked_variants: bool = False
    limits: list[str] = []
    towers: Towers
    drivers: Drivers
    target: Target
    bridge: BridgeProduct = BridgeProduct()
    train: Training = Training()
    one_against_many: OneAgainstMany = OneAgainstMany()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _recipes_for_towers(self) -> "StudyConfig":
        if self.towers.base and self.drivers.variant == "none":
            raise ValueError("towers.base goes through the recipes: drivers.variant is 'formulas' or 'names' then")
        return self

    @model_validator(mode="after")
    def _known_variants(self) -> "StudyConfig":
        known = VARIANTS | self.variant
        unknown = [name for name in self.variants if name not in known]
        if unknown:
            raise ValueError(f"variants: {unknown} is none of {list(known)}; others need a section [variant.NAME]")
        strange = [name for name in self.variants if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]*", name)]
        if strange or len({name.replace("+", "_") for name in self.variants}) < len(self.variants):
            raise ValueError(f"variants: {self.variants}: names of letters, digits, '+', '-' and '_', each once")
        maps = {comparison.name for comparison in self.evaluation.maps}
        strangers = {name for variant in self.variants for name in self.constraint(variant).means} - maps
        if strangers:
            raise ValueError(
                f"variant means: {sorted(strangers)} is no map of evaluation.maps, which has {sorted(maps)}"
            )
        if not self.bridge.fit and any(self.constraint(name).integral == "bridge" for name in self.variants):
            raise ValueError("bridge.fit = false, but a variant's integral is made by a bridge")
        return self

    @model_validator(mode="after")
    def _years_that_judge(self) -> "StudyConfig":
        unseen, years = self.evaluation.unseen_years, self.drivers.years
        if unseen and years and not years[0] <= unseen[0] <= unseen[1] <= years[1]:
            raise ValueError(
                f"evaluation.unseen_years = {list(unseen)}: the drivers have {list(years)} (drivers.years)"
            )
        return self

    def constraint(self, variant: str) -> Variant:
        """What a variant of EC-ATM is constrained by.

        Parameters
        ----------
        variant
            By name.

        Raises
        ------
        KeyError
            An unknown one.
        """
        return (VARIANTS | self.variant)[variant]

    def data_folder(self) -> Path:
        """The data folder.

        Raises
        ------
        StudyError
            It is unset or absent, by name.
        """
        text = os.path.expandvars(self.data)
        if "$" in text:
            raise StudyError(
                f"data = {self.data!r}: that environment variable is not set; "
                "set it (export XFLUX_DATA=/path/to/data) or write the folder into the study file"
            )
        folder = at_home(text)
        if not folder.is_dir():
            raise StudyError(
                f"data folder {str(folder)!r} does not exist; set $XFLUX_DATA or data = … in the study file"
            )
        return folder

    def smoke(self) -> "StudyConfig":
        """The same study, small: three members, two epochs, few pixels (used by tests and ``--smoke``)."""
        small = {"folds": 3, "epochs": 2, "batch": 4000, "pixels_per_step": 500}
        bridge = self.bridge.model_copy(update={"stability": min(self.bridge.stability, 20)})
        few = self.one_against_many.model_copy(update={"sizes": self.one_against_many.sizes[:1], "members": None})
        update: dict[str, Any] = {"bridge": bridge, "one_against_many": few}
        if self.drivers.years and self.drivers.years[1] > self.drivers.years[0]:
            judged = self.evaluation.unseen_years is not None
            years = (self.drivers.years[0], min(self.drivers.years[0] + 1 + 2 * judged, self.drivers.years[1]))
            small["validation_years"] = min(self.train.validation_years, 1)
            if judged:
                update["evaluation"] = self.evaluation.model_copy(update={"unseen_years": (years[1], years[1])})
            update["drivers"] = self.drivers.model_copy(update={"years": years})
            if self.target.years:
                update["target"] = self.target.model_copy(update={"years": years})
        return self.model_copy(update={"train": self.train.model_copy(update=small), **update})

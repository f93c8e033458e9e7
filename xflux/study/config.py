"""The study file: a validated TOML whose every key is named here, with its unit and default."""

import difflib
import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class StudyError(ValueError):
    """A study that cannot be run as it is written: the message names the key or file and what to do."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Towers(_Section):
    """Eddy-covariance towers: a daily table, quality control, folds."""

    table: str
    sites: str | None = None
    qc: float = Field(0.8, ge=0, le=1)
    start: str | None = None
    keep: dict[str, str] = Field(default_factory=dict)
    """driver = the tower's own column that stands in for it, e.g. ``Tair = "Tair"``."""
    max_distance: float = Field(50.0, gt=0)
    """km from a tower to the nearest land cell that has all drivers."""
    block_distance: float = Field(100.0, gt=0)
    """km: sites closer than this share a fold in the blocked cross-validation."""


class Drivers(_Section):
    """Gridded base variables, from which the drivers of Table A2 are made."""

    base: str
    land_fraction: str
    land_fraction_variable: str = "land_fraction"
    variant: Literal["formulas", "names", "none"] = "formulas"
    """Of :func:`xflux.drivers.table_a2`; ``"none"`` where the file holds the drivers themselves."""
    variables: list[str] | None = None
    """The drivers that the model takes; all that can be made, if not given."""
    fill_distance: float = Field(1.0, ge=0)
    """degrees: land without drivers takes the nearest cell's within this distance."""


class Target(_Section):
    """Regional fluxes from inversions: (…, region, time) in an amount of carbon per time."""

    file: str
    variable: str
    region_dim: str = "region"
    ensemble_dims: list[str] = ["inversion"]
    select: dict[str, list[str | int]] = Field(default_factory=dict)
    regions: str = "reccap2"
    includes_fire: bool | None = None
    includes_rivers: bool | None = None
    allow: list[Literal["fire", "rivers"]] = []
    """Contents that may differ between the towers' NEE and the target, named on purpose."""


class BridgeProduct(_Section):
    """The flux from which bridges are fitted; by default the EC model's own forward run."""

    file: str | None = None
    variable: str = "nee"
    r2: float = Field(0.95, gt=0, lt=1)


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


class Comparison(_Section):
    """A map of a mean flux to compare with."""

    name: str
    file: str
    variable: str
    period: str
    contains: str


class Budget(_Section):
    """A table of the global carbon budget, one row a year."""

    name: str
    file: str
    variable: str = "net_land_residual"
    years: tuple[int, int]
    rivers: float = 0.65
    """PgC yr-1 of natural river export, which inversions see and the budget's land term does not."""
    rivers_spread: float = 0.35


class Evaluation(_Section):
    """What the models are compared with."""

    regions: list[str] = ["latitude-bands", "reccap2"]
    maps: list[Comparison] = []
    budget: Budget | None = None
    well_observed: tuple[float, float] = (-60.0, 80.0)
    """Latitudes between which the bands' months are scored."""
    truth: Truth | None = None


class StudyConfig(_Section):
    """A study file. Paths are relative to ``data``, which may name an environment variable."""

    name: str
    title: str = ""
    seed: int = 0
    data: str = "$XFLUX_DATA"
    variants: list[Literal["bridge", "sampled", "sampled+total"]] = ["bridge", "sampled", "sampled+total"]
    held_out_inversions: bool = True
    blocked: bool = True
    """Also train EC on folds blocked by distance."""
    blocked_variants: bool = False
    """Train the EC-ATM variants on the blocked folds too (``--blocked``)."""
    limits: list[str] = []
    """What may not be claimed with these data; printed in the report."""
    towers: Towers
    drivers: Drivers
    target: Target
    bridge: BridgeProduct = BridgeProduct()
    train: Training = Training()
    evaluation: Evaluation = Evaluation()

    def data_folder(self) -> Path:
        """The data folder; an error that names it where it is unset or absent."""
        text = os.path.expandvars(self.data)
        if "$" in text:
            raise StudyError(
                f"data = {self.data!r}: that environment variable is not set; "
                "set it (export XFLUX_DATA=/path/to/data) or write the folder into the study file"
            )
        folder = Path(text).expanduser()
        if not folder.is_dir():
            raise StudyError(
                f"data folder {str(folder)!r} does not exist; set $XFLUX_DATA or data = … in the study file"
            )
        return folder

    def smoke(self) -> "StudyConfig":
        """The same study, small: three members, two epochs, few pixels (used by tests and ``--smoke``)."""
        small = self.train.model_copy(update={"folds": 3, "epochs": 2, "batch": 4000, "pixels_per_step": 500})
        return self.model_copy(update={"train": small})


def load_study(path: str | Path, overrides: dict[str, Any] | None = None) -> StudyConfig:
    """Read and validate a study file.

    Parameters
    ----------
    path
        TOML file.
    overrides
        Dotted keys and their values, e.g. ``{"train.epochs": 10}`` (``--set train.epochs=10``).

    Raises
    ------
    StudyError
        Names every unknown key with the nearest valid one, every missing key, and every value of a wrong type.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise StudyError(f"study file {str(path)!r} does not exist; `xflux new study.toml` writes one") from None
    except tomllib.TOMLDecodeError as error:
        raise StudyError(f"study file {str(path)!r} is not valid TOML: {error}") from None
    for dotted, value in (overrides or {}).items():
        _set(content, dotted, value)
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise StudyError(f"study file {str(path)!r}:\n" + "\n".join(map(_explain, error.errors()))) from None


def parse_override(text: str) -> tuple[str, Any]:
    """One ``key=value`` of ``--set``, the value read as TOML, else as text.

    >>> parse_override("train.epochs=10"), parse_override("name=test")
    (('train.epochs', 10), ('name', 'test'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise StudyError(f"--set {text!r}: expected key=value, e.g. --set train.epochs=10")
    try:
        return key.strip(), tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _set(content: dict, dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise StudyError(f"--set {dotted}: {parent!r} is a value, not a section")
    content[last] = value


def _explain(error: dict) -> str:
    where = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        valid = list(_section_at(error["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), valid, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"valid keys: {', '.join(valid)}"
        return f"  unknown key {where!r}; {hint}"
    if error["type"] == "missing":
        return f"  missing key {where!r}"
    return f"  {where!r}: {error['msg']} (given: {error['input']!r})"


def _section_at(location: tuple) -> type[BaseModel]:
    section: type[BaseModel] = StudyConfig
    for key in location:
        if isinstance(key, int):
            continue
        annotation = section.model_fields[key].annotation
        inner = [a for a in (annotation, *getattr(annotation, "__args__", ())) if isinstance(a, type)]
        section = next((a for a in inner if issubclass(a, BaseModel)), section)
    return section

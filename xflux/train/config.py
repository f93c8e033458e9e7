"""How to train: the settings of `fit`, checked when they are made.

A dataclass without pydantic: half of the checks are between fields, and what is given is kept, not made to fit.
"""

from dataclasses import dataclass, fields

import numpy as np

from xflux.train.network import ACTIVATIONS

CHOICES = {
    "schedule": (None, "cosine"),
    "activation": sorted(ACTIVATIONS),
    "dtype": ("float32", "float64"),
    "missing_drivers": ("raise", "drop"),
}
WHOLE_NUMBERS = "folds seed batch max_epochs patience validation_years block_rows resample_inversions".split()


@dataclass(frozen=True)
class TrainConfig:
    """How to train. The defaults are the paper's model (Sect. 3.2–3.4, Table B1).

    Parameters
    ----------
    folds, block_distance
        Folds by site, one member each; sites closer than `block_distance` km share a fold.
    members
        Folds to train members for; None: all. A member does not depend on which others are trained, but for a bridge
        that is fitted anew on all their fields.
    seed
        Of the initial weights, the folds, the batches and the draws, each with its own stream.
    batch
        Tower rows in a step; an epoch is ⌈training rows/batch⌉ steps.
    learning_rate, schedule
        Of Adam; "cosine" lets it fall to zero over `max_epochs`.
    log_variance_rate
        Learning rate of the log-variances of Eq. 12–14, in units of `learning_rate`.
    hidden, activation, dropout
        The network.
    max_epochs, patience
        A member stops after `patience` epochs without a better validation; None: never.
    validation_years
        Years of the target that each member holds out.
    resample_inversions
        Each member trains on its own random draw of the inversions, with replacement: True draws as many as there are
        (n: the members then differ by the uncertainty of the inversions' mean, their sd/√n), a number that many (1: one
        inversion each, so that the ensemble carries their whole spread).
    weights
        Variable of the towers over ``sample`` whose values weight the rows in L_EC, e.g. ``"days"`` of
        `xflux.towers.to_months`; None: all count alike.
    missing_drivers
        What a tower row with NaN in a driver is: an error ("raise"), or left out with a warning ("drop").
    dtype, device, block_rows
        "float32" or "float64"; "auto", "cpu", "cuda"; rows that are computed at once (to stay in cache).

    Raises
    ------
    ValueError
        An option out of its range or unknown; members that are not folds.

    Examples
    --------
    >>> TrainConfig(max_epochs=2, members=(0, 3)).trained
    [0, 3]
    """

    folds: int = 10
    seed: int = 0
    batch: int = 10_000
    learning_rate: float = 0.003
    hidden: tuple[int, ...] = (32, 32, 32)
    activation: str = "relu"
    dropout: float = 0.0
    max_epochs: int = 60
    patience: int | None = None
    schedule: str | None = "cosine"
    log_variance_rate: float = 10.0
    block_distance: float | None = None
    validation_years: int = 2
    resample_inversions: bool | int = False
    members: tuple[int, ...] | None = None
    dtype: str = "float32"
    device: str = "auto"
    block_rows: int = 1024
    missing_drivers: str = "raise"
    weights: str | None = None

    def __post_init__(self):
        plain_numbers(self)
        for name in ("hidden", "members"):
            if np.ndim(getattr(self, name)):
                object.__setattr__(self, name, tuple(np.asarray(getattr(self, name)).tolist()))
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r}; expected one of {known}")
        if self.resample_inversions < 0:
            raise ValueError(f"resample_inversions is {self.resample_inversions}; expected True, False or a number")
        check_whole_numbers(self, *WHOLE_NUMBERS)
        for name in ("folds", "batch", "max_epochs", "block_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        if isinstance(self.hidden, int) or any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden is {self.hidden!r}; expected the widths of the hidden layers, e.g. (32, 32, 32)")
        if not self.learning_rate > 0 or self.log_variance_rate < 0 or self.validation_years < 0:
            raise ValueError(
                f"learning_rate={self.learning_rate}, log_variance_rate={self.log_variance_rate}, "
                f"validation_years={self.validation_years}: expected above 0, at least 0, at least 0"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; expected a share of at least 0 and below 1")
        if self.members is not None and (not self.members or len(set(self.members)) < len(self.members)):
            raise ValueError(f"members is {self.members}; expected one fold at least, and none twice (None: all)")
        if self.members is not None and not set(self.members) <= set(range(self.folds)):
            raise ValueError(f"members {self.members} are not all folds of folds={self.folds} (0 … {self.folds - 1})")

    @property
    def trained(self) -> list[int]:
        """Numbers of the members that are trained."""
        return list(range(self.folds)) if self.members is None else list(self.members)


def plain_numbers(settings) -> None:
    """Numbers of NumPy become Python's in a frozen dataclass: a checkpoint compares them as text."""
    for field in fields(settings):
        value = getattr(settings, field.name, None)
        if isinstance(value, np.generic):
            object.__setattr__(settings, field.name, value.item())


def check_whole_numbers(settings, *names: str) -> None:
    """Raise where one of these settings is a fraction or a float (None passes)."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not isinstance(value, int):
            raise ValueError(f"{name} is {value!r}; expected a whole number")

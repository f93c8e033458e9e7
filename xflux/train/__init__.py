"""Training: towers, and constraints at any scale. The only room that imports torch."""

# ruff: noqa: E402 (what is missing is said before anything is imported)
from xflux.extras import require

require("train", by="xflux.train")

from xflux.train.config import TrainConfig
from xflux.train.constraints import LinearConstraint, RegionalConstraint
from xflux.train.fitting import fit
from xflux.train.model import FluxModel, load_model
from xflux.train.posthoc import regional_integrals
from xflux.train.sensitivity import one_against_many

__all__ = [
    "FluxModel",
    "LinearConstraint",
    "RegionalConstraint",
    "TrainConfig",
    "fit",
    "load_model",
    "one_against_many",
    "regional_integrals",
]

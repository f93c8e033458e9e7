"""Training: towers, and constraints at any scale. The only room that imports torch."""

from xflux.train.constraints import RegionalConstraint
from xflux.train.fit import TrainConfig, fit
from xflux.train.model import FluxModel, load_model

__all__ = ["FluxModel", "RegionalConstraint", "TrainConfig", "fit", "load_model"]

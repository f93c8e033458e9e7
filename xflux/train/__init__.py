"""Training: towers, and constraints at any scale. The only room that imports torch."""

try:
    import torch  # noqa: F401
except ImportError as error:
    raise ImportError('xflux.train needs PyTorch: pip install "xflux[train]"') from error

from xflux.train.config import TrainConfig
from xflux.train.constraints import LinearConstraint, RegionalConstraint
from xflux.train.fit import fit
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

"""The forward run: a grid of drivers and a model become a map of fluxes.

``predict`` is lazy; ``run`` writes Zarr region by region and can be interrupted; ``wrap`` makes a model of
any regressor or function; ``applicability`` says how far a pixel lies from the towers.
"""

from xflux.forward.domain import applicability
from xflux.forward.lazy import predict
from xflux.forward.model import Model, wrap
from xflux.forward.writer import run

__all__ = ["Model", "applicability", "predict", "run", "wrap"]

"""xflux: land-carbon fluxes on xarray.

``import xflux`` gives every DataArray and Dataset a ``.flux`` accessor. What is heavy (torch, matplotlib, scikit-learn,
dask, pint, …) is imported by the functions that need it.
"""

import importlib
from os import PathLike
from typing import TYPE_CHECKING, Any

from xflux import cells, forks  # noqa: F401 (forked processes work)
from xflux.accessor import DataArrayFlux, DatasetFlux
from xflux.bridge import Bridge, load_bridge
from xflux.catalogue import open_product, products
from xflux.evaluate import ensemble
from xflux.forward import wrap
from xflux.regions import load_weights, region_weights, regional_budget, save_weights
from xflux.towers import colocate, read_towers

if TYPE_CHECKING:
    from xflux.train import FluxModel

__version__ = "0.2.0"

__all__ = [
    "Bridge",
    "DataArrayFlux",
    "DatasetFlux",
    "colocate",
    "ensemble",
    "load_bridge",
    "load_model",
    "load_weights",
    "open_product",
    "products",
    "read_towers",
    "region_weights",
    "regional_budget",
    "save_weights",
    "wrap",
]

grid = cells  # the name that programs know: xflux.grid.cell_area

_ROOMS = ("adjust", "drivers", "evaluate", "plot", "study", "synthetic", "train")


def load_model(path: str | PathLike) -> "FluxModel":
    """The model in a file; needs torch. Nothing in it is ever run as code.

    Parameters
    ----------
    path
        A file that :meth:`xflux.train.FluxModel.save` wrote.

    Raises
    ------
    FileNotFoundError, ValueError
        The file is missing, damaged, of a newer version or no model.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> from xflux.train import FluxModel
    >>> layer = {"weight0": np.array([[[2.0]]]), "bias0": np.array([[[-1.0]]])}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = FluxModel(["tair"], np.zeros(1), np.ones(1), ["nee"], {"nee": "gC m-2 d-1"}, layer)
    ...     path = model.save(f"{folder}/ec.safetensors")
    ...     load_model(path).predict(np.array([[3.0]])).tolist()
    [[5.0]]
    """
    from xflux.train import load_model

    return load_model(path)


def __getattr__(name: str) -> Any:
    """Rooms that ``import xflux`` does not need are imported when they are first named."""
    if name in _ROOMS:
        return importlib.import_module(f"xflux.{name}")
    raise AttributeError(f"module 'xflux' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})

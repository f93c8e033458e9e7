"""xflux: land-carbon fluxes on xarray.

``import xflux`` gives every DataArray and Dataset a ``.flux`` accessor. Heavy rooms are imported when
they are first used.
"""

import importlib

from . import accessor as accessor

__version__ = "0.1.0"

# public name -> the room it lives in
_PUBLIC = {
    "open_product": "products",
    "products": "products",
    "regional_budget": "regions",
    "region_weights": "regions",
    "save_weights": "regions",
    "load_weights": "regions",
    "Bridge": "bridge",
    "load_bridge": "bridge",
    "read_towers": "towers",
    "colocate": "towers",
    "load_model": "train",
    "wrap": "forward",
}


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(importlib.import_module(f"xflux.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'xflux' has no attribute {name!r}")

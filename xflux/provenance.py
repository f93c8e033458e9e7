"""Where an output comes from: versions, inputs and the call that made it, as one JSON string in ``attrs``."""

import json
import platform
from functools import cache
from importlib import metadata

_PACKAGES = ("xflux", "xarray", "numpy", "dask", "torch", "scikit-learn", "numba")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, xflux and the packages that shape its numbers; a package that is absent is left out.

    >>> versions()["python"].count(".")
    2
    """
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def stamp(call: str, inputs: dict | None = None) -> str:
    """JSON text for ``attrs["provenance"]``: the call, its inputs and the versions (no clock, so that runs repeat).

    >>> json.loads(stamp("aggregate_regions(regions='reccap2')"))["call"]
    "aggregate_regions(regions='reccap2')"
    """
    return json.dumps({"call": call, "inputs": inputs or {}, "versions": versions()}, default=str)

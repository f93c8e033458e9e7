"""What is installed only if asked for: said before any work, with the command that installs it."""

from importlib import metadata
from importlib.util import find_spec

EXTRAS = {"train": ("torch", "safetensors"), "plot": ("matplotlib",)}
"""Extra of the package → the modules that come with it."""


def require(*extras: str, by: str) -> None:
    """Nothing where the modules of the extras are installed.

    ``extras``: "train", "plot". ``by``: what needs them, for the message.
    Raises ImportError: A module is missing; the message has the command that installs it.

    >>> require("plot", by="xflux.plot.map")
    """
    lacking = {extra: [name for name in EXTRAS[extra] if not is_there(name)] for extra in extras}
    names = [name for absent in lacking.values() for name in absent]
    if names:
        wanted = [extra for extra, absent in lacking.items() if absent]
        verb = "is" if len(names) == 1 else "are"
        raise ImportError(f"{by} needs {' and '.join(names)}, which {verb} not installed: {command(*wanted)}")


def is_there(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def command(*extras: str) -> str:
    """The command that installs extras, however xflux itself came here.

    An installed copy (from an index, a folder, editable) satisfies its own name, so that pip adds what the extra needs
    and leaves xflux as it is; where only the sources are on the path, the modules are named.

    >>> "pip install" in command("train")
    True
    """
    try:
        metadata.distribution("xflux")
    except metadata.PackageNotFoundError:
        return "pip install " + " ".join(name for extra in extras for name in EXTRAS[extra])
    return f'pip install "xflux[{",".join(extras)}]"'

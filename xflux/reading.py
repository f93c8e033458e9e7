"""Reading a file that may be anything: whatever its contents break comes out as one ValueError that names the file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEFLATE = 1032  # no file packed by deflate (zlib, gzip) unpacks to more than this many times its size


@contextmanager
def blamed_on(path: str | os.PathLike, what: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Turn every error of the block into a `kind` that says that `path` is damaged or is not `what`.

    A damaged file can break a parser anywhere, with any exception (RecursionError, MemoryError and struct.error
    included), so that all are caught. A missing file or permission, and an error that names the file itself, pass.

    >>> with blamed_on("model.json", "a model"):
    ...     {}["drivers"]
    Traceback (most recent call last):
        ...
    ValueError: model.json is damaged or is not a model (KeyError: 'drivers')
    """
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:
        if isinstance(error, kind) and Path(path).name in str(error):
            raise
        said = f"{type(error).__name__}: {error}"
        said = said if len(said) < 400 else said[:400] + " …"
        raise kind(f"{path} is damaged or is not {what} ({said})") from error


def check_size(path: str | os.PathLike, nbytes: int, packing: float = DEFLATE) -> None:
    """Raise where a file claims to hold more than it can, before that much memory is asked for.

    Parameters
    ----------
    nbytes
        What its variables would take in memory.
    packing
        How many times larger than the file that may be at most: 1 for a file that is not compressed.
    """
    size = os.path.getsize(path)
    if nbytes > packing * size + 2**20:
        raise ValueError(f"it claims to hold {nbytes:.3g} bytes of numbers, too many for a file of {size:.3g} bytes")

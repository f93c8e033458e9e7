"""An array too large for memory, in a file that is read piece by piece.

A memory map would not do: the pages that it has read count as the process's memory until others need it.
"""

import errno
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from xflux.train.fused import compiled


class ScratchArray:
    """An array ``(pixel, column, step)`` in a file without a name, which is gone with the process however that ends.

    Its room on the disk is taken at once. Raises OSError: there is too little.

    >>> array = ScratchArray((3, 1, 4), np.float32, Path(tempfile.gettempdir()))
    >>> array[np.array([0, 2]), 0, slice(1, 3)] = np.array([[1, 2], [3, 4]])
    >>> array[1:3].tolist()
    [[[0.0, 0.0, 0.0, 0.0]], [[0.0, 3.0, 4.0, 0.0]]]
    >>> array.take(np.array([2, 0]), np.array([1, 2])).tolist()
    [[[3.0, 4.0]], [[1.0, 2.0]]]
    """

    def __init__(self, shape: tuple[int, int, int], dtype: type, folder: Path):
        self.shape, self.dtype, self._folder = shape, np.dtype(dtype), folder
        folder.mkdir(parents=True, exist_ok=True)
        self._size = int(np.prod(shape)) * self.dtype.itemsize
        with self._told():
            file = tempfile.TemporaryFile(dir=folder, buffering=0)
            weakref.finalize(self, file.close)
            self._file = file.fileno()
            if hasattr(os, "posix_fallocate"):  # not on macOS
                os.posix_fallocate(self._file, 0, self._size)
            os.ftruncate(self._file, self._size)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """An error of the disk, with what it is about and what to do."""
        try:
            yield
        except OSError as error:
            raise OSError(
                error.errno,
                f"drivers too large for memory stand in a file in training, of {self._size / 2**30:.2g} GiB, which "
                f"failed ({error.strerror}): make room, or give a checkpoint= (without one: TMPDIR) on another disk",
                str(self._folder),
            ) from error

    def __len__(self) -> int:
        return self.shape[0]

    def cut(self, n: int) -> "ScratchArray":
        """The same with its first ``n`` pixels alone."""
        self.shape = (n, *self.shape[1:])
        return self

    def __setitem__(self, key: slice | tuple, values: np.ndarray) -> None:
        """``array[pixels, column, steps] = values`` or ``array[pixels] = values``; slices of pixels and of steps."""
        _, columns, n_steps = self.shape
        if isinstance(key, slice):
            first, pieces = key.start * columns * n_steps + np.arange(1), values[None]
        else:
            first, pieces = (key[0] * columns + key[1]) * n_steps + key[2].start, values
        pieces = np.ascontiguousarray(pieces, self.dtype)
        with self._told():
            for at, piece in zip((first * self.dtype.itemsize).tolist(), pieces, strict=True):
                if os.pwrite(self._file, piece, at) < piece.nbytes:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getitem__(self, pixels: slice) -> np.ndarray:
        start, stop, _ = pixels.indices(len(self))
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        os.preadv(self._file, [out], start * out[:1].nbytes)
        return out

    def take(self, pixels: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The values ``(pixel, column, step)`` of some pixels and steps."""
        out = np.empty((len(pixels), self.shape[1], len(steps)), self.dtype)
        if not compiled().read(self._file, out, pixels, steps, self.shape[2]):
            with self._told():
                raise OSError(errno.EIO, "it cannot be read whole")
        return out

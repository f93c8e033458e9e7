"""Files: written whole or not at all, never over what xflux did not write.

Everything that xflux writes says so in itself, by a mark: an attribute of a netCDF file or Zarr store, the header of a
model, the generator of a page, ``xflux.json`` in a run folder. Only what carries the mark is replaced.
"""

import errno
import fcntl
import glob
import json
import os
import re
import shutil
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from xflux.provenance import digest, parse_json, plain, read_json, require_seal, versions

MARK = "xflux.json"
"""The file that marks a folder that is written bit by bit (a run folder)."""
ASIDE = "aside"
KIND_OF_STORE = "xflux store"
_HEAD = 2**12
_WORDS = re.compile(
    rb"(?:name='generator' content='|Software\0|/Creator \(|%%Creator: |<dc:title>|<!-- )(xflux [a-z]+)"
)
_HEADINGS = {b"region,region_name,period,mean,": "xflux budget", b"region,period,mean,": "xflux budget"}


# ----------------------------------------------------------------------------------------- whole or not at all
def at_home(path: str | os.PathLike) -> Path:
    """The path, with ``~`` as the home folder, as shells and xarray read it.

    >>> at_home("~") == Path.home(), at_home("a/~b.nc").as_posix()
    (True, 'a/~b.nc')
    """
    return Path(os.path.expanduser(path))


@contextmanager
def whole(path: str | Path, kind: str, *, own: bool = False) -> Iterator[Path]:
    """A path to write a file or folder to, which takes the place of ``path`` once the block has ended without error.

    What is written lies in a new folder beside ``path``, whose name nobody can foresee, so that no link is followed;
    after an error (a full disk) ``path`` is what it was.

    ``path``: file or folder; folders above it are made. ``kind``: what it is, as its mark says, e.g. "xflux bridge":
    only such a thing is replaced (:func:`require_place`). ``own``: the caller knows that whatever stands there is
    xflux's own.
    Raises FileExistsError, PermissionError: as :func:`require_place`.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(f"{folder}/a.txt", "xflux text") as part:
    ...         length = part.write_text("new")
    ...     os.listdir(folder), Path(folder, "a.txt").read_text()
    (['a.txt'], 'new')
    """
    path = require_place(path, kind, own=own)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as beside:
        with _named(path):
            yield beside / path.name
        require_place(path, kind, own=own)
        replace(beside / path.name, path)
    sweep(path)


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A new folder beside ``path``, gone at the end; it is locked meanwhile, so that :func:`sweep` knows it is used."""
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name[:48]}.", suffix=".part", dir=path.parent))
    held = os.open(beside, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks: nothing is swept there
            fcntl.flock(held, fcntl.LOCK_SH)
        yield beside
    finally:
        os.close(held)
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error of writing, in whatever words of a library, as an OSError that names ``path``."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        own = isinstance(error, OSError)
        if isinstance(error, RecursionError | NotImplementedError) or (own and str(path) in str(error)):
            raise
        number = (own and error.errno) or errno.EIO
        raise OSError(number, f"cannot be written ({error}); what was there is as it was", str(path)) from error


def _left(path: Path) -> Iterator[Path]:
    """The folders that killed processes left beside ``path`` when they wrote there: nobody holds their lock."""
    for rest in path.parent.glob(f".{glob.escape(path.name[:48])}.????????.part"):
        with suppress(OSError):
            held = os.open(rest, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                ours = all(p.name in (path.name, ASIDE) or p.name.startswith("old.") for p in rest.iterdir())
                if ours and _lock(held):
                    yield rest
            finally:
                os.close(held)


def sweep(path: Path) -> None:
    """Remove what a killed process left beside ``path``, but for what it had moved :func:`aside`."""
    for rest in _left(path):
        if not (rest / ASIDE).exists():
            shutil.rmtree(rest, ignore_errors=True)


def bring_back(path: Path) -> None:
    """Put what a killed process had moved :func:`aside` back, in place of what it had begun at ``path``."""
    for rest in _left(path):
        if (rest / ASIDE / path.name).exists():
            shutil.rmtree(path, ignore_errors=True)
            os.rename(rest / ASIDE / path.name, path)
            shutil.rmtree(rest, ignore_errors=True)


def replace(new: Path, path: Path) -> None:
    """Move ``new`` to ``path``; a folder that stands there is moved to ``new``'s side, and back where this fails."""
    if path.is_dir() and not path.is_symlink():
        old = Path(tempfile.mkdtemp(prefix="old.", dir=new.parent)) / path.name
        os.rename(path, old)
        try:
            os.rename(new, path)
        except BaseException:
            os.rename(old, path)
            raise
    else:
        os.replace(new, path)


@contextmanager
def aside(path: Path) -> Iterator[Callable[[], None]]:
    """Move a folder out of the way of a new one; it comes back where the block fails before what is given is called.

    Where the process is killed meanwhile, :func:`bring_back` finds it.

    >>> from contextlib import suppress
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     made = claim(f"{folder}/old", "xflux run")
    ...     with suppress(ValueError), aside(Path(f"{folder}/old")) as drop:
    ...         raise ValueError("before drop()")
    ...     os.listdir(folder)
    ['old']
    """
    with _beside(path) as beside:
        old = beside / ASIDE / path.name
        old.parent.mkdir()
        os.rename(path, old)

        def drop() -> None:
            if old.exists():
                os.rename(old.parent, beside / "old.")  # at once, so that half of it is never brought back
                shutil.rmtree(beside / "old.", ignore_errors=True)

        try:
            yield drop
        except BaseException:
            if old.exists():
                shutil.rmtree(path, ignore_errors=True)
                os.rename(old, path)
            raise


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Refuse where another process or thread writes at ``path`` bit by bit, as this block is about to.

    Raises BlockingIOError: another one does.

    >>> with tempfile.TemporaryDirectory() as folder, alone(Path(folder, "run")), alone(Path(folder, "run")):
    ...     pass
    Traceback (most recent call last):
        ...
    BlockingIOError: '...run' is being written by another process: wait for it, or give another
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name[:40]}.{digest(path.name)[:8]}.lock")
    held = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o644)
    try:
        if _lock(held) is False:
            raise BlockingIOError(f"{str(path)!r} is being written by another process: wait for it, or give another")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(held)


def _lock(held: int) -> bool | None:
    """Whether an open file is nobody else's; None where a file system has no locks."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return os.fstat(held).st_nlink > 0


def require_place(path: str | Path, kind: str, *, own: bool = False) -> Path:
    """The path, if ``kind`` may be written there: nothing is there, or nothing is in it, or an older one of ``kind``.

    Raises FileExistsError: something else is there: a link, a special file, a file or folder that does not carry the
    mark; PermissionError: what is there, or the folder that it would lie in, may only be read.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     length = Path(folder, "thesis.txt").write_text("mine")
    ...     require_place(f"{folder}/thesis.txt", "xflux report")
    Traceback (most recent call last):
        ...
    FileExistsError: '...thesis.txt' exists and is no xflux report, or a damaged one: give another path or move it
    """
    path = at_home(path)
    if path.is_symlink():
        raise FileExistsError(f"{str(path)!r} is a link to {os.readlink(path)!r}: give that path itself, or another")
    if not os.path.lexists(path):
        _require_folder(path)
        return path
    mode = path.stat().st_mode
    holds = any(path.iterdir()) if stat.S_ISDIR(mode) else path.stat().st_size or not stat.S_ISREG(mode)
    if holds and not own and not kind_of(path).startswith(kind):
        raise FileExistsError(f"{str(path)!r} exists and is no {kind}, or a damaged one: give another path or move it")
    if _is_read_only(path):
        raise PermissionError(f"{str(path)!r} is read-only: make it writable, or give another path")
    _require_folder(path)
    return path


def _require_folder(path: Path) -> None:
    """Nothing is asked of a folder that is yet to be made, but that the one above it may be written to."""
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise FileExistsError(f"{str(path)!r} cannot be written: {str(above)!r} is no folder")
    if _is_read_only(above):
        raise PermissionError(f"{str(path)!r} cannot be written: the folder {str(above)!r} is read-only")


def _is_read_only(path: Path) -> bool:
    """By its mode too: a superuser may write anywhere, but should not here."""
    return not path.stat().st_mode & 0o222 or not os.access(path, os.W_OK)


def claim(path: str | Path, kind: str) -> Path:
    """A folder that is written bit by bit, made and marked where nothing is, taken up where it carries the mark.

    Raises FileExistsError, PermissionError: as :func:`require_place`: a folder with other files is not taken.

    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = claim(f"{folder}/run", "xflux run")
    ...     kind_of(run), claim(run, "xflux run") == run
    ('xflux run', True)
    """
    path = require_place(path, kind)
    path.mkdir(parents=True, exist_ok=True)
    if not (path / MARK).exists():
        write_json(path / MARK, {"kind": kind, "versions": versions()})
    return path


def kind_of(path: Path) -> str:
    """What a file or folder says in itself that xflux wrote it as; "" where it says nothing.

    >>> kind_of(Path(__file__))
    ''
    """
    try:
        if path.is_dir():
            return _kind_of_folder(path)
        if not path.is_file():  # a pipe would keep its reader waiting
            return ""
        with path.open("rb") as file:
            head = file.read(_HEAD)
        if head.startswith(b"\x89HDF"):
            return _kind_of_netcdf(path)
        if head.startswith(b"PK"):
            with ZipFile(path) as file:
                return "xflux stability" if {"fingerprint.npy", "n_pixels.npy"} <= set(file.namelist()) else ""
        if head[8:9] == b"{":
            return _kind_of_safetensors(path)
        if said := next((kind for first, kind in _HEADINGS.items() if head.startswith(first)), ""):
            return said
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _HEAD))
            found = _WORDS.search(head) or _WORDS.search(file.read())
        return found[1].decode() if found else ""
    except (OSError, ValueError, RuntimeError, BadZipFile):  # unreadable or damaged: it does not say
        return ""


def _kind_of_folder(path: Path) -> str:
    if (path / MARK).is_file():
        return str(_object(read_json(path / MARK)).get("kind", ""))
    note = path / "zarr.json"
    return _marked(_object(_object(read_json(note)).get("attributes"))) if note.is_file() else ""


def _kind_of_netcdf(path: Path) -> str:
    import netCDF4

    require_seal(path)
    with netCDF4.Dataset(path) as ds:
        return _marked({name: ds.getncattr(name) for name in ds.ncattrs()})


def _kind_of_safetensors(path: Path) -> str:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        text = file.read(length) if length < 2**27 else b""
    return str(_object(_object(parse_json(text, path)).get("__metadata__")).get("kind", ""))


def _object(said: Any) -> dict[str, Any]:
    return said if isinstance(said, dict) else {}


def _marked(attrs: Mapping[str, Any]) -> str:
    if "xflux_run" in attrs:
        return KIND_OF_STORE
    values = (attrs.get(name) for name in ("xflux", "title", "format"))
    return next((v for v in values if isinstance(v, str) and v.startswith("xflux ")), "")


def write_json(path: str | Path, content: object) -> None:
    """Write JSON into a folder of xflux's own, whole or not at all; NumPy values become plain ones."""
    with whole(path, "xflux JSON", own=True) as part:
        part.write_text(json.dumps(content, indent=2, default=plain) + "\n", encoding="utf-8")

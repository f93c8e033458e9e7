"""The run folder: which stages are done, with what content, and how long they took."""

import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from xflux.files import claim, replace, write_json
from xflux.provenance import digest, file_digest, inside, read_json, versions

KIND = "xflux run"


def _sizes(path: Path) -> list:
    """The size of a file, or of every file of a folder with its name: a Zarr store that lost a chunk has others."""
    return [[str(f.relative_to(path)), f.stat().st_size] for f in inside(path)]


def _state(path: Path) -> list:
    """What tells, without reading it, that a file or folder has not changed."""
    return [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in inside(path)]


class RunFolder:
    """A folder in which stages leave their outputs, and a note of what each was made from.

    A stage is done when its note holds the same digest and all its outputs are there in their sizes; a study that is
    stopped and started again therefore goes on from the last finished stage, and a stage whose inputs, settings,
    recipe or version of xflux changed runs again, with all that follows from it.

    The folder must be new, empty, or marked as a run folder; in it, only what a run has made is ever replaced. What a
    stage makes lies in ``stages/new`` until the stage is through.
    """

    def __init__(self, path: str | Path, say: Callable[[str], None] | None = None):
        self.path = claim(path, KIND)
        self.new = self.path / "stages" / "new"
        self.say = say or (lambda text: print(text, file=sys.stderr, flush=True))
        self.hashes: dict[str, str] = {}
        self.timings: dict[str, float] = {}
        self.current = ""
        self._started = time.perf_counter()

    def stage(
        self,
        name: str,
        make: Callable[[], None],
        *,
        outputs: list[str],
        after: tuple[str, ...] = (),
        settings: object = None,
        recipe: int = 1,
        title: str = "",
    ) -> None:
        """Run ``make`` unless its outputs are there, made from the same settings and earlier stages by this xflux.

        ``recipe`` is a number to raise where the stage makes something else of the same inputs, between versions.
        """
        made_from = digest([versions().get("xflux"), recipe, settings, [self.hashes[stage] for stage in after]])
        self.hashes[name] = made_from
        note = self.path / "stages" / f"{name}.json"
        before = read_json(note) if note.exists() else {}
        if before.get("made_from") == made_from and self._are_whole(outputs, before.get("made", {})):
            self.timings[name] = before["seconds"]
            self.say(f"[{self._clock()}] {title or name}: done before, kept")
            return
        self.say(f"[{self._clock()}] {title or name} …")
        self._require_own([output for output in outputs if not (self.path / output).is_dir()])
        note.unlink(missing_ok=True)
        _remove(self.new)
        self.current = made_from
        start = time.perf_counter()
        make()
        made = self._publish(outputs, list(before.get("made", {})))
        missing = [str(self.path / output) for output in outputs if not (self.path / output).exists()]
        if missing:
            raise RuntimeError(f"stage {name!r} did not write {missing}")
        self.timings[name] = round(time.perf_counter() - start, 1)
        write_json(note, {"made_from": made_from, "seconds": self.timings[name], "outputs": outputs, "made": made})
        self.say(
            f"[{self._clock()}] {title or name}: {self.timings[name]:.0f} s, peak memory {peak_memory_gib():.1f} GiB"
        )

    def fresh(self, name: str) -> Path:
        """Where an output is to be made; it takes the place of an older one when the stage is through."""
        path = self.new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(path)
        return path

    def write(self, name: str, content: object) -> None:
        """Write JSON into the folder, at once."""
        self._require_own([name])
        self._note_made([name])
        write_json(self.path / name, content)

    def _are_whole(self, outputs: list[str], made: dict[str, str]) -> bool:
        there = all((self.path / name).exists() for name in [*outputs, *made])
        return there and all(digest(_sizes(self.path / name)) == sizes for name, sizes in made.items())

    def _publish(self, outputs: list[str], before: list[str]) -> dict[str, str]:
        """Move what the stage has made into its place, and remove what it made before and not now."""
        names = [str(path.relative_to(self.new)) for path in _units(self.new)]
        stale = set(before) - set(names)
        self._require_own([*names, *stale])
        self._note_made(names)
        for folder in (output for output in outputs if (self.new / output).is_dir() and not output.endswith(".zarr")):
            (self.path / folder).mkdir(parents=True, exist_ok=True)  # some have nothing in them
        for name in names:
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            replace(self.new / name, self.path / name)
        for name in stale:
            _remove(self.path / name)
        _remove(self.new)
        return {name: digest(_sizes(self.path / name)) for name in names}

    def _require_own(self, names: list[str]) -> None:
        """An error where a file or folder stands that no stage has made, or a link."""
        mine = set(self._made())
        for name in names:
            path = self.path / name
            above = [folder for folder in path.parents if self.path in folder.parents]
            link = next((p for p in (path, *above) if p.is_symlink()), None)
            if link or (os.path.lexists(path) and name not in mine):
                what = "is a link" if link else "was not made by this run"
                raise FileExistsError(f"{str(link or path)!r} {what}: move it away, or give another run folder")

    def _made(self) -> list[str]:
        note = self.path / "stages" / "made.json"
        return read_json(note) if note.exists() else []

    def _note_made(self, names: list[str]) -> None:
        write_json(self.path / "stages" / "made.json", sorted({*self._made(), *names}))

    def hash_of(self, paths: list[Path]) -> str:
        """SHA-256 of the content of one file, or of all of several; files that did not change are not read again."""
        note = self.path / "stages" / "files.json"
        known = read_json(note) if note.exists() else {}
        digests = []
        for path in paths:
            state = digest(_state(path))
            entry = known.get(str(path))
            if not entry or entry[0] != state:
                known[str(path)] = entry = [state, file_digest(path)]
            digests.append(entry[1])
        write_json(note, known)
        return digests[0] if len(digests) == 1 else digest(digests)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.perf_counter() - self._started), 60)
        return f"{minutes:3d}:{seconds:02d}"

    def checkpoint(self, name: str) -> Path:
        """Where the stage that runs keeps a state to go on from; states of other settings are removed."""
        path = self.path / f"{name}.{self.current[:12]}.checkpoint"
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f"{path.name.split('.')[0]}.{'[0-9a-f]' * 12}.checkpoint"):
            if other != path:
                _remove(other)
        return path


def _units(folder: Path) -> Iterator[Path]:
    """Files and Zarr stores in a folder: what is moved as one."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and path.suffix != ".zarr":
            yield from _units(path)
        else:
            yield path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, GiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform != "darwin" else kib / 2**30

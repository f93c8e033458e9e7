"""The run folder: which stages are done, with what content, and how long they took."""

import hashlib
import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, or of all files of a folder (a Zarr store) with their names."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path) if path.is_dir() else "").encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _state(path: Path) -> list:
    """What tells, without reading it, that a file or folder has not changed."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def content_hash(content: object) -> str:
    """SHA-256 of a JSON-able object, independent of the order of keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def write_json(path: Path, content: object) -> None:
    """Write JSON so that a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(path.suffix + ".part")
    partial.write_text(json.dumps(content, indent=2, default=str) + "\n")
    os.replace(partial, path)


class RunFolder:
    """A folder in which stages leave their outputs, and a note of what each was made from.

    A stage is done when its note holds the same content hash and all its outputs are there; a study that is
    stopped and started again therefore goes on from the last finished stage, and a stage whose inputs or
    settings changed runs again, with all that follows from it.
    """

    def __init__(self, path: str | Path, say: Callable[[str], None] | None = None):
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
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
        title: str = "",
    ) -> None:
        """Run ``make`` unless its outputs are there and were made from the same settings and earlier stages."""
        made_from = content_hash([settings, [self.hashes[stage] for stage in after]])
        self.hashes[name] = made_from
        note = self.path / "stages" / f"{name}.json"
        files = [self.path / output for output in outputs]
        if self._is_done(note, made_from, files):
            self.timings[name] = json.loads(note.read_text())["seconds"]
            self.say(f"[{self._clock()}] {title or name}: done before, kept")
            return
        self.say(f"[{self._clock()}] {title or name} …")
        note.unlink(missing_ok=True)
        self.current = made_from
        start = time.perf_counter()
        make()
        missing = [str(file) for file in files if not file.exists()]
        if missing:
            raise RuntimeError(f"stage {name!r} did not write {missing}")
        self.timings[name] = round(time.perf_counter() - start, 1)
        write_json(note, {"made_from": made_from, "seconds": self.timings[name], "outputs": outputs})
        self.say(
            f"[{self._clock()}] {title or name}: {self.timings[name]:.0f} s, peak memory {peak_memory_gib():.1f} GiB"
        )

    def hash_of(self, paths: list[Path]) -> str:
        """SHA-256 of the content of one file, or of all of several; files that did not change are not read again."""
        note = self.path / "stages" / "files.json"
        known = json.loads(note.read_text()) if note.exists() else {}
        digests = []
        for path in paths:
            state = content_hash(_state(path))
            entry = known.get(str(path))
            if not entry or entry[0] != state:
                known[str(path)] = entry = [state, file_hash(path)]
            digests.append(entry[1])
        write_json(note, known)
        return digests[0] if len(digests) == 1 else content_hash(digests)

    @staticmethod
    def _is_done(note: Path, made_from: str, files: list[Path]) -> bool:
        return (
            note.exists() and json.loads(note.read_text())["made_from"] == made_from and all(f.exists() for f in files)
        )

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.perf_counter() - self._started), 60)
        return f"{minutes:3d}:{seconds:02d}"

    def fresh(self, name: str) -> Path:
        """The path of an output that is about to be made; what was there before is removed."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(path)
        return path

    def checkpoint(self, name: str) -> Path:
        """Where the stage that runs keeps a state to go on from; states of other settings are removed."""
        path = self.path / f"{name}.{self.current[:12]}.checkpoint"
        path.parent.mkdir(parents=True, exist_ok=True)
        for other in path.parent.glob(f"{path.name.split('.')[0]}.*.checkpoint"):
            if other != path:
                _remove(other)
        return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def peak_memory_gib() -> float:
    """Largest resident memory of this process so far, GiB."""
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib / 2**20 if sys.platform != "darwin" else kib / 2**30

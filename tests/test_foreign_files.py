"""Nothing of the user's is lost: every function and command that writes, at every place that is not xflux's own.

Each writer is given a place where something else stands. Afterwards all that stood there is as it was, to the byte.
Where the writer fails midway, what it wrote before is whole.
"""

import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import stat
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import xflux
from xflux import files, forward, plot, provenance, stores
from xflux.cli import app
from xflux.report import write_report
from xflux.study.stages import RunFolder

TIME = pd.date_range("2001-01-01", periods=24, freq="MS")
LAT, LON = [15.0, 5.0, -5.0, -15.0], [0.0, 10.0, 20.0, 30.0]
NEE = xr.DataArray(
    np.random.default_rng(0).normal(size=(24, 4, 4)),
    {"time": TIME, "lat": LAT, "lon": LON},
    ("time", "lat", "lon"),
    attrs={"units": "gC m-2 d-1", "area_basis": "cell"},
)
MASK = xr.zeros_like(NEE[0], dtype=int).drop_vars("time")
GRID = xr.Dataset({"a": NEE.astype("float32").drop_attrs()})
MODEL = forward.wrap(lambda rows: rows[:, 0], ["a"], "gC m-2 d-1", targets="nee")


@pytest.fixture(scope="module")
def bridge():
    return NEE.flux.fit_bridge(MASK, r2=0.9)


@pytest.fixture(scope="module")
def weights():
    return xflux.region_weights(GRID, "latitude-bands")


@pytest.fixture(scope="module")
def model():
    pytest.importorskip("torch")
    from xflux.train import FluxModel

    layers = {"weight0": np.ones((2, 1, 1), "f4"), "bias0": np.zeros((2, 1, 1), "f4")}
    return FluxModel(["a"], np.zeros(1), np.ones(1), ["nee"], {"nee": "gC m-2 d-1"}, layers)


def command(*words) -> None:
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


def a_report(out: Path) -> None:
    with tempfile.TemporaryDirectory() as run:
        Path(run, "study.toml").write_text('title = "Small"')
        write_report(run, out)


def a_prediction(out: Path, request) -> None:
    model, drivers = out.parent / "m.safetensors", out.parent / "d.nc"
    if not drivers.exists():
        request.getfixturevalue("model").save(model)
        GRID.to_netcdf(drivers)
    command("predict", model, drivers, out, "--overwrite", "--quiet")


def a_study(out: Path) -> None:
    """The checks of the study's place come before all others, so that the files of a study are not needed."""
    from importlib import resources

    from xflux.study import load_study, run_study

    pytest.importorskip("torch")
    run_study(load_study(resources.files("xflux.data") / "study_template.toml", {"data": str(out.parent)}), out)


WRITERS = {
    "weights.nc": lambda out, get: xflux.save_weights(get("weights"), out),
    "weights.zarr": lambda out, get: xflux.save_weights(get("weights"), out),
    "bridge.nc": lambda out, get: get("bridge").save(out),
    "model.safetensors": lambda out, get: get("model").save(out),
    "trials.npz": lambda out, get: NEE.flux.bridge_stability(MASK, trials=2, r2=0.9, path=out),
    "flux.zarr": lambda out, get: forward.run(GRID, MODEL, out, progress=False, overwrite=True),
    "report.html": lambda out, get: a_report(out),
    "figure.png": lambda out, get: a_figure(out),
    "figure.pdf": lambda out, get: a_figure(out),
    "figure.svg": lambda out, get: a_figure(out),
}
READERS = {
    "weights.nc": xflux.load_weights,
    "weights.zarr": xflux.load_weights,
    "bridge.nc": xflux.load_bridge,
    "model.safetensors": xflux.load_model,
}
COMMANDS = {
    "new.toml": lambda out, get: command("new", out),
    "run": lambda out, get: a_study(out),
    "demo": lambda out, get: command("demo", "--smoke", "--out", out),
    "run_folder": lambda out, get: RunFolder(out),
    "predicted.zarr": lambda out, get: a_prediction(out, get.__self__),
}
ALL = WRITERS | COMMANDS


def a_figure(out: Path) -> None:
    from matplotlib.figure import Figure

    plot.save(Figure(figsize=(1, 1)), out.with_suffix(""), formats=[out.suffix[1:]], close=False)


def content(folder: Path) -> dict:
    """Everything in a folder: a link as what it points to, a file as its bytes and mode."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[path] = os.readlink(path)
        else:
            found[path] = (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
    return found


def a_file(place: Path, mine: Path) -> None:
    place.write_text("years of work")


def a_folder(place: Path, mine: Path) -> None:
    place.mkdir()
    (place / "thesis.tex").write_text("years of work")


def a_zarr_store(place: Path, mine: Path) -> None:
    GRID.to_zarr(place, consolidated=False)


def a_netcdf_file(place: Path, mine: Path) -> None:
    GRID.to_netcdf(place)


def a_link_to_a_file(place: Path, mine: Path) -> None:
    (mine / "precious").write_text("years of work")
    place.symlink_to(mine / "precious")


def a_link_to_a_folder(place: Path, mine: Path) -> None:
    place.symlink_to(mine)


def a_dangling_link(place: Path, mine: Path) -> None:
    place.symlink_to(mine / "not_there")


def a_pipe(place: Path, mine: Path) -> None:
    os.mkfifo(place)


PLACES = [a_file, a_folder, a_zarr_store, a_netcdf_file, a_link_to_a_file, a_link_to_a_folder, a_dangling_link, a_pipe]


@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", ALL)
def test_what_is_not_xfluxs_own_is_refused_and_left_alone(name, place, tmp_path, request):
    out, mine = tmp_path / "work" / name, tmp_path / "mine"
    out.parent.mkdir()
    mine.mkdir()
    place(out, mine)
    before = content(tmp_path)
    with pytest.raises(OSError, match=name.split(".")[0]):
        ALL[name](out, request.getfixturevalue)
    after = content(tmp_path)
    assert {path: after.get(path) for path in before} == before
    assert not (mine / "not_there").exists()
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("name", WRITERS)
def test_an_own_file_is_replaced_unless_it_is_read_only(name, tmp_path, request):
    out = tmp_path / name
    WRITERS[name](out, request.getfixturevalue)
    assert files.kind_of(out).startswith("xflux ")
    WRITERS[name](out, request.getfixturevalue)
    mode = stat.S_IMODE(out.stat().st_mode)
    out.chmod(mode & ~0o222)
    before = content(tmp_path)
    with pytest.raises(PermissionError, match=f"{name}.*read-only"):
        WRITERS[name](out, request.getfixturevalue)
    assert content(tmp_path) == before
    out.chmod(mode)


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_that_may_only_be_read_is_named(name, tmp_path, request):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    try:
        with pytest.raises(PermissionError, match=r"closed.* is read-only"):
            WRITERS[name](folder / name, request.getfixturevalue)
        assert not list(folder.iterdir())
    finally:
        folder.chmod(0o755)


@pytest.mark.parametrize("name", [n for n in WRITERS if n != "flux.zarr"])
def test_a_write_that_fails_midway_leaves_the_old_file_whole(name, tmp_path, request, monkeypatch):
    out = tmp_path / name
    WRITERS[name](out, request.getfixturevalue)
    if name == "trials.npz":  # the same trials would not be written again
        monkeypatch.setattr("xflux.bridge.stability._run", lambda *args: True)
    before = content(tmp_path)

    def full(new, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        WRITERS[name](out, request.getfixturevalue)
    assert content(tmp_path) == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_an_error_that_names_the_file(name, tmp_path, request):
    """A limit on the size of files stops every library as a full disk does, in its own words."""
    out = tmp_path / name
    request.getfixturevalue("weights"), request.getfixturevalue("bridge")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (80, hard))
    try:
        with pytest.raises(OSError, match=name):
            WRITERS[name](out, request.getfixturevalue)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert name == "flux.zarr" or not list(tmp_path.iterdir())
    WRITERS[name](out, request.getfixturevalue)


@pytest.mark.parametrize("name", WRITERS)
def test_a_tilde_is_the_home_folder(name, tmp_path, request, monkeypatch):
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(work)
    WRITERS[name](Path("~") / name, request.getfixturevalue)
    assert not list(work.iterdir()) and files.kind_of(home / name).startswith("xflux ")
    if name in READERS:
        READERS[name](f"~/{name}")


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, bridge):
    left, used, mine = (tmp_path / f".b.nc.{word}.part" for word in ("abcdefgh", "writing_", "mine____"))
    for folder, name in ((left, "b.nc"), (used, "b.nc"), (mine, "notes.txt")):
        folder.mkdir()
        (folder / name).write_text("half")
    held = os.open(used, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    bridge.save(tmp_path / "b.nc")
    os.close(held)
    assert sorted(tmp_path.iterdir()) == [mine, used, tmp_path / "b.nc"]


def test_a_store_is_written_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "a.zarr"
    forward.run(GRID, MODEL, path, progress=False)
    with files.alone(path):
        before = content(path)
        for overwrite in (True, False):
            with pytest.raises(BlockingIOError, match=r"a\.zarr' is being written by another process"):
                forward.run(GRID, MODEL, path, progress=False, overwrite=overwrite)
        assert content(path) == before
    forward.run(GRID, MODEL, path, progress=False)
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_folder_comes_back_when_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").write_text("1")
    (tmp_path / "beside").mkdir()
    with pytest.raises(FileNotFoundError):
        files.replace(tmp_path / "beside" / "new", tmp_path / "old")
    assert (tmp_path / "old" / "a").read_text() == "1"


# ------------------------------------------------------------------------------------------------------- stores
def test_a_run_over_the_store_that_it_reads_is_refused(tmp_path):
    path = tmp_path / "a.zarr"
    forward.run(GRID, MODEL, path, progress=False)
    again = forward.wrap(lambda rows: rows[:, 0], ["nee"], "gC m-2 d-1", targets="nee")
    before = content(path)
    with pytest.raises(FileExistsError, match=r"a\.zarr.* is where the drivers are read from"):
        forward.run(xr.open_zarr(path, chunks=None), again, path, progress=False, overwrite=True)
    unknown = xr.open_zarr(path, chunks=None)[["nee"]].drop_encoding()  # does not say where it comes from
    unknown.encoding = {}
    with pytest.raises(ValueError, match="no land"):
        forward.run(unknown, again, path, progress=False, overwrite=True)
    assert content(path) == before


@pytest.mark.parametrize("lazy", [True, False])
def test_an_old_run_stays_until_the_new_one_has_land(tmp_path, lazy):
    path, nowhere = tmp_path / "a.zarr", GRID * np.nan
    forward.run(GRID, MODEL, path, progress=False)
    before = content(tmp_path)
    with pytest.raises(ValueError, match="no land"):
        forward.run(nowhere.chunk() if lazy else nowhere, MODEL, path, progress=False, overwrite=True)
    with pytest.raises(ZeroDivisionError):
        forward.run(GRID, forward.wrap(lambda r: 1 / 0, ["a"], "1"), path, progress=False, overwrite=True)
    assert content(tmp_path) == before
    double = forward.wrap(lambda rows: 2 * rows[:, 0], ["a"], "gC m-2 d-1", targets="nee")
    out = forward.run(GRID, double, path, progress=False, overwrite=True)
    np.testing.assert_allclose(out["nee"], 2 * GRID["a"], rtol=1e-6)
    assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("begun", [True, False], ids=["before its first land", "before it has a store"])
def test_an_old_run_comes_back_where_the_new_ones_process_was_killed(tmp_path, begun):
    path = tmp_path / "a.zarr"
    forward.run(GRID, MODEL, path, progress=False)
    before = content(path)

    def dies(rows):
        if len(rows) > 32 or not begun:  # the 32 rows that tell one model from another
            os.kill(os.getpid(), signal.SIGKILL)
        return 2 * rows[:, 0]

    double = forward.wrap(dies, ["a"], "gC m-2 d-1", targets="nee")
    arguments = {"progress": False, "overwrite": True}
    child = multiprocessing.get_context("fork").Process(target=forward.run, args=(GRID, double, path), kwargs=arguments)
    child.start()
    child.join(600)
    assert child.exitcode == -signal.SIGKILL and path.exists() is begun
    forward.run(GRID, MODEL, path, progress=False)  # goes on with the old one, which is complete
    assert content(path) == before
    assert os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("lost", ["nee", "lat", "time", "lat/c", "lat_bnds/c"])
def test_a_store_that_lost_a_part_is_not_gone_on_with(tmp_path, lost):
    path = tmp_path / "a.zarr"
    forward.run(GRID, MODEL, path, progress=False)
    files.shutil.rmtree(path / lost)
    with pytest.raises(OSError, match=r"a\.zarr' is damaged: (it has lost|its coordinates)"):
        forward.run(GRID, MODEL, path, progress=False)
    whole = forward.run(GRID, MODEL, path, progress=False, overwrite=True)
    np.testing.assert_array_equal(whole["nee"], GRID["a"])


@pytest.mark.parametrize(
    ("array", "change"),
    [
        ("nee", lambda text: text[:200]),
        ("nee", lambda text: text.replace('"float32"', '"float64"')),
        ("time", lambda text: text.replace("since 2001", "since 1901")),
        ("time", lambda text: text.replace("proleptic_gregorian", "360_day")),
    ],
)
def test_an_array_whose_description_is_damaged_is_an_error_that_names_the_store(tmp_path, array, change):
    forward.run(GRID, MODEL, tmp_path / "a.zarr", progress=False)
    note = tmp_path / "a.zarr" / array / "zarr.json"
    assert change(note.read_text()) != note.read_text()
    note.write_text(change(note.read_text()))
    with pytest.raises((ValueError, OSError), match=r"a\.zarr.* is damaged"):
        forward.run(GRID, MODEL, tmp_path / "a.zarr", progress=False)


def test_what_the_user_put_into_a_store_or_copied_from_it_is_left_alone(tmp_path):
    path = tmp_path / "a.zarr"
    made = forward.run(GRID, MODEL, path, progress=False)
    (path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which no xflux store has"):
        forward.run(GRID, MODEL, path, progress=False, overwrite=True)
    own = tmp_path / "b.zarr"  # with all attributes, as xarray keeps them
    made.assign(own=made["nee"] * 2).drop_encoding().to_zarr(own, consolidated=False)
    with pytest.raises(FileExistsError, match=r"b\.zarr' holds own, which no xflux store has"):
        forward.run(GRID, MODEL, own, progress=False, overwrite=True)


@pytest.mark.parametrize("address", ["file://{}/mine", "memory://{}/mine"])
def test_what_is_not_xfluxs_own_at_an_address_is_left_alone(address, tmp_path):
    import fsspec

    out = address.format(tmp_path)
    system, folder = fsspec.core.url_to_fs(out)
    system.makedirs(folder)
    system.pipe(f"{folder}/thesis.tex", b"years of work")
    for overwrite in (True, False):
        with pytest.raises(FileExistsError, match="mine' exists and is no xflux store"):
            forward.run(GRID, MODEL, out, progress=False, overwrite=overwrite)
    assert system.cat(f"{folder}/thesis.tex") == b"years of work"
    for overwrite in (False, True):
        forward.run(GRID, MODEL, f"{out}/a.zarr", progress=False, overwrite=overwrite)
    system.pipe(f"{folder}/a.zarr/notes.txt", b"mine")
    with pytest.raises(FileExistsError, match=r"holds notes\.txt, which no xflux store has"):
        forward.run(GRID, MODEL, f"{out}/a.zarr", progress=False, overwrite=True)
    assert system.cat(f"{folder}/a.zarr/notes.txt") == b"mine"


def test_a_link_beside_is_not_followed(tmp_path, bridge):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "b.nc.part").symlink_to(tmp_path / "victim")
    bridge.save(tmp_path / "b.nc")
    assert (tmp_path / "victim").read_text() == "precious"
    assert xflux.load_bridge(tmp_path / "b.nc").pixels.identical(bridge.pixels)


# ------------------------------------------------------------------------------------------------------ weights
@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.filterwarnings("ignore:Object at .* is not recognized:UserWarning")  # of damaged stores
def test_damaged_weights_are_an_error_that_names_the_file(suffix, tmp_path, weights):
    path = tmp_path / f"w{suffix}"
    xflux.save_weights(weights, path)
    assert xflux.load_weights(path).identical(weights)
    rng = np.random.default_rng(0)
    for file in sorted(p for p in [path, *path.rglob("*")] if p.is_file()):
        whole = file.read_bytes()
        flips = [bytearray(whole) for _ in range(4)]
        for flip in flips:
            flip[rng.integers(len(flip))] ^= 1 << rng.integers(8)
        for damaged in (*flips, whole[: len(whole) // 2], b"", None):
            file.unlink() if damaged is None else file.write_bytes(damaged)
            try:
                assert xflux.load_weights(path).identical(weights)  # in words that nothing depends on
            except (ValueError, OSError) as error:
                assert path.name in str(error)
            file.write_bytes(whole)


# --------------------------------------------------------------------------------------------------- run folders
def quiet(path) -> RunFolder:
    return RunFolder(path, say=lambda text: None)


def stage(run: RunFolder, text: str, names=("figures/a.txt", "tables/b.txt"), **changes) -> None:
    def make():
        for name in names:
            run.fresh(name).write_text(text)

    run.stage("draw", make, outputs=list(names), settings=text, **changes)


def test_what_the_user_put_into_a_run_folder_stays(tmp_path):
    stage(quiet(tmp_path / "run"), "1")
    (tmp_path / "run" / "figures" / "mine.txt").write_text("mine")
    (tmp_path / "run" / "inputs").mkdir()
    (tmp_path / "run" / "inputs" / "raw.nc").write_text("raw")
    stage(quiet(tmp_path / "run"), "2", names=("figures/a.txt",))
    assert sorted(p.name for p in (tmp_path / "run" / "figures").iterdir()) == ["a.txt", "mine.txt"]
    assert not (tmp_path / "run" / "tables" / "b.txt").exists(), "what a stage no longer makes is gone"
    with pytest.raises(FileExistsError, match=r"raw\.nc' was not made by this run"):
        stage(quiet(tmp_path / "run"), "3", names=("inputs/raw.nc",))
    assert (tmp_path / "run" / "inputs" / "raw.nc").read_text() == "raw"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "compared").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="compared' is a link"):
        stage(quiet(tmp_path / "run"), "4", names=("compared/c.txt",))
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_stage_that_fails_leaves_what_the_last_one_made(tmp_path):
    run = quiet(tmp_path / "run")
    stage(run, "1")
    with pytest.raises(ZeroDivisionError):
        run.stage("draw", lambda: (run.fresh("figures/a.txt").write_text("2"), 1 / 0), outputs=[], settings=2)
    assert (tmp_path / "run" / "figures" / "a.txt").read_text() == "1"


def test_a_stage_is_made_anew_by_another_version_or_recipe_or_when_a_part_is_lost(tmp_path, monkeypatch):
    made = []

    def call(**changes):
        run = quiet(tmp_path / "run")

        def make():
            made.append(1)
            GRID.to_zarr(run.fresh("flux/ec.zarr"), consolidated=False)

        run.stage("forward", make, outputs=["flux/ec.zarr"], **changes)
        return len(made)

    assert (call(), call()) == (1, 1)
    assert (call(recipe=2), call(recipe=2)) == (2, 2)
    (next((tmp_path / "run" / "flux" / "ec.zarr" / "a" / "c").rglob("0"))).exists()
    next(p for p in (tmp_path / "run" / "flux" / "ec.zarr" / "a" / "c").rglob("*") if p.is_file()).unlink()
    assert (call(recipe=2), call(recipe=2)) == (3, 3)
    monkeypatch.setattr("xflux.study.stages.versions", lambda: {"xflux": "99"})
    assert (call(recipe=2), call(recipe=2)) == (4, 4)


@pytest.mark.parametrize("name", ["", " ", ".", "..", ".hidden", "a/b", "/tmp/a", "..\\a", "a\0b", "x" * 300])
def test_the_name_of_a_study_is_a_name(name):
    from importlib import resources

    from xflux.study import StudyError, load_study

    with pytest.raises(StudyError, match=r"'name'.*expected a name"):
        load_study(resources.files("xflux.data") / "study_template.toml", {"name": name})


def test_a_link_in_a_run_folder_carries_nothing_into_a_report(tmp_path):
    run, secret = tmp_path / "run", b"TOP SECRET of another folder"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.png").write_bytes(secret)
    (tmp_path / "secret" / "t.csv").write_text("secret\nTOP SECRET")
    (tmp_path / "secret" / "p.json").write_text(json.dumps({"seed": "TOP SECRET"}))
    (run / "figures").mkdir(parents=True)
    (run / "study.toml").write_text('title = "Small"')
    (run / "figures" / "x.png").symlink_to(tmp_path / "secret" / "x.png")
    (run / "tables").symlink_to(tmp_path / "secret")
    (run / "provenance.json").symlink_to(tmp_path / "secret" / "p.json")
    page = write_report(run).read_text()
    import base64

    assert base64.b64encode(secret).decode() not in page and "TOP SECRET" not in page
    assert "figures/x.png (a link out of the run folder)" in page


def test_the_world_of_the_demo_is_the_same_to_the_byte(tmp_path):
    from xflux.study.demo import write_world

    for name in ("a", "b"):
        write_world(tmp_path / name, resolution=10.0, years=2, seed=0)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert [provenance.file_digest(tmp_path / "a" / n) for n in names] == [
        provenance.file_digest(tmp_path / "b" / n) for n in names
    ]


def test_a_study_file_of_the_demo_that_was_edited_is_not_written_over(tmp_path):
    from xflux.study.demo import run_demo

    out = files.claim(tmp_path / "demo", "xflux run")
    world = files.claim(out / "world", "xflux world")
    (world / "study.toml").write_text("# mine")
    with pytest.raises(FileExistsError, match=r"study\.toml was edited"):
        run_demo(out, smoke=True)
    assert (world / "study.toml").read_text() == "# mine"


def test_the_mark_of_a_store_is_read_as_it_is_written(tmp_path):
    forward.run(GRID, MODEL, tmp_path / "a.zarr", progress=False)
    assert stores.read_mark(str(tmp_path / "a.zarr"))["state"] == "complete"

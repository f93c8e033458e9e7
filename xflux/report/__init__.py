"""A run folder, or several side by side, as one HTML page that needs no network."""

from collections.abc import Sequence
from pathlib import Path

from xflux.files import at_home, require_place, whole
from xflux.report.page import build
from xflux.report.run import Run, read_run

KIND = "xflux report"

__all__ = ["Run", "read_run", "write_report"]


def write_report(
    run_folder: str | Path | Sequence[str | Path], out: str | Path | None = None, *, resolution: float = 2.0
) -> Path:
    """Write the report of a run, or of two or more runs side by side, as one self-contained HTML file.

    The first screen has the verdict in a sentence, the table of the models, their maps and the seasonal cycle. Below:
    what may not be claimed, the sections with each figure's tables folded under it (a click on a heading sorts), a map
    where model, month, mean and spread can be switched and cells read with the pointer, inputs and provenance. Runs
    side by side have the differences of their numbers too. A smoke run says so on every screen. It is made from the
    files of the run folder alone; parts that a folder lacks are named on the page, whose path is returned. Only an
    older report is replaced there.

    Parameters
    ----------
    run_folder : a run folder as ``xflux run`` writes it, or a sequence of them.
    out : the HTML file; by default ``report.html`` in the first run folder.
    resolution : the map shows fluxes averaged to about this many degrees, so that the page stays small; tables and
        figures are at full resolution.

    Raises
    ------
    FileNotFoundError, ValueError
        A folder does not exist; it holds nothing of a run.
    FileExistsError, PermissionError
        ``out`` is no older report, a link, or may only be read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     length = (Path(folder) / "study.toml").write_text('title = "Small"')
    ...     page = write_report(folder)
    ...     page.name, "<title>Small" in page.read_text()
    ('report.html', True)
    """
    folders = [run_folder] if isinstance(run_folder, str | Path) else list(run_folder)
    if not folders:
        raise ValueError("no run folder given: name at least one")
    out = require_place(out if out is not None else at_home(folders[0]) / "report.html", KIND)
    runs = [read_run(folder) for folder in folders]
    with whole(out, KIND) as part:
        part.write_text(build(runs, resolution), encoding="utf-8")
    return out

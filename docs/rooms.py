"""The picture of the rooms by level in development.md, from tests/test_architecture.py: ``python docs/rooms.py``."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from test_architecture import LEVELS  # noqa: E402

SAID = {
    "cli": "the command line",
    "study": "a study, from one file to its report",
    "__init__": "the package",
    "train": "towers and constraints (torch)",
    "accessor": "ds.flux",
    "synthetic": "an Earth whose truth is known",
    "bridge": "few pixels → regions",
    "drivers": "Table A2 from base data",
    "forward": "a model over the globe",
    "report": "figures as one page",
    "tabulate": "tables of budgets",
    "towers": "read, place, folds",
    "evaluate": "scores",
    "plot": "figures",
    "align": "drivers on one axis",
    "regions": "sets, weights, integrals",
    "adjust": "fire, rivers, fossil",
    "catalogue": "published products",
    "cells": "axes, match, regrid, fill",
    "temporal": "bounds, steps, averages",
    "contents": "what a flux holds, its basis",
    "stores": "Zarr by region",
    "units": "factors",
    "values": "packing, fills",
    "files": "written whole",
    "provenance": "digests, versions",
    "reading": "names the file",
    "compile": "loops, by numba",
    "extras": "not installed",
    "shadow": "variable “flux”",
    "data": "tables, templates",
    "display": "objects as text",
    "forks": "threads after fork",
}


def draw(path: Path) -> None:
    """One row a level, one box a room."""
    fig, ax = plt.subplots(figsize=(12, 6.6), layout="constrained")
    for level, rooms in enumerate(LEVELS):
        named = sorted(rooms)
        width = 1 / len(named)
        for k, room in enumerate(named):
            box = plt.Rectangle(
                (k * width + 0.004, level + 0.08), width - 0.008, 0.84, facecolor="#e8f0ea", ec="#4a7c59"
            )
            ax.add_patch(box)
            ax.text((k + 0.5) * width, level + 0.62, room, ha="center", va="center", weight="bold", fontsize=10)
            ax.text((k + 0.5) * width, level + 0.3, SAID.get(room, ""), ha="center", va="center", fontsize=7.5)
        ax.text(-0.012, level + 0.5, str(level + 1), ha="right", va="center", color="#4a7c59")
    ax.set(xlim=(-0.03, 1), ylim=(0, len(LEVELS)))
    ax.axis("off")
    fig.savefig(path, dpi=130)


if __name__ == "__main__":
    draw(HERE / "images" / "rooms.png")

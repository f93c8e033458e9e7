"""What help() shows of everything public in the reference: an example, and a word on each parameter."""

import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import xflux
from xflux.accessor import DatasetFlux, FluxPlots
from xflux.train import FluxModel

REFERENCE = (Path(__file__).parents[1] / "docs" / "reference.md").read_text(encoding="utf-8")


def named(path: str):
    """A function or class of the reference by its name; the accessor's methods have their object already."""
    if ".flux." in path:
        *_, room, name = f".{path}".split(".")
        return getattr(FluxPlots if room == "plot" else DatasetFlux, name)
    return pkgutil.resolve_name(f"xflux.{path}")


def public() -> dict:
    names = re.findall(r"^   (\w+\.flux(?:\.\w+)+|\w+(?:\.\w+)?)$", REFERENCE, flags=re.M)
    found = {name: named(name) for name in names}
    for owner in (xflux.Bridge, FluxModel, FluxPlots):
        found |= {f"{owner.__name__}.{k}": v for k, v in vars(owner).items() if k[0] != "_" and inspect.isfunction(v)}
    kept = {k: v for k, v in found.items() if inspect.isfunction(v) or inspect.isclass(v)}
    return {k: v for k, v in kept.items() if not (inspect.isclass(v) and issubclass(v, Exception))}


PUBLIC = public()


@pytest.mark.parametrize("name", PUBLIC)
def test_help_has_an_example_and_names_every_parameter(name):
    text = inspect.getdoc(PUBLIC[name])
    others = list(inspect.signature(PUBLIC[name]).parameters)[1:] if inspect.isfunction(PUBLIC[name]) else []
    missing = [p for p in others if not re.search(rf"\b{p}\b", text)]  # the first is what it is called for
    assert ">>>" in text and not missing, missing


def test_the_reference_is_seen():
    assert len(PUBLIC) > 100

"""A world whose truth is known: climate, vegetation, fluxes, towers, inversions, for tests, examples and the demo."""

from xflux.synthetic.planet import Earth, Settings, earth

__all__ = ["Earth", "Settings", "earth"]

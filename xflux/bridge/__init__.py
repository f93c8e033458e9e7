"""The bridge from few pixels to a region's integral: candidates, Lasso, the bridge itself, its stability."""

from .bridge import Bridge, load_bridge
from .fit import FitOptions, fit_bridge
from .stability import bridge_stability

__all__ = ["Bridge", "FitOptions", "bridge_stability", "fit_bridge", "load_bridge"]

"""The bridge from few pixels to a region's integral: candidates, Lasso, the bridge itself, its stability."""

from xflux.bridge.bridge import Bridge, load_bridge
from xflux.bridge.fit import FitOptions, fit_bridge
from xflux.bridge.stability import bridge_stability

__all__ = ["Bridge", "FitOptions", "bridge_stability", "fit_bridge", "load_bridge"]

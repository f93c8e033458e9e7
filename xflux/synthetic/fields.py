"""Random fields on the sphere and random series in time."""

import numpy as np


def smooth_fields(lat: np.ndarray, lon: np.ndarray, scale: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` independent fields (count, cell), Gaussian, mean 0, variance 1, without a seam or a grid.

    Sums of cosines with random wave vectors in space, taken on the unit sphere: the correlation falls like
    exp(−d²/2) at a distance d of ``scale`` radians. The same seed gives the same fields at every resolution.
    """
    phi, lam = np.deg2rad(lat), np.deg2rad(lon)
    x = np.stack([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    waves = 64
    out = np.empty((count, len(lat)), np.float32)
    for k in range(count):
        vectors = rng.standard_normal((waves, 3)) / scale
        phase = rng.uniform(0, 2 * np.pi, (waves, 1))
        out[k] = np.cos(vectors @ x + phase).sum(0) * np.sqrt(2 / waves)
    return out


def autoregressive(steps: int, count: int, memory: float, rng: np.random.Generator) -> np.ndarray:
    """Red noise (steps, count) of mean 0 and variance 1, with an e-folding memory in steps."""
    from scipy.signal import lfilter

    a = np.exp(-1 / memory)
    noise = rng.standard_normal((steps, count)) * np.sqrt(1 - a * a)
    noise[0] = rng.standard_normal(count)
    return lfilter([1.0], [1.0, -a], noise, axis=0).astype(np.float32)


def fading_mean(values: np.ndarray, memory: float) -> np.ndarray:
    """Exponentially weighted past mean along the first axis; it starts at the mean of the first year."""
    from scipy.signal import lfilter

    a = np.exp(-1 / memory)
    start = values[:365].mean(0) * a
    return lfilter([1 - a], [1.0, -a], values, axis=0, zi=start[None])[0].astype(np.float32)


def el_nino(days: int, rng: np.random.Generator) -> np.ndarray:
    """ENSO-like index by day: a damped oscillation of about four years, driven by noise, variance about 1."""
    months = days // 30 + 3
    spin = 240
    angle, damping = 2 * np.pi / 48, np.exp(-1 / 24)
    state, out = 0j, np.empty(months + spin)
    kicks = rng.standard_normal((months + spin, 2))
    for m in range(months + spin):
        state = state * damping * np.exp(1j * angle) + (kicks[m, 0] + 1j * kicks[m, 1]) * np.sqrt(1 - damping**2)
        out[m] = state.real
    return np.interp(np.arange(days), np.arange(months) * 30.44, out[spin:]).astype(np.float32)

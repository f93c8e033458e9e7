"""The Lasso of Eq. 1 and 3, stopped exactly where the training R² reaches its target.

Minimise ‖y − Xβ − b‖² + α Σ|β| (Eq. 1: a *sum* of squares, not scikit-learn's mean; b is not penalised). β is
piecewise linear in α (the LARS–Lasso path), so on every segment the sum of squared errors is a quadratic in α and
the largest α that reaches the target is the root of that quadratic: no grid of α, no tolerance.

scikit-learn's ``lars_path`` goes the same way, but copied columns and ties led it astray.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

# A column whose part outside the span of the selected ones is below this share of its norm² is a copy of them.
_COLLINEAR = 1e-11
_TIE = 1e-10


@dataclass(frozen=True)
class LassoFit:
    """One sparse linear model: ``prediction = x @ coef + intercept``.

    ``alpha`` is that of Eq. 1; ``r2`` = 1 − SSE/SST on the training samples; ``reached`` says whether the target was.
    """

    coef: np.ndarray
    intercept: float
    alpha: float
    r2: float
    reached: bool

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Prediction (samples,) for ``x`` (samples, pixels)."""
        return x @ self.coef + self.intercept


@dataclass(frozen=True)
class Segment:
    """One linear piece of the path: β_A(λ) = u − λ v for λ = α/2 from ``upper`` down to ``lower``."""

    active: np.ndarray
    u: np.ndarray
    v: np.ndarray
    upper: float
    lower: float

    def coef(self, lam: float, size: int) -> np.ndarray:
        """All ``size`` weights at λ."""
        coef = np.zeros(size)
        coef[self.active] = self.u - lam * self.v
        return coef


def lasso_segments(x: np.ndarray, y: np.ndarray, positive: bool = False) -> Iterator[Segment]:
    """The exact Lasso path, from the largest α down to 0.

    Homotopy in closed form: with the active set A and its signs s, stationarity of Eq. 1 gives
    β_A = G⁻¹(X_Aᵀy − λs), G = X_AᵀX_A, and the correlation of pixel j is c_j = a_j + λ b_j; the segment ends where an
    inactive |c_j| meets λ or an active β crosses zero. Every segment is solved anew, so that no error accumulates.

    Parameters
    ----------
    x, y
        Predictors (samples, pixels) and target (samples,), centred, finite.
    positive
        Only weights ≥ 0.

    Examples
    --------
    >>> x = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> y = x @ np.array([3.0, 1.0])
    >>> [(s.active.tolist(), s.upper, s.coef(s.lower, 2).tolist()) for s in lasso_segments(x, y)]
    [([0], 6.0, [2.0, 0.0]), ([0, 1], 2.0, [3.0, 1.0])]
    """
    xty = x.T @ y
    norms = np.einsum("ij,ij->j", x, x)
    lam = float(np.max(xty if positive else np.abs(xty), initial=0.0))
    floor = 1e-13 * lam
    path = _ActiveSet(x, xty, norms, positive)
    if lam <= 0 or not path.enter(int(np.argmax(xty if positive else np.abs(xty)))):
        return
    for _ in range(10 * min(x.shape) + x.shape[1] + 100):  # a guard: copies of columns cost a step each
        u, v, a, b = path.solve()
        entering, lam_in = path.next_in(a, b, lam)
        leaving, lam_out = path.next_out(u, v, lam)
        lower = max(lam_in, lam_out, 0.0)
        yield Segment(np.array(path.active), u, v, lam, lower)
        lam = lower
        if lam <= floor:
            return
        if lam_out >= lam_in:
            path.leave(leaving)
        else:
            path.enter(entering)


class _ActiveSet:
    """The pixels with a weight, their signs and their Gram columns."""

    def __init__(self, x: np.ndarray, xty: np.ndarray, norms: np.ndarray, positive: bool) -> None:
        self.x, self.xty, self.norms, self.positive = x, xty, norms, positive
        self.active: list[int] = []
        self.signs: list[float] = []
        self.columns = np.empty((x.shape[1], 0))
        self.closed = norms <= 0  # pixels that cannot enter: active, or combinations of the active ones
        self.correlation = xty

    def enter(self, j: int) -> bool:
        """Add pixel j; False where it is a combination of the active ones."""
        self.closed[j] = True
        column = self.x.T @ self.x[:, j]
        projected = column[self.active] @ np.linalg.solve(self.columns[self.active], column[self.active])
        if self.norms[j] - projected <= _COLLINEAR * self.norms[j]:
            return False
        self.signs.append(1.0 if self.positive else float(np.sign(self.correlation[j])))
        self.active.append(j)
        self.columns = np.column_stack([self.columns, column])
        return True

    def leave(self, position: int) -> None:
        """Remove the active pixel at ``position``; what was a combination of the active ones may no longer be."""
        del self.active[position], self.signs[position]
        self.columns = np.delete(self.columns, position, axis=1)
        self.closed = self.norms <= 0
        self.closed[self.active] = True

    def solve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """(u, v, a, b): β_A(λ) = u − λv and c(λ) = a + λb."""
        rhs = np.column_stack([self.xty[self.active], self.signs])
        u, v = np.linalg.solve(self.columns[self.active], rhs).T
        return u, v, self.xty - self.columns @ u, self.columns @ v

    def next_in(self, a: np.ndarray, b: np.ndarray, lam: float) -> tuple[int, float]:
        """The inactive pixel whose correlation meets λ next as λ falls, and that λ (0 where none does)."""
        sign = np.array([[1.0]] if self.positive else [[1.0], [-1.0]])
        slope = 1.0 - sign * b
        rising = (slope > _TIE) & ~self.closed  # otherwise |c| falls at least as fast as λ: it cannot be overtaken
        roots = np.divide(sign * a, slope, out=np.full(slope.shape, -np.inf), where=rising)
        place = int(np.argmax(roots))
        root = min(float(roots.flat[place]), lam)
        if root <= 0:
            return -1, 0.0
        self.correlation = a + root * b
        return place % a.size, root

    def next_out(self, u: np.ndarray, v: np.ndarray, lam: float) -> tuple[int, float]:
        """The active pixel whose weight reaches zero next as λ falls, and that λ (0 where none does)."""
        roots = np.divide(u, v, out=np.full(u.size, -np.inf), where=v * self.signs < 0)
        position = int(np.argmax(roots))
        root = min(float(roots[position]), lam)
        return (position, root) if root > 0 else (-1, 0.0)


def largest_alpha(
    x: np.ndarray, y: np.ndarray, r2: float = 0.95, *, positive: bool = False, groups: np.ndarray | None = None
) -> LassoFit:
    """The Lasso at the largest α whose training R² reaches ``r2`` (Eq. 3 and the paper's loop over α, without a grid).

    Parameters
    ----------
    x, y
        Predictors (samples, pixels) and target (samples,), uncentred, finite.
    r2
        The target, in (0, 1).
    positive
        Only weights ≥ 0.
    groups
        Where given, a group per sample: R² is then that of the anomalies from the groups' means (deseasonalised
        where the group is the calendar month).

    Returns
    -------
    LassoFit
        With ``reached=False``, the end of the path (least squares), where no α reaches the target.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.standard_normal((60, 5))
    >>> fit = largest_alpha(x, 3 * x[:, 1] + 1, r2=0.99)
    >>> np.flatnonzero(fit.coef), round(fit.r2, 12)
    (array([1]), 0.99)
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    x_mean, y_mean = x.mean(axis=0), y.mean()
    xc, yc = _without_constants(x, x_mean), y - y_mean
    total = float(_project(yc, groups) @ _project(yc, groups))
    if total <= _rounding(y):
        return LassoFit(np.zeros(x.shape[1]), float(y_mean), np.inf, np.nan, False)
    for jitter in (0.0, 1e-10, 1e-9):  # columns that tie exactly can lead the path astray: then break the ties
        apart = xc * (1 + jitter * np.random.default_rng(0).standard_normal(x.shape[1])) if jitter else xc
        fit = _follow(apart, yc, (r2, total, groups), positive)
        if not fit.reached or _violation(xc, yc, fit, positive) < 1e-6:
            break
    return replace(fit, intercept=float(y_mean - x_mean @ fit.coef))


def _follow(x: np.ndarray, y: np.ndarray, target: tuple, positive: bool) -> LassoFit:
    """Down the path of centred data until the target (r2, total sum of squares, groups) is reached."""
    r2, total, groups = target
    segment, lam, reached = None, 0.0, False
    for segment in lasso_segments(x, y, positive):
        found = _crossing(segment, x, y, (1.0 - r2) * total, groups)
        if found is not None:
            lam, reached = found, True
            break
        lam = segment.lower
    if segment is None:
        return LassoFit(np.zeros(x.shape[1]), 0.0, np.inf, 0.0, False)
    return _finish(segment, lam, reached, x, y, target)


def _violation(x: np.ndarray, y: np.ndarray, fit: LassoFit, positive: bool) -> float:
    """Largest violation of Eq. 1's optimality, 2 X'r = α sign(β) and |2 X'r| ≤ α elsewhere, as a share of α."""
    gradient = 2 * x.T @ (y - x @ fit.coef)
    active = fit.coef != 0
    on = np.abs(gradient[active] - fit.alpha * np.sign(fit.coef[active])).max(initial=0.0)
    off = ((gradient if positive else np.abs(gradient)) - fit.alpha).max(initial=0.0)
    return float(max(on, off) / fit.alpha) if fit.alpha > 0 else 0.0


def _crossing(
    segment: Segment, x: np.ndarray, y: np.ndarray, allowed: float, groups: np.ndarray | None
) -> float | None:
    """The largest λ on the segment at which the sum of squared errors is at most ``allowed``."""
    chosen = x[:, segment.active]
    residual, direction = _project(y - chosen @ segment.u, groups), _project(chosen @ segment.v, groups)
    c0, c1, c2 = residual @ residual - allowed, 2 * residual @ direction, direction @ direction
    if c2 <= 0:  # pixels without anomalies leave those of the target as they are
        return None
    inside = c1 * c1 - 4 * c0 * c2
    if inside < 0:
        return None
    # the larger root, without cancellation where c1 > 0
    root = np.sqrt(inside)
    largest = (-c1 + root) / (2 * c2) if c1 <= 0 else -2 * c0 / (c1 + root)
    return float(min(largest, segment.upper)) if segment.lower <= largest else None


def _finish(segment: Segment, lam: float, reached: bool, x: np.ndarray, y: np.ndarray, target: tuple) -> LassoFit:
    """Weights at λ; λ gives way by rounding errors until the R² that comes out is not below the one asked for."""
    r2, total, groups = target
    for shave in (0.0, 1e-14, 1e-13, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8):
        coef = segment.coef(lam * (1 - shave), x.shape[1])
        misfit = _project(y - x @ coef, groups)
        if not reached or 1 - misfit @ misfit / total >= r2:
            break
    residual = y - x @ coef
    return LassoFit(coef, 0.0, 2 * lam, float(1 - residual @ residual / (y @ y)), reached)


def _without_constants(x: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Centred predictors; a constant one is exactly zero, so that its rounding error is never selected."""
    centred = x - mean
    centred[:, np.ptp(x, axis=0) <= 1e-12 * np.max(np.abs(x), axis=0, initial=0.0)] = 0.0
    return centred


def _rounding(y: np.ndarray) -> float:
    """The sum of squares that rounding alone gives a constant series."""
    return y.size * (1e-13 * float(np.max(np.abs(y), initial=0.0))) ** 2


def _project(values: np.ndarray, groups: np.ndarray | None) -> np.ndarray:
    return values if groups is None else anomalies(values, groups)


def anomalies(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """``values`` (samples,) minus the mean of each sample's group (the calendar month: deseasonalised).

    >>> anomalies(np.array([1.0, 5.0, 3.0, 9.0]), np.array([0, 1, 0, 1]))
    array([-1., -2.,  1.,  2.])
    """
    _, index = np.unique(groups, return_inverse=True)
    means = np.bincount(index, weights=values) / np.bincount(index)
    return values - means[index]


def r_squared(y: np.ndarray, predicted: np.ndarray, groups: np.ndarray | None = None) -> float:
    """1 − SSE/SST, of the anomalies from the groups' means where ``groups`` is given; NaN for a constant target."""
    mean = np.zeros(y.size, int) if groups is None else groups
    total = anomalies(y, mean)
    error = y - predicted if groups is None else anomalies(y - predicted, groups)
    sst = float(total @ total)
    return float(1 - error @ error / sst) if sst > _rounding(y) else np.nan


def cross_validate(
    x: np.ndarray,
    y: np.ndarray,
    folds: np.ndarray,
    r2: float = 0.95,
    *,
    positive: bool = False,
    refit: bool = False,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Prediction of every sample by the model fitted without its fold (α is chosen anew in every fold).

    Parameters
    ----------
    x, y, r2, positive, groups
        As in :func:`largest_alpha`.
    folds
        (samples,) the fold of each sample; fewer than two give NaN.
    refit
        Least squares on what is selected, without the Lasso's shrinkage.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(60, 5))
    >>> y = 2 * x[:, 0] - x[:, 3]
    >>> predicted = cross_validate(x, y, folds=np.arange(60) // 12, r2=0.95)
    >>> round(r_squared(y, predicted), 2)
    0.94
    """
    predicted = np.full(y.size, np.nan)
    names = np.unique(folds)
    if names.size < 2:
        return predicted
    for fold in names:
        train = folds != fold
        fit = largest_alpha(x[train], y[train], r2, positive=positive, groups=None if groups is None else groups[train])
        if refit:
            fit = without_shrinkage(fit, x[train], y[train], positive=positive)
        predicted[~train] = fit.predict(x[~train])
    return predicted


def without_shrinkage(fit: LassoFit, x: np.ndarray, y: np.ndarray, *, positive: bool = False) -> LassoFit:
    """Least squares (non-negative where ``positive``) on the pixels that ``fit`` selected; ``alpha`` is the Lasso's."""
    chosen = np.flatnonzero(fit.coef)
    if not chosen.size:  # SciPy's nnls does not survive a matrix without columns
        return fit
    x_mean, y_mean = x[:, chosen].mean(axis=0), y.mean()
    xc, yc = x[:, chosen] - x_mean, y - y_mean
    if positive:
        from scipy.optimize import nnls

        weights = nnls(xc, yc)[0]
    else:
        weights = np.linalg.lstsq(xc, yc, rcond=None)[0]
    coef = np.zeros_like(fit.coef)
    coef[chosen] = weights
    return LassoFit(coef, float(y_mean - x_mean @ weights), fit.alpha, r_squared(y, xc @ weights + y_mean), fit.reached)

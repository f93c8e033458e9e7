"""Evaluation: scores of labelled arrays, the paper's Tables 2, 3 and C1, and towers by held-out fold."""

from xflux.evaluate.scores import decompose_mse, score, spread_skill
from xflux.evaluate.towers import paired_difference, site_means, tower_components, tower_scores

__all__ = [
    "decompose_mse",
    "paired_difference",
    "score",
    "site_means",
    "spread_skill",
    "tower_components",
    "tower_scores",
]

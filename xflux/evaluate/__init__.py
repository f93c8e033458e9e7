"""Evaluation: scores of labelled arrays, the paper's Tables 2, 3 and C1, and towers by held-out fold."""

from xflux.evaluate.joined import ensemble
from xflux.evaluate.scores import decompose_mse, score, score_by, spread_skill
from xflux.evaluate.tables import annual_table, markdown, monthly_table, sink_table
from xflux.evaluate.towers import paired_difference, site_means, tower_components, tower_scores, tower_table

__all__ = [
    "annual_table",
    "decompose_mse",
    "ensemble",
    "markdown",
    "monthly_table",
    "paired_difference",
    "score",
    "score_by",
    "sink_table",
    "site_means",
    "spread_skill",
    "tower_components",
    "tower_scores",
    "tower_table",
]

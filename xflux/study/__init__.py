"""A whole study: read towers, drivers and a regional target, train, predict, evaluate and draw, from one TOML file.

Rooms inside: :mod:`config` (the study file), :mod:`inputs`, :mod:`published`, :mod:`base` and :mod:`weather` (what the
file points at), :mod:`stages` (the run folder and what is done), :mod:`pipeline` (the stages in their order),
:mod:`results` (what the run folder holds), :mod:`tables`, :mod:`paper` and :mod:`interannual` (numbers made from it)
and :mod:`figures`.
"""

from xflux.study.config import StudyConfig, StudyError
from xflux.study.loading import load_study
from xflux.study.pipeline import check_study, run_study
from xflux.study.results import Results, integrals_of
from xflux.study.tables import numbers, table

__all__ = [
    "Results",
    "StudyConfig",
    "StudyError",
    "check_study",
    "integrals_of",
    "load_study",
    "numbers",
    "run_study",
    "table",
]

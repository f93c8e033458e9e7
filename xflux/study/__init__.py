"""A whole study: read towers, drivers and a regional target, train, predict, evaluate and draw, from one TOML file.

Rooms inside: :mod:`config` (the study file), :mod:`inputs` (what the file points at), :mod:`stages` (the run
folder and what is done), :mod:`pipeline` (the stages in their order), :mod:`tables` (numbers recomputed from the
run's files) and :mod:`figures`.
"""

from xflux.study.config import StudyConfig, StudyError, load_study
from xflux.study.pipeline import check_study, run_study

__all__ = ["StudyConfig", "StudyError", "check_study", "load_study", "run_study"]

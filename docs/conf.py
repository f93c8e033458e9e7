"""Sphinx: ``sphinx-build -W --keep-going -n docs docs/_build`` (needs ``pip install -e ".[docs]"``; no network)."""

import os
import shutil
import sys
from pathlib import Path

import sphinx_autosummary_accessors

import xflux

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import docstrings  # noqa: E402

# Notebooks run in kernels that inherit this environment: sharp inline figures, few threads, no data but their own.
os.environ["MATPLOTLIBRC"] = str(HERE / "matplotlibrc")
os.environ.setdefault("OMP_NUM_THREADS", "1")
for name in ("XFLUX_DATA", "XFLUX_PRODUCTS", "MPLBACKEND"):
    os.environ.pop(name, None)

project = "xflux"
author = "the xflux developers"
release = version = xflux.__version__
copyright = author

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_autosummary_accessors",
    "myst_nb",
    "mathml",
    "thumbnails",
]
templates_path = ["_templates", sphinx_autosummary_accessors.templates_path]
exclude_patterns = ["_build"]
default_role = "literal"
nitpicky = True
# Types of other libraries have no inventory here, since the build takes nothing from the network.
nitpick_ignore_regex = [
    (r"py:.*", r"(xarray|xr|numpy|np|pandas|pd|torch|dask|matplotlib|pathlib|os|collections|typing|sparse)(\..*)?"),
]

autosummary_generate = True
autosummary_ignore_module_all = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_use_param = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Attributes", "params_style"), "Returns:"]

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "attrs_inline"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_code_prompt_show = "Show the hidden {type}"
nb_code_prompt_hide = "Hide the {type}"

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = "xflux"
html_static_path = ["_static"]
html_css_files = ["xflux.css"]
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 8,
    "show_prev_next": True,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"start": [], "regions": [], "changelog": []}


def setup(app):
    """Pages of the reference are made anew, so that none is left of a function that is gone."""
    shutil.rmtree(HERE / "api", ignore_errors=True)
    app.connect("autodoc-process-docstring", docstrings.process, priority=100)
    app.connect("autodoc-process-docstring", docstrings.restore, priority=900)

"""Sphinx configuration: pages are MyST, their code runs, and a warning is an error in CI."""

from __future__ import annotations

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent))
# The kernels that run the pages are new processes: let them find this checkout, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

project = "symode"
author = "symode developers"
copyright = "symode developers"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "method_tables",
]
exclude_patterns = ["_build", "_ext", "**/.ipynb_checkpoints"]
templates_path: list[str] = []

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
math_eqref_format = "({number})"

# "force": what a page shows is what the code of this checkout printed, never a cached result.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
# A first run on a machine compiles the solvers.
nb_execution_timeout = 600
nb_merge_streams = True
# Progress bars and the one line about compiling solvers are for terminals.
nb_output_stderr = "remove"

# Single backticks in docstrings are code.
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "symode"
html_static_path = ["_static"]
html_css_files = ["symode.css"]
html_copy_source = False
html_show_sphinx = False

"""The site: `make docs` builds it into build/site. See docs/tools/ for what is made on the way."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs" / "tools"))

import api  # noqa: E402
import course  # noqa: E402
import docstrings  # noqa: E402

import minillm  # noqa: E402

project = "minillm"
author = "the minillm team"
copyright = "2026, the minillm team. MIT licence"
version = release = minillm.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
]
exclude_patterns = ["tools", "_build", "package.json"]
myst_enable_extensions = ["amsmath", "attrs_inline", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_links_external_new_tab = True
nb_code_prompt_show = "How the picture is drawn"
nb_code_prompt_hide = "Hide the code"
nb_execution_mode = "off"  # notebooks/tools/execute.py has run them, and checked them

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_mock_imports = ["IPython"]
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
numpydoc_validation_checks = set()
add_module_names = False
python_maximum_signature_line_length = 88
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

html_theme = "furo"
html_title = "minillm"
html_favicon = "_static/icon.svg"
html_static_path = ["_static", str(ROOT / "build" / "mathjax")]
html_css_files = ["minillm.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False

# tools/mathjax.py copies these files; the fonts lie beside the script, not on another server
mathjax_path = "mathjax/tex-chtml.js"
mathjax4_config = {
    "loader": {"paths": {"font": "[mathjax]/font"}},
    "output": {"fontPath": "[mathjax]/%%FONT%%-font", "displayOverflow": "overflow"},
}


def skip_matplotlibs(app, what, name, obj, skip, options):
    """Leave out what a figure of ours has from matplotlib."""
    return True if getattr(obj, "__module__", "").startswith("matplotlib") else None


def relink_notebooks(app, docname, content):
    """Links to the notebooks' folder lead to the executed copies."""
    content[0] = re.sub(r"\]\((?:\.\./)+notebooks/(?=[\w.])", "](/notebooks/", content[0])


def setup(app):
    app.connect("source-read", relink_notebooks)
    app.connect("autodoc-skip-member", skip_matplotlibs)
    app.connect("builder-inited", lambda app: api.write(Path(app.srcdir)))
    app.connect("builder-inited", lambda app: course.write(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", docstrings.escape, priority=100)  # before numpydoc's

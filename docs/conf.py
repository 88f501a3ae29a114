"""Sphinx settings: MyST-NB for pages and notebooks, furo for the looks, autodoc for the reference.

`make docs` builds with -W, so every warning is an error.
"""

import shutil
import sys
from pathlib import Path

from minigrad import __version__

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_ext"))

project = "minigrad"
author = "the minigrad authors"
copyright = "2026, the minigrad authors"
version = release = __version__

extensions = [
    "myst_nb",
    "plain_docstrings",  # docs/_ext: docstrings are plain text, not reStructuredText
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

html_theme = "furo"
smartquotes = False  # "" and -- stay what they are
html_title = f"minigrad {version}"
html_copy_source = False

autodoc_default_options = {"members": True, "undoc-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False

myst_enable_extensions = ["amsmath", "dollarmath"]

# "$ " and ">>> " are prompts and not part of what the copy button copies; neither is output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

# The notebooks are kept with their outputs, and the tests execute them. Sphinx reads no files above docs/,
# so each build gets a fresh copy.
nb_execution_mode = "off"
shutil.rmtree(HERE / "notebooks", ignore_errors=True)
if (HERE.parent / "notebooks").is_dir():
    shutil.copytree(
        HERE.parent / "notebooks",
        HERE / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints", "*.py"),
    )

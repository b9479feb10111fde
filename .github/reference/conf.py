"""Sphinx settings of the API reference: python -m sphinx -n -W .github/reference build/reference"""

import os
import pkgutil
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from sphinx.util import logging

import tfvl

project = "tfvl"
release = tfvl.__version__
author = copyright = "the authors of tfvl"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "alabaster"
html_copy_source = False

autodoc_typehints = "none"  # the docstrings say types and shapes, where the annotations name classes of other packages
autodoc_inherit_docstrings = False
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "undoc-members": False}
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_use_param = False

# Classes of other packages, which have pages of their own.
nitpick_ignore_regex = [("py:.*", r"(numpy|collections\.abc|pathlib|keras|tensorflow)\..*")]

LOGGER = logging.getLogger(__name__)
PUBLIC = {name for name in tfvl.__all__ if isinstance(getattr(tfvl, name), type)}


def as_reference(match: re.Match) -> str:
    """A public class becomes a reference; another name of tfvl must exist, and is code as everything else."""
    text, after = match[1], "\\ " if match.string[match.end() :][:1].isalnum() else ""
    if text.removeprefix("tfvl.") in PUBLIC:
        return f":py:obj:`~tfvl.{getattr(tfvl, text.removeprefix('tfvl.')).__name__}`{after}"
    if re.fullmatch(r"tfvl(\.\w+)+", text):
        try:
            pkgutil.resolve_name(text)
        except (ImportError, AttributeError):
            LOGGER.warning("a docstring names %s, which does not exist", text)
    return f"``{text}``{after}"


def rewrite(app, what, name, obj, options, lines) -> None:
    text = re.sub(r"(?<![`:])`([^`]+)`(?![`_])", as_reference, "\n".join(lines))
    lines[:] = text.split("\n")


def setup(app) -> None:
    app.connect("autodoc-process-docstring", rewrite, priority=0)  # before napoleon

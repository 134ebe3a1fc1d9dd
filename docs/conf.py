"""Settings of Sphinx; `make docs` writes the site to build/docs."""

import inspect

import wavedrom
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from golden.common.rooms import VERSION

project = "Driftless"
author = "The Driftless authors"
copyright = "2026, the Driftless authors"
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["figures"]
suppress_warnings = ["ref.python"]  # golden and hardware both have an `Accelerator`

myst_enable_extensions = ["colon_fence", "attrs_block"]
myst_heading_anchors = 4

highlight_language = "none"
default_role = "code"  # docstrings write `names` so
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [(name, "params_style") for name in ("Members", "Parameters of a subclass")]

html_theme = "furo"
html_title = f"Driftless {VERSION}"
html_static_path = ["static"]
html_css_files = ["wide.css"]


class _Waves(SphinxDirective):
    """A timing diagram in the language of WaveDrom."""

    has_content = True

    def run(self):
        drawing = wavedrom.render("\n".join(self.content)).tostring()
        return [nodes.raw("", f'<div class="waves">{drawing}</div>', format="html")]


def _own_signature(app, what, name, thing, options, signature, returns):
    # Amaranth wraps the making of every component, so Sphinx finds the wrapper's arguments.
    if what != "class" or not (signature or "").startswith("(*args, src_loc_at"):
        return None
    own = inspect.signature(thing.__init__)
    kept = [parameter for parameter in own.parameters.values() if parameter.name not in ("self", "src_loc_at")]
    plain = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in kept]
    return str(own.replace(parameters=plain, return_annotation=inspect.Signature.empty)), returns


def setup(app):
    """Called by Sphinx."""
    app.add_directive("wavedrom", _Waves)
    app.connect("autodoc-process-signature", _own_signature)

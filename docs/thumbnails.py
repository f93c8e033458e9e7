"""The directive ``thumbnails``: pages by name, each shown by a figure that its own code draws.

The figure is the output of the cell tagged ``thumbnail``, else the first of the page.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class thumbnail(nodes.General, nodes.Element):
    """The place of one page's picture and title, filled when all pages have been read."""


class Thumbnails(SphinxDirective):
    """One docname a line, from the top of the documentation."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        return [nodes.container("", *(thumbnail(page=page) for page in self.content), classes=["thumbnails"])]


def picture(page: nodes.document) -> nodes.image:
    """The figure that stands for a page."""
    tagged = [cell for cell in page.findall(nodes.container) if "tag_thumbnail" in cell["classes"]]
    return next(image for part in (*tagged, page) for image in part.findall(nodes.image)).deepcopy()


def fill(app, doctree: nodes.document, docname: str) -> None:
    """Sphinx's event ``doctree-resolved``."""
    for place in list(doctree.findall(thumbnail)):
        page = place["page"]
        title = app.env.titles[page].astext()
        link = nodes.reference("", "", internal=True, refuri=app.builder.get_relative_uri(docname, page))
        image = picture(app.env.get_doctree(page))
        image["alt"] = title
        link += [image, nodes.inline(text=title)]
        place.replace_self(nodes.paragraph("", "", link))


def setup(app) -> dict:
    app.add_node(thumbnail)
    app.add_directive("thumbnails", Thumbnails)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

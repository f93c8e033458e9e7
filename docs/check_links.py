"""Check every link of built pages that stays within them: the file is there, and so is the anchor; and that pages are
whole without a network: scripts, styles, fonts and pictures are their own.

``python docs/check_links.py docs/_build`` prints what is broken and ends with 1 where anything is. No network.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif name in ("href", "src") and value:
                self.links.append(value)
                if (name == "src" or tag == "link") and urlsplit(value).netloc:
                    self.fetched.append(value)


def broken(root: Path) -> list[str]:
    """One line for each internal link under ``root`` that leads nowhere."""
    root = root.resolve()
    # what the theme ships are templates, no pages
    pages = {path: Page(path) for path in sorted(root.rglob("*.html")) if "_static" not in path.relative_to(root).parts}
    if not pages:
        raise FileNotFoundError(f"no HTML page under {root}: build them first")
    found = []
    for sheet in sorted(root.rglob("*.css")):
        away = re.findall(r"(?:@import|url\()\s*[\"']?((?:https?:)?//[^\"')]+)", sheet.read_text(encoding="utf-8"))
        found += [f"{sheet.relative_to(root)}: {link}: is fetched from the network" for link in away]
    for path, page in pages.items():
        found += [f"{path.relative_to(root)}: {link}: is fetched from the network" for link in page.fetched]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            if not target.exists():
                found.append(f"{path.relative_to(root)}: {link}: there is no such file")
            elif "_modules" in path.relative_to(root).parts:
                continue  # the way back from a source leads to the page, by a name that may be another alias
            elif anchor and target in pages and anchor not in pages[target].anchors:
                found.append(f"{path.relative_to(root)}: {link}: the page has no such anchor")
    return found


if __name__ == "__main__":
    lines = broken(Path(sys.argv[1]))
    print("\n".join(lines) or "all internal links lead somewhere")
    sys.exit(1 if lines else 0)

"""Hooks of the documentation's site: pages from outside of ``docs``, and links that leave it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pymdownx.slugs import slugify

__all__ = ["PAGES", "on_files", "on_page_markdown", "on_page_read_source", "on_post_build"]

_ROOT = Path(__file__).parents[1]

PAGES: Mapping[str, str] = {
    "readme.md": "README.md",
    "readme.pt.md": "README.pt-BR.md",
    "changelog.md": "CHANGELOG.md",
    "reporting.md": "SECURITY.md",
}
"""The pages of the site from the root of the repository, by their names in the site."""

_FENCED = re.compile(r"^(```.*?^```)$", re.MULTILINE | re.DOTALL)
_SECTION = re.compile(r"^##+ (.+)$", re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>[^]]+)\]\((?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")
# The site has a switch for it.
_OTHER_LANGUAGE = re.compile(r" \[[^]]+\]\(README[^)]*\.md\)\.$", re.MULTILINE)
_EMPTY_MAP = '<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9"></urlset>\n'
# MkDocs finds the title of a page only at its beginning.
_COMMENT = re.compile(r"\A<!--.*?-->\s*", re.DOTALL)
_TITLE = re.compile(r"^# .+$", re.MULTILINE)
_ENGLISH_ONLY = '\\g<0>\n\n!!! note "Esta página existe só em inglês."\n'


@event_priority(100)
def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from the root, before all are sorted by language."""
    for name in PAGES:
        files.append(File(name, config.docs_dir, config.site_dir, config.use_directory_urls))
    return files


def on_page_read_source(page: Page, config: MkDocsConfig) -> str | None:
    """Return the text of a page from the root; None for others, which MkDocs reads."""
    source = PAGES.get(page.file.src_uri)
    return None if source is None else (_ROOT / source).read_text(encoding="utf-8")


@event_priority(100)
def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Return a page with links that lead somewhere in the site, marked if it is not translated.

    A link to a file that is no page, a test or an example, becomes its text.
    """
    uri = page.file.src_uri
    source = PAGES.get(uri)
    folder = PurePosixPath(f"docs/{uri}" if source is None else source).parent
    pages = {path: name for name, path in PAGES.items()}

    def to_page(link: re.Match[str]) -> str:
        target = normpath(folder / link["path"])
        name = pages.get(target) or target.removeprefix("docs/")
        if name == target:
            return link["text"]
        # Each language has its page under the name of the English one.
        name = name.replace(".pt.md", ".md")
        return f"[{link['text']}]({relpath(name, PurePosixPath(uri).parent)}{link['anchor'] or ''})"

    markdown = _COMMENT.sub("", markdown)
    if source is not None:
        markdown = _OTHER_LANGUAGE.sub("", markdown)
    if page.file.locale != page.file.locale_alternate_of:
        markdown = _TITLE.sub(_ENGLISH_ONLY, markdown, count=1)
    parts = _FENCED.split(markdown)
    parts[::2] = (_LINK.sub(to_page, part) for part in parts[::2])
    if ".pt." in uri:
        english = uri.replace(".pt.md", ".md")
        original = _ROOT / PAGES.get(english, f"docs/{english}")
        anchors = iter(_anchors(original.read_text(encoding="utf-8")))
        parts[::2] = (_with_anchors(part, anchors) for part in parts[::2])
    return "".join(parts)


def _anchors(markdown: str) -> list[str]:
    """Return the anchors of the sections of a page, in their order."""
    slug = slugify(case="lower")
    outside = "".join(_FENCED.split(markdown)[::2])
    return [slug(_LINK.sub(r"\g<text>", found[1]), "-") for found in _SECTION.finditer(outside)]


def _with_anchors(markdown: str, anchors: Iterator[str]) -> str:
    """Give each section the anchor of the English one too, which pages in English name."""
    return _SECTION.sub(lambda found: f'<a id="{next(anchors)}"></a>\n\n{found[0]}', markdown)


@event_priority(-200)
def on_post_build(config: MkDocsConfig) -> None:
    """Take away what needs the address of the site, which differs from one service to the next.

    The theme asks for a map beside each page, though its links lead from page to page without.
    """
    site = Path(config.site_dir)
    for file in (site / "404.html", site / "sitemap.xml.gz", *site.rglob("*.js.map")):
        file.unlink(missing_ok=True)
    for folder in {page.parent for page in site.rglob("*.html")}:
        folder.joinpath("sitemap.xml").write_text(_EMPTY_MAP, encoding="utf-8")

"""Hooks of the site: pages that stand elsewhere in the repository, and links as they are on disk.

Every document is read where it stands, so that the same links hold in the clone and on the site. A link to a file of
the repository that is no page of the site (a script, an example) becomes plain text there; one to a file that does not
exist is a warning, which `mkdocs build --strict` refuses.
"""

import logging
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.structure.files import File

LOG = logging.getLogger("mkdocs.hooks.site")

# Page of the site -> document of the repository; pages in docs/ are their own documents.
ELSEWHERE = {
    "index.md": "README.md",
    "configuration.md": "config/README.md",
    "profiles.md": "profiles/README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
PAGES = {document: page for page, document in ELSEWHERE.items()}
LINK = re.compile(r"(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s#:]+)(?P<anchor>#[^)\s]*)?\)")


def on_files(files, config):
    """Add the pages that stand elsewhere."""
    for page, document in ELSEWHERE.items():
        content = (_root(config) / document).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links between documents into links between pages."""
    source = PurePosixPath(page.file.src_uri)
    document = PurePosixPath(ELSEWHERE.get(str(source), f"docs/{source}"))

    def link(match):
        linked = os.path.normpath(document.parent / match["target"])
        target = PAGES.get(linked) or (linked.removeprefix("docs/") if linked.startswith("docs/") else None)
        if target and files.get_file_from_path(target):
            return f"{match['text']}({os.path.relpath(target, source.parent)}{match['anchor'] or ''})"
        if not (_root(config) / linked).exists():
            LOG.warning("%s links to %s, which does not exist", document, linked)
        return match["text"][1:-1]

    return LINK.sub(link, markdown)


def _root(config) -> Path:
    return Path(config.config_file_path).parent

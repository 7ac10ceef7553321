"""What mkdocs does to the pages: links to files outside docs/ become the names of these files."""

import re
from pathlib import Path

OUTSIDE = re.compile(r"!?\[([^\]]+)\]\((?!https?:)([^)#\s]+)[^)]*\)")


def on_page_markdown(markdown: str, page, config, files) -> str:
    """The text of a page whose links all lead to pages of the site."""
    docs = Path(config.docs_dir).resolve()
    folder = Path(page.file.abs_src_path).parent

    def inside(found: re.Match) -> str:
        target = (folder / found[2]).resolve()
        return found[0] if target.is_relative_to(docs) else f"`{found[1].strip('`')}`"

    return OUTSIDE.sub(inside, markdown)

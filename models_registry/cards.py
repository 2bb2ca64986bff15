"""Model cards: Markdown that people wrote, as HTML that is safe to show."""

from django.utils.safestring import SafeString
from markdown_it import MarkdownIt

# Raw HTML is shown as text; links to javascript:, data: and file: are never made. Images would
# have the reader's browser ask strangers: they stay text.
_MARKDOWN = MarkdownIt("js-default", {"html": False, "linkify": False}).disable("image")


def render_card(card: str) -> SafeString:
    return SafeString(_MARKDOWN.render(card))

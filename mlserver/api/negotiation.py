"""Who is asking: a browser that wants a page, or a program."""

from django.http import HttpRequest


def wants_html(request: HttpRequest) -> bool:
    """Browsers name `text/html`; curl and HTTP libraries send `*/*` or nothing."""
    return any(
        (kind.main_type, kind.sub_type) == ("text", "html") and kind.quality > 0
        for kind in request.accepted_types
    )

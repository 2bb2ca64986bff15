"""Static files are sent compressed. Nothing else is: the length of a compressed page could tell
what secrets it holds (BREACH), and event streams must flow."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from mlserver.api.around import around

COMPRESSIBLE = ("text/", "application/javascript", "application/json", "image/svg+xml")
_gzip = GZipMiddleware(lambda request: HttpResponse())  # only what it does to an answer is used


def _compress(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    if (
        request.path.startswith(settings.STATIC_URL)
        and request.method == "GET"
        and response.status_code == 200  # a part of a file (206) must stay as it is
        and response.headers.get("Content-Type", "").startswith(COMPRESSIBLE)
    ):
        _gzip.process_response(request, response)
        if "Content-Encoding" in response.headers:
            # Made weak by the compression, and servestatic knows strong ones only: browsers ask
            # by the time of the last change instead.
            response.headers.pop("ETag", None)


compress_static = around(after=_compress)

"""The doors of `jobs`: REST under /api/v1/."""

from django.urls import URLPattern, URLResolver

from jobs.api import JobViewSet
from mlserver.api.routing import SlashOptionalRouter

router = SlashOptionalRouter()
router.register("jobs", JobViewSet, basename="job")

api_patterns: list[URLPattern | URLResolver] = [*router.urls]
page_patterns: list[URLPattern | URLResolver] = []

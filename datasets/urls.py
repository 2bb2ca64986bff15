"""The doors of `datasets`: REST under /api/v1/, pages at the root."""

from django.urls import URLPattern, URLResolver

from datasets import views
from datasets.api import DatasetViewSet
from mlserver.api.routing import SlashOptionalRouter, path_either

router = SlashOptionalRouter()
router.register("datasets", DatasetViewSet, basename="dataset")

api_patterns: list[URLPattern | URLResolver] = [*router.urls]
page_patterns: list[URLPattern | URLResolver] = [
    path_either("datasets/", views.list_page, name="datasets-page"),
    path_either("datasets/upload/", views.upload, name="dataset-upload"),
    path_either(
        "datasets/downloads/<str:job_id>/cancel/",
        views.cancel_download,
        name="dataset-download-cancel",
    ),
    path_either("datasets/<str:name>/", views.dataset_page, name="dataset-page"),
    path_either("datasets/<str:name>/delete/", views.delete, name="dataset-delete"),
    path_either("datasets/<str:name>/restore/", views.restore, name="dataset-restore"),
    path_either(
        "datasets/<str:name>/statistics/", views.make_statistics, name="dataset-statistics-page"
    ),
]

"""The doors of `models_registry`: REST under /api/v1/, pages at the root."""

from typing import Any

from django.urls import URLPattern, URLResolver

from mlserver.api.routing import path_either
from models_registry import views
from models_registry.api import AliasViewSet, DownloadViewSet, ModelViewSet, VersionViewSet

LIST: dict[str, Any] = {"get": "list"}
MODELS: dict[str, Any] = {"get": "list", "post": "create"}
ONE: dict[str, Any] = {"get": "retrieve", "patch": "partial_update", "delete": "destroy"}
ALIAS: dict[str, Any] = {"put": "update", "delete": "destroy"}
MODEL = "models/<str:name>/"
VERSION = f"{MODEL}versions/<str:version>/"

models = ModelViewSet.as_view
versions = VersionViewSet.as_view
downloads = DownloadViewSet.as_view
aliases = AliasViewSet.as_view

api_patterns: list[URLPattern | URLResolver] = [
    path_either("models/", models(MODELS), name="model-list"),
    path_either(MODEL, models(ONE), name="model-detail"),
    path_either(f"{MODEL}restore/", models({"post": "restore"}), name="model-restore"),
    path_either(f"{MODEL}versions/", versions(LIST), name="version-list"),
    path_either(VERSION, versions(ONE), name="version-detail"),
    path_either(f"{VERSION}lineage/", versions({"get": "lineage"}), name="version-lineage"),
    path_either(f"{VERSION}header/", versions({"get": "header"}), name="version-header"),
    path_either(f"{VERSION}download/", downloads({"get": "download"}), name="version-download"),
    path_either(f"{MODEL}lineage/", versions({"get": "lineage"}), name="model-lineage"),
    path_either(f"{MODEL}download/", downloads({"get": "download"}), name="model-download"),
    path_either(f"{MODEL}aliases/<str:alias>/", aliases(ALIAS), name="model-alias"),
]
page_patterns: list[URLPattern | URLResolver] = [
    path_either("models/", views.list_page, name="models-page"),
    path_either("models/upload/", views.upload, name="model-upload"),
    path_either("models/<str:name>/", views.model_page, name="model-page"),
    path_either("models/<str:name>/delete/", views.delete, name="model-delete"),
    path_either("models/<str:name>/restore/", views.restore, name="model-restore-page"),
    path_either(
        "models/<str:name>/aliases/<str:alias>/delete/",
        views.delete_alias,
        name="model-alias-delete",
    ),
    path_either("models/<str:name>/v/<int:number>/card/", views.write_card, name="model-card"),
    path_either("models/<str:name>/v/<int:number>/alias/", views.set_alias, name="model-alias-set"),
    path_either(
        "models/<str:name>/v/<int:number>/delete/", views.delete_version, name="version-delete"
    ),
]

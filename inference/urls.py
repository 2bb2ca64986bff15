"""The doors of `inference`: REST under /api/v1/. Before those of models_registry: a model's name
could otherwise be `loaded`."""

from django.urls import URLPattern, URLResolver

from inference.api import LoadedModelViewSet
from inference.plane.predict import PredictView
from mlserver.api.routing import path_either

loaded = LoadedModelViewSet.as_view

api_patterns: list[URLPattern | URLResolver] = [
    path_either("models/load/", loaded({"post": "load"}), name="model-load"),
    path_either("models/loaded/", loaded({"get": "list"}), name="model-loaded"),
    path_either("models/<str:name>/unload/", loaded({"post": "unload"}), name="model-unload"),
    path_either("predict/", PredictView.as_view(), name="predict"),
]
page_patterns: list[URLPattern | URLResolver] = []

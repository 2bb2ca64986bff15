"""The doors of `inference`: REST under /api/v1/, pages at the root. Before those of
models_registry: a model's name could otherwise be `loaded`."""

from django.urls import URLPattern, URLResolver

from inference import openai, views
from inference.api import LoadedModelViewSet
from inference.open_inference import (
    IndexView,
    LiveView,
    LoadView,
    ModelReadyView,
    ModelView,
    ReadyView,
    ServerView,
    UnloadView,
)
from inference.plane.open_inference import InferView
from inference.plane.openai import ChatView, CompletionsView, EmbeddingsView
from inference.plane.predict import PredictView
from inference.plane.texts import ClassifyView, EmbedView, GenerateView
from mlserver.api.routing import path_either

loaded = LoadedModelViewSet.as_view

api_patterns: list[URLPattern | URLResolver] = [
    path_either("models/load/", loaded({"post": "load"}), name="model-load"),
    path_either("models/loaded/", loaded({"get": "list"}), name="model-loaded"),
    path_either("models/<str:name>/unload/", loaded({"post": "unload"}), name="model-unload"),
    path_either("predict/", PredictView.as_view(), name="predict"),
    path_either("inference/generate/", GenerateView.as_view(), name="generate"),
    path_either("inference/classify/", ClassifyView.as_view(), name="classify"),
    path_either("inference/embed/", EmbedView.as_view(), name="embed"),
]
MODEL = "v2/models/<str:name>"
VERSION = f"{MODEL}/versions/<str:version>"
open_inference_patterns: list[URLPattern | URLResolver] = [
    path_either("v2", ServerView.as_view(), name="v2-server"),
    path_either("v2/health/live", LiveView.as_view(), name="v2-live"),
    path_either("v2/health/ready", ReadyView.as_view(), name="v2-ready"),
    path_either(MODEL, ModelView.as_view(), name="v2-model"),
    path_either(VERSION, ModelView.as_view(), name="v2-version"),
    path_either(f"{MODEL}/ready", ModelReadyView.as_view(), name="v2-model-ready"),
    path_either(f"{VERSION}/ready", ModelReadyView.as_view(), name="v2-version-ready"),
    path_either(f"{MODEL}/infer", InferView.as_view(), name="v2-infer"),
    path_either(f"{VERSION}/infer", InferView.as_view(), name="v2-version-infer"),
    path_either("v2/repository/index", IndexView.as_view(), name="v2-index"),
    path_either("v2/repository/models/<str:name>/load", LoadView.as_view(), name="v2-load"),
    path_either("v2/repository/models/<str:name>/unload", UnloadView.as_view(), name="v2-unload"),
]
openai_patterns: list[URLPattern | URLResolver] = [
    path_either("v1/models/", openai.ModelsView.as_view(), name="v1-models"),
    path_either("v1/models/<path:name>/", openai.ModelView.as_view(), name="v1-model"),
    path_either("v1/completions/", CompletionsView.as_view(), name="v1-completions"),
    path_either("v1/chat/completions/", ChatView.as_view(), name="v1-chat"),
    path_either("v1/embeddings/", EmbeddingsView.as_view(), name="v1-embeddings"),
]
page_patterns: list[URLPattern | URLResolver] = [
    *open_inference_patterns,
    *openai_patterns,
    path_either("models/loaded/", views.loaded_page, name="loaded-page"),
    path_either("models/loaded/load/", views.load, name="loaded-load"),
    path_either("models/loaded/unload/", views.unload, name="loaded-unload"),
    path_either("playground/", views.playground, name="playground"),
]

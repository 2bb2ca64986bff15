"""The project itself as an app: it owns the system checks, template tags and `serve`."""

from django.apps import AppConfig


class MLServerConfig(AppConfig):
    name = "mlserver"

    def ready(self) -> None:
        from mlserver import checks  # noqa: F401  (registers the system checks)

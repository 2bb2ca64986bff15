"""The act of learning: training sessions, experiments, metrics, logs."""

from django.apps import AppConfig


class TrainingSessionsConfig(AppConfig):
    name = "sessions"
    # "sessions" is the label of django.contrib.sessions.
    label = "training_sessions"
    verbose_name = "Training"

    def ready(self) -> None:
        from sessions import signals  # noqa: F401  (connects them)

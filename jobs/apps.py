"""Work that takes time: the row, its states, the queue, the lease."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = "Jobs"

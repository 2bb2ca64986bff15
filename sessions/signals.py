"""A model version that comes back from the trash is again what its session produced."""

from typing import Any

from django.db.models.signals import post_save
from django.dispatch import receiver

from models_registry.models import ModelVersion
from sessions.models import TrainingSession


@receiver(post_save, sender=ModelVersion, dispatch_uid="sessions.link_again")
def link_again(sender: Any, instance: ModelVersion, created: bool, **kwargs: Any) -> None:
    """The registry does not know sessions, only their ids: so the link is made from here."""
    if created and instance.source_session:
        made = TrainingSession.objects.filter(pk=instance.source_session, produced=None)
        made.update(produced=instance)

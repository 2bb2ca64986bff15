"""What sessions have to say of model versions that come and go; the registry knows no session."""

from typing import Any

from django.db.models.signals import post_save, pre_delete
from django.dispatch import receiver

from jobs.models import FINAL_STATES
from models_registry.models import ModelVersion
from models_registry.services import Protected
from sessions.models import TrainingSession


@receiver(post_save, sender=ModelVersion, dispatch_uid="sessions.link_again")
def link_again(sender: Any, instance: ModelVersion, created: bool, **kwargs: Any) -> None:
    """One that comes back from the trash is again what its session produced."""
    if created and instance.source_session:
        made = TrainingSession.objects.filter(pk=instance.source_session, produced=None)
        made.update(produced=instance)


@receiver(pre_delete, sender=ModelVersion, dispatch_uid="sessions.keep_base")
def keep_base(sender: Any, instance: ModelVersion, **kwargs: Any) -> None:
    """Refuse to delete what a session that is not over has to start, or to go on, from."""
    users = TrainingSession.objects.filter(base_model=str(instance))
    needed = users.exclude(job__state__in=FINAL_STATES).values_list("pk", flat=True)[:10]
    if needed:
        raise Protected(
            f"{instance} cannot be deleted: {', '.join(needed)} learns from it. "
            "Cancel what needs it first, or wait until it has ended."
        )

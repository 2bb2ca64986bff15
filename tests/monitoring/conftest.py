import pytest

from monitoring.models import AlertRule


@pytest.fixture
def only_own_rules(db: None) -> None:
    AlertRule.objects.all().delete()

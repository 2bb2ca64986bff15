import pytest
from django.contrib.auth.models import AnonymousUser, Group, User

from accounts.services import create_key
from mlserver.api.permissions import act_by_key, has_role, may_change, role_of
from tests import factories
from tests.accounts.keys import opened_by
from tests.api.conftest import client_for

READ_AND_WRITE = {
    "echo": {"viewer": (200, 403), "operator": (200, 200), "admin": (200, 200)},
    "open-to-write": {"viewer": (200, 200), "operator": (200, 200), "admin": (200, 200)},
    "for-viewers": {"viewer": (200, 200), "operator": (200, 200), "admin": (200, 200)},
    "for-operators": {"viewer": (403, 403), "operator": (200, 200), "admin": (200, 200)},
    "for-admins": {"viewer": (403, 403), "operator": (403, 403), "admin": (200, 200)},
}


@pytest.mark.parametrize("path", READ_AND_WRITE)
@pytest.mark.parametrize("role", ["viewer", "operator", "admin"])
def test_a_role_reads_and_writes_what_it_may(admin: User, path: str, role: str) -> None:
    api = client_for(admin, role)
    read = api.get(f"/api/v1/{path}").status_code
    write = api.post(f"/api/v1/{path}", {}, content_type="application/json").status_code
    assert (read, write) == READ_AND_WRITE[path][role]


def test_a_refusal_names_both_roles(stranger: User) -> None:
    api = client_for(stranger, "viewer")
    response = api.post("/api/v1/echo", {}, content_type="application/json")
    assert response.json()["detail"] == "This needs the role operator; you have viewer."


def test_a_user_without_a_group_is_an_operator(db: None) -> None:
    assert role_of(User.objects.create_user("plain")) == "operator"


def test_the_highest_of_several_groups_counts(owner: User) -> None:
    owner.groups.add(Group.objects.get_or_create(name="viewer")[0])
    owner.groups.add(Group.objects.get_or_create(name="admin")[0])
    assert role_of(owner) == "admin"


def test_a_change_of_group_counts_at_once(owner: User) -> None:
    assert role_of(owner) == "operator"
    owner.groups.set([Group.objects.get_or_create(name="viewer")[0]])
    assert role_of(owner) == "viewer"


@pytest.mark.parametrize(
    ("user_role", "key_role", "counts"),
    [
        ("admin", "viewer", "viewer"),
        ("admin", "operator", "operator"),
        ("operator", "operator", "operator"),
        ("viewer", "viewer", "viewer"),
    ],
)
def test_the_lower_of_user_and_key_counts(
    db: None, user_role: str, key_role: str, counts: str
) -> None:
    user = factories.user(role=user_role)
    key, _ = create_key(user=user, name="k", role=key_role)
    assert role_of(user, key) == counts
    act_by_key(user, key)
    assert role_of(user) == counts


def test_a_user_who_lost_a_role_loses_it_for_old_keys(admin: User) -> None:
    _, raw = create_key(user=admin, name="k", role="admin")
    admin.is_superuser = False
    admin.save()
    key = opened_by(raw)
    assert key is not None
    assert role_of(key.user, key) == "operator"


def test_nobody_has_a_role_without_being_known(owner: User) -> None:
    assert not has_role(AnonymousUser(), "viewer")
    owner.is_active = False
    assert not has_role(owner, "viewer")


def test_the_owner_or_an_admin_may_change(
    owner: User, teammate: User, stranger: User, admin: User
) -> None:
    assert may_change(owner, owner.pk)
    assert may_change(admin, owner.pk)
    assert may_change(admin, None)
    assert not may_change(teammate, owner.pk)
    assert not may_change(teammate, None)
    assert not may_change(stranger, stranger.pk)


def test_a_viewer_key_of_an_admin_may_change_nothing(admin: User) -> None:
    key, _ = create_key(user=admin, name="k", role="viewer")
    act_by_key(admin, key)
    assert not may_change(admin, admin.pk)


def test_asking_for_the_role_often_costs_one_query(
    owner: User, django_assert_num_queries: object
) -> None:
    fresh = User.objects.get(pk=owner.pk)
    with django_assert_num_queries(1):  # type: ignore[operator]
        for _ in range(5):
            role_of(fresh)

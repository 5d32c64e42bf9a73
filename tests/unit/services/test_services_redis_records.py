"""The node's records, and names from the bus."""

import pytest

from components.services.base.errors import ServiceError
from components.services.redis.records import wanted_identity, wanted_user
from tests.unit.services.redis_samples import A, B, record


def test_a_binding_is_found_by_its_user_or_by_its_password():
    known = record(A, B)
    assert known.find({"username": "ub"}) == B
    assert known.find({"password": "password of a"}) == A
    assert known.find({"username": "uc", "password": "password of a"}) is None
    assert known.find({}) is None


@pytest.mark.parametrize("name", ["../etc", "a/b", "", " ", "-x", "x" * 65, "a b", "a\n"])
def test_a_name_from_the_bus_is_no_path(name):
    given = {"name": name, "username": name, "password": "long enough"}
    if not name:
        # An empty one is none: a new one is made.
        assert wanted_identity(given)[0]
        return
    for judge in (wanted_identity, wanted_user):
        with pytest.raises(ServiceError):
            judge(given)


@pytest.mark.parametrize("name", ["default", "owner", "ingot-node"])
def test_users_of_our_own_are_not_given_away(name):
    with pytest.raises(ServiceError):
        wanted_user({"username": name, "password": "long enough"})


def test_names_and_passwords_are_new_each_time():
    made = [wanted_user(None) for _ in range(50)]
    assert len({u for u, _ in made}) == len({p for _, p in made}) == 50
    assert all(p.isalnum() and len(p) > 40 for _, p in made)

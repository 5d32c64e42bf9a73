"""Which node takes a new instance."""

import pytest

from components.common.bus.service_messages import ServiceAnnouncement
from components.services.base.errors import ServiceError
from components.services.base.node_selection import Nodes


def said(id_: str, capacity: float | None = None, **more: object) -> ServiceAnnouncement:
    return ServiceAnnouncement(id=id_, available_capacity=capacity, **more)  # type: ignore[arg-type]


def nodes(*announcements: ServiceAnnouncement, at: float = 0) -> Nodes:
    known = Nodes("RaaS")
    for announcement in announcements:
        known.heard(announcement, at)
    return known


def code(known: Nodes, **options: object) -> int:
    with pytest.raises(ServiceError) as caught:
        known.choose("free", 1, **options)  # type: ignore[arg-type]
    return caught.value.code


def test_the_one_with_most_room_takes_it():
    assert nodes(said("a", 2), said("b", 7), said("c", 5)).choose("free", 1) == "b"


def test_what_is_asked_for_counts_until_it_is_done():
    known = nodes(said("a", 2), said("b", 3))
    assert [known.choose("free", 1) for _ in range(4)] == ["b", "b", "a", "b"]
    known.done("b")
    known.done("b")
    assert known.choose("free", 1) == "b"


def test_an_announcement_during_a_request_does_not_forget_it():
    known = nodes(said("a", 1))
    assert known.choose("free", 1) == "a"
    known.heard(said("a", 1), 1)
    assert code(known) == 30500


def test_full_nodes_are_a_clear_error_unless_over_provisioning_is_allowed():
    assert code(nodes(said("a", 0))) == 30500
    assert nodes(said("a", 0)).choose("free", 1, over_provision=True) == "a"


def test_without_nodes_the_service_is_unavailable():
    assert code(nodes()) == 30600
    assert code(nodes(said("a", 5)), without={"a"}) == 30600


def test_a_plan_nobody_has_is_unknown():
    assert code(nodes(said("a", 5, plan="gold"))) == 30003


def test_a_node_of_2011_names_no_plan_and_speaks_of_memory_or_storage():
    known = nodes(said("a", available_memory=512), said("b", available_memory=1024))
    assert known.choose("free", 1) == "b"
    assert nodes(said("a", available_storage=1)).choose("free", 1) == "a"
    assert code(nodes(said("a"))) == 30500


def test_a_node_that_is_silent_for_300_seconds_is_forgotten():
    known = nodes(said("a", 5), at=0)
    assert known.known(300) == ["a"]
    assert known.known(300.1) == []


def test_a_providers_own_score_decides():
    known = Nodes("X", lambda announcement: announcement.available_storage or 0)
    known.heard(said("a", 9, available_storage=1), 0)
    known.heard(said("b", 1, available_storage=9), 0)
    assert known.choose("free", 1) == "b"

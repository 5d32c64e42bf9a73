"""Handles, orphans, and pending removals."""

from pathlib import Path

import pytest

from components.common.bus.service_messages import NodeHandles
from components.services.base.errors import INTERNAL, NOT_FOUND, ServiceError
from components.services.base.handles import HandleTable, ServiceHandle, binding_key
from components.services.base.orphans import still, unknown
from components.services.base.pending_removals import PendingRemovals, Removal
from components.services.base.reports import reports

ONE = ServiceHandle("i1", {"plan": "free"}, {"name": "i1", "password": "secret", "node_id": "n"})
TWO = ServiceHandle("i2", {"plan": "free"}, {"name": "i2"})
BOUND = ServiceHandle("uuid-1", {}, {"name": "i1", "username": "u1", "password": "secret"})


@pytest.fixture
def handles() -> HandleTable:
    made = HandleTable()
    made.replace([ONE, TWO, BOUND])
    return made


def test_an_instance_is_known_by_its_name_and_a_binding_by_its_own_id(handles):
    assert handles.instance("i1") is ONE
    assert handles.binding("i1", "uuid-1") is BOUND
    assert handles.bindings("i1") == [BOUND]
    for find in (lambda: handles.instance("uuid-1"), lambda: handles.instance("nowhere")):
        with pytest.raises(ServiceError) as caught:
            find()
        assert (caught.value.code, caught.value.status) == NOT_FOUND


def test_a_binding_of_another_instance_is_not_found(handles):
    for service_id, handle in (("i2", "uuid-1"), ("i1", "i1"), ("i1", "nowhere")):
        with pytest.raises(ServiceError):
            handles.binding(service_id, handle)


def test_an_instance_takes_its_bindings_with_it(handles):
    handles.remove("i1")
    assert handles.names() == {"i2"}
    assert handles.binding_keys() == set()


def test_bindings_are_compared_by_instance_and_user():
    assert binding_key({"name": "d", "user": "u", "password": "p"}) == ("d", "u")
    assert binding_key({"name": "d", "username": "u"}) == ("d", "u")
    assert binding_key({"name": "d"}) == ("d", "")


def test_what_no_controller_knows_is_found_and_kept_only_if_unknown_twice(handles):
    report = NodeHandles(
        node_id="n",
        instances_list=["i1", "i3", "i4"],
        bindings_list=[{"name": "i1", "username": "u1"}, {"name": "i1", "username": "u9"}],
    )
    first = unknown([report], handles)
    assert first.instances == {"n": ["i3", "i4"]}
    assert first.bindings == {"n": [{"name": "i1", "username": "u9"}]}
    handles.add(ServiceHandle("i4", {}, {"name": "i4"}))
    second = still(first, unknown([report], handles))
    assert second.instances == {"n": ["i3"]}
    assert second.counts() == {"instances": 1, "bindings": 1}
    assert second.varz()["orphan_bindings"] == {"n": [["i1", "u9"]]}
    handles.add(ServiceHandle("i3", {}, {"name": "i3"}))
    handles.add(ServiceHandle("uuid-9", {}, {"name": "i1", "username": "u9"}))
    assert not still(second, unknown([report], handles))


def test_reports_keep_below_the_bus_limit_and_lose_nothing():
    instances = [f"instance-{n}" for n in range(100)]
    bindings = [{"name": f"instance-{n}", "username": f"u{n}"} for n in range(100)]
    import msgspec

    parts = list(reports("node", instances, bindings, limit=600))
    assert len(parts) > 5
    assert all(len(msgspec.json.encode(part)) <= 600 for part in parts)
    assert [i for part in parts for i in part.instances_list] == instances
    assert [b for part in parts for b in part.bindings_list] == bindings


def test_a_node_that_has_nothing_says_so():
    assert list(reports("node", [], [])) == [NodeHandles(node_id="node")]


def test_pending_removals_survive_a_restart_and_are_for_their_owners_eyes(tmp_path: Path):
    path = tmp_path / "removals.json"
    pending = PendingRemovals(path)
    gone = Removal("n", "unprovision", "i1", [{"name": "i1", "password": "secret"}])
    pending.add(gone)
    pending.add(gone)
    pending.add(Removal("m", "unbind", "uuid-1", [{"name": "i2"}]))
    again = PendingRemovals(path)
    assert again.of("n") == [gone]
    assert again.nodes() == ["m", "n"]
    assert path.stat().st_mode & 0o777 == 0o600
    again.done(gone)
    again.done(gone)
    assert PendingRemovals(path).nodes() == ["m"]


@pytest.mark.parametrize(
    "error", [None, {}, {"msg": {}}, {"status": 200, "msg": {"code": 1, "description": "x"}}]
)
def test_a_node_that_gives_no_reason_becomes_an_internal_error(error):
    read = ServiceError.of(error)
    assert (read.code, read.status) == INTERNAL


def test_an_error_survives_the_bus():
    sent = ServiceError((31102, 404), "there is no instance x")
    read = ServiceError.of(sent.wire())
    assert (read.code, read.status, read.description) == (31102, 404, "there is no instance x")

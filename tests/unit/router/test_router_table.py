"""The table against a model that keeps every route in one flat dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from components.router.routes import Endpoint
from components.router.table import Table

HOSTS = ["a.x", "b.x", "*.x", "*.y.x", "c.y.x"]
ENDPOINTS = st.builds(
    Endpoint,
    address=st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    port=st.sampled_from([1, 2]),
    app=st.sampled_from([None, 1, 2]),
    instance=st.sampled_from([None, "p", "q"]),
)
SOME_HOSTS = st.lists(st.sampled_from(HOSTS), max_size=3, unique=True)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), SOME_HOSTS, ENDPOINTS),
        st.tuples(st.just("unregister"), SOME_HOSTS, ENDPOINTS),
        st.tuples(st.just("wait"), st.integers(1, 90)),
        st.tuples(st.just("prune")),
        st.tuples(st.just("refresh")),
        st.tuples(st.just("take")),
    ),
    max_size=40,
)


class Model:
    """(host, address, port) -> [app, instance, seen]: said as plainly as possible, and slowly."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str, int], list[object]] = {}

    def register(self, hosts: list[str], e: Endpoint, now: float) -> None:
        for key, (app, instance, _) in list(self.routes.items()):
            same_peer = key[1:] == e.peer
            other = (None not in (app, e.app) and app != e.app) or (
                None not in (instance, e.instance) and instance != e.instance
            )
            if same_peer and other:
                del self.routes[key]
        for host in hosts:
            old = self.routes.get((host, *e.peer))
            if old is None or (old[1] is None and e.instance is not None):
                self.routes[host, *e.peer] = [e.app, e.instance, now]
            else:
                old[2] = now

    def unregister(self, hosts: list[str], e: Endpoint) -> None:
        for host in hosts:
            old = self.routes.get((host, *e.peer))
            if old is not None and (None in (old[1], e.instance) or old[1] == e.instance):
                del self.routes[host, *e.peer]

    def view(self) -> set[tuple[object, ...]]:
        return {(*key, app, instance) for key, (app, instance, _) in self.routes.items()}


def view(table: Table) -> set[tuple[object, ...]]:
    return {(h, e.address, e.port, e.app, e.instance) for h in table.names() for e in table.routes(h)}


@given(STEPS)
def test_table_does_what_the_model_does_and_names_every_change(steps: list[tuple[object, ...]]) -> None:
    table, model, now = Table(max_age=120), Model(), 1000.0
    # What a reader that only follows changes holds.
    copy: dict[str, list[Endpoint]] = {}

    def follow() -> None:
        for host in table.take_changes():
            copy[host] = table.routes(host)

    for step, *arguments in steps:
        if step == "register":
            hosts, endpoint = arguments
            table.register(hosts, endpoint, now)  # type: ignore[arg-type]
            model.register(hosts, endpoint, now)  # type: ignore[arg-type]
        elif step == "unregister":
            hosts, endpoint = arguments
            table.unregister(hosts, endpoint)  # type: ignore[arg-type]
            model.unregister(hosts, endpoint)  # type: ignore[arg-type]
        elif step == "wait":
            now += arguments[0]  # type: ignore[operator]
        elif step == "prune":
            table.prune(now)
            model.routes = {k: v for k, v in model.routes.items() if v[2] >= now - 120}  # type: ignore[operator]
        elif step == "refresh":
            table.refresh(now)
            for value in model.routes.values():
                value[2] = now
        else:
            follow()
        assert view(table) == model.view()
        assert table.hosts == len({k[0] for k in model.routes})
        assert table.endpoints == len({k[1:] for k in model.routes})
        assert all(table.routes(host) for host in table.names())
    follow()
    assert {h: e for h, e in copy.items() if e} == {h: table.routes(h) for h in table.names()}


def test_nearest_wildcard_comes_after_the_exact_host() -> None:
    table = Table()
    for host in HOSTS:
        table.register([host], Endpoint("10.0.0.1", 1), 0)
    assert [table.find(h) for h in ("c.y.x", "d.y.x", "e.d.y.x", "y.x", "a.x", "x", "z")] == [
        "c.y.x",
        "*.y.x",
        "*.y.x",
        "*.x",
        "a.x",
        None,
        None,
    ]


def test_tags_are_those_of_the_first_registration() -> None:
    table = Table()
    table.register(["a.x"], Endpoint("10.0.0.1", 1, tags={"framework": "sinatra"}), 0)
    table.register(["a.x"], Endpoint("10.0.0.1", 1, tags={"framework": "rack"}), 1)
    assert table.tags(("10.0.0.1", 1)) == {"framework": "sinatra"}
    assert table.tags(("10.0.0.1", 2)) == {}


def test_a_place_is_named_by_one_of_its_hosts() -> None:
    table = Table()
    table.register(["b.x", "a.x"], Endpoint("10.0.0.1", 1), 0)
    assert table.host(("10.0.0.1", 1)) == "a.x"
    assert table.host(("10.0.0.1", 2)) is None


def test_a_repeated_registration_changes_nothing() -> None:
    table = Table()
    table.register(["a.x"], Endpoint("10.0.0.1", 1, tags={"framework": "sinatra"}), 0)
    table.take_changes()
    table.register(["a.x"], Endpoint("10.0.0.1", 1, tags={"framework": "rails3"}), 1)
    assert not table.changed
    assert table.routes("a.x")[0].tags == {"framework": "sinatra"}


def test_the_last_word_of_a_former_instance_leaves_its_successor_alone() -> None:
    table = Table()
    table.register(["a.x"], Endpoint("10.0.0.1", 1, 1, "new"), 0)
    table.unregister(["a.x"], Endpoint("10.0.0.1", 1, 1, "old"))
    assert table.routes("a.x")
    table.unregister(["a.x"], Endpoint("10.0.0.1", 1))
    assert not table.routes("a.x")


def test_adopted_routes_never_displace_what_was_registered() -> None:
    table = Table(max_age=10)
    table.register(["a.x"], Endpoint("10.0.0.1", 1, 1, "new"), 0)
    held = [
        ("a.x", Endpoint("10.0.0.1", 1, 1, "old")),
        ("b.x", Endpoint("10.0.0.1", 1, 2, "old")),
        ("b.x", Endpoint("10.0.0.2", 1, 2, "other")),
    ]
    assert table.adopt(held, 5, platform=False) == 1
    assert view(table) == {("a.x", "10.0.0.1", 1, 1, "new"), ("b.x", "10.0.0.2", 1, 2, "other")}
    assert table.prune(11) == 1
    assert table.names() == ["b.x"]


def test_a_host_of_the_platform_has_no_wildcard() -> None:
    table = Table(platform=["api.x", "x"])
    table.register(["*.x"], Endpoint("10.0.0.2", 1, 7), 0)
    assert (table.find("api.x"), table.find("a.api.x"), table.find("b.x")) == (None, "*.x", "*.x")
    table.register(["api.x"], Endpoint("10.0.0.1", 1), 0, platform=True)
    assert table.find("api.x") == "api.x"


def test_routes_of_the_platform_and_of_applications_do_not_displace_each_other() -> None:
    table = Table(platform=["api.x"])
    table.register(["api.x"], Endpoint("10.0.0.1", 1, None, "a controller"), 0, platform=True)
    table.register(["a.x"], Endpoint("10.0.0.1", 1, 7, "an instance"), 0)
    assert table.routes("api.x")
    table.register(["api.x"], Endpoint("10.0.0.1", 1, None, "a later one"), 0, platform=True)
    assert table.routes("a.x")
    assert table.routes("api.x")[0].instance == "a later one"


def test_routes_of_the_platform_age_while_the_platform_is_heard() -> None:
    table = Table(max_age=10, platform=["api.x", "orchestrator.x"])
    table.register(["api.x"], Endpoint("10.0.0.1", 1), 0, platform=True)
    table.register(["api.x"], Endpoint("10.0.0.2", 1), 0, platform=True)
    table.register(["a.x"], Endpoint("10.0.0.3", 1), 0)
    assert table.prune(100) == 1
    assert len(table.routes("api.x")) == 2, "nobody of the platform is heard, so nobody could confirm them"
    table.register(["api.x"], Endpoint("10.0.0.2", 1), 100, platform=True)
    assert table.prune(100) == 1
    assert [e.address for e in table.routes("api.x")] == ["10.0.0.2"]

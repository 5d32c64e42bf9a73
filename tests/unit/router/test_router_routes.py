from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.router.errors import RouteError
from components.router.routes import Endpoint, Registration, from_dump, normal_host, parse


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("Hello.Example.COM", "hello.example.com"),
        ("hello.example.com:8080", "hello.example.com"),
        ("hello.example.com.", "hello.example.com"),
        ("*.Apps.example.com", "*.apps.example.com"),
        ("router_test.vcap.me", "router_test.vcap.me"),
        ("localhost", "localhost"),
    ],
)
def test_hosts_are_brought_to_one_form(uri: str, host: str) -> None:
    assert normal_host(uri) == host


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "a b",
        "a/b",
        "a..b",
        ".a",
        "-a.b",
        "*",
        "*.",
        "a.*.b",
        "a\nb",
        "a:b",
        "é.b",
        # Their lower case is a letter of ASCII, or their value a digit.
        "\u212a.b",
        "a.b:\u00b2",
        "a" * 64,
        "a." * 127 + "b",
    ],
)
def test_what_is_no_host_is_refused(uri: str) -> None:
    with pytest.raises(RouteError):
        normal_host(uri)


@given(st.text(max_size=60))
def test_a_host_is_refused_or_stays_as_it_becomes(uri: str) -> None:
    try:
        host = normal_host(uri)
    except RouteError:
        return
    assert normal_host(host) == host
    assert host.isascii()
    assert not set(host) & set("\t\n :/")


@pytest.mark.parametrize(
    "host",
    [
        "",
        "10.0.0",
        "dea1",
        "0.0.0.0",
        "224.0.0.1",
        "10.0.0.1 ",
        "10.0.0.1;",
        "fe80::1%eth0",
        "fe80::1%\n10.0.0.9\t80\t\t\t{}",
    ],
)
def test_endpoints_are_addresses(host: str) -> None:
    with pytest.raises(RouteError):
        parse(Registration(host=host, port=1, uris=["a.b"]))


@pytest.mark.parametrize("port", [0, -1, 65536, 80.5, "", "x", "-1", "8e1", "9" * 30, float("inf")])
def test_ports_are_ports(port: float | str) -> None:
    with pytest.raises(RouteError):
        parse(Registration(host="10.0.0.1", port=port, uris=["a.b"]))


def test_a_registration_is_taken_apart() -> None:
    message = Registration(
        host="10.0.0.1",
        port=61001,
        uris=["A.b", "a.b:80", "no/host"],
        app=3,
        private_instance_id="i",
        tags={"x": 1},
    )
    assert parse(message) == (["a.b"], Endpoint("10.0.0.1", 61001, 3, "i", {"x": 1}))
    assert parse(Registration(host="::1", port=1, uris=["a.b"]))[1].address == "::1"
    assert parse(Registration(host="LOCALHOST", port=1, uris=[]))[1].address == "127.0.0.1"


def test_numbers_may_be_texts_and_what_is_missing_null() -> None:
    message = msgspec.json.decode(
        b'{"dea":7,"host":"10.0.0.1","port":"61001","uris":[null,7,"a.b"],"app":"12","tags":null,"private_instance_id":null}',
        type=Registration,
    )
    assert parse(message) == (["a.b"], Endpoint("10.0.0.1", 61001, 12))
    assert parse(Registration("10.0.0.1", 61001.0, ["a.b"], None, ["odd"])) == (
        ["a.b"],
        Endpoint("10.0.0.1", 61001),
    )


@pytest.mark.parametrize("app", [-1, "x", "", 2**53, "²", "٣", "9" * 5000])
def test_applications_have_ids_that_nginx_can_hold(app: int | str) -> None:
    with pytest.raises(RouteError):
        parse(Registration("10.0.0.1", 61001, ["a.b"], app))


@pytest.mark.parametrize("instance", ["a b", "a\tb", "a\nb", "x" * 65])
def test_an_instance_id_cannot_break_a_packed_line(instance: str) -> None:
    with pytest.raises(RouteError):
        parse(Registration(host="10.0.0.1", port=1, uris=["a.b"], private_instance_id=instance))


def test_a_dump_is_flattened_without_what_no_registration_brings() -> None:
    good = Endpoint("10.0.0.1", 1)
    assert from_dump({"a.b": [good], "a b": [good]}) == [("a.b", good)]

"""The plan of addresses, ports and names."""

from ipaddress import IPv4Network

import pytest

from orchestrator.lab import addresses
from orchestrator.lab.errors import BadRequestError, ConflictError

NET = IPv4Network("198.18.0.0/24")


def test_first_subnet_is_taken_first() -> None:
    assert addresses.choose_subnet([]) == NET


def test_taken_subnets_are_passed_over() -> None:
    taken = [NET, IPv4Network("198.18.1.128/25"), IPv4Network("10.0.0.0/8")]
    assert addresses.choose_subnet(taken) == IPv4Network("198.18.2.0/24")


def test_default_route_takes_nothing() -> None:
    assert addresses.choose_subnet([IPv4Network("0.0.0.0/0")]) == NET


def test_wanted_subnet_may_lie_outside_the_pool() -> None:
    wanted = IPv4Network("10.9.8.0/24")
    assert addresses.choose_subnet([NET], wanted) == wanted


def test_wanted_subnet_that_is_taken_is_refused_with_what_takes_it() -> None:
    with pytest.raises(ConflictError, match=r"198\.18\.0\.0/24 is taken: this host has 198\.18\.0\.0/15"):
        addresses.choose_subnet([IPv4Network("198.18.0.0/15")], NET)


def test_full_pool_is_refused() -> None:
    with pytest.raises(ConflictError, match="is free"):
        addresses.choose_subnet([addresses.POOL])


@pytest.mark.parametrize("text", ["198.18.0.0/16", "198.18.0.1/24", "lan", ""])
def test_bad_subnets_are_refused(text: str) -> None:
    with pytest.raises(BadRequestError):
        addresses.parse_subnet(text)


def test_first_lab_gets_8080_and_the_next_the_next_free_one() -> None:
    assert addresses.choose_port(lambda _: True) == 8080
    assert addresses.choose_port(lambda port: port not in {8080, 8081}) == 8082


def test_wanted_port_is_not_replaced_by_another() -> None:
    assert addresses.choose_port(lambda _: True, 9000) == 9000
    with pytest.raises(ConflictError, match="port 9000"):
        addresses.choose_port(lambda port: port != 9000, 9000)
    with pytest.raises(ConflictError, match="no port"):
        addresses.choose_port(lambda _: False)


def test_machines_get_addresses_in_order_and_gaps_are_filled() -> None:
    assert addresses.choose_address(NET, []) == "198.18.0.2"
    assert addresses.choose_address(NET, ["198.18.0.2", "198.18.0.4"]) == "198.18.0.3"


@pytest.mark.parametrize("address", ["198.18.0.1", "198.18.0.255", "198.18.1.5", "x"])
def test_gateway_broadcast_and_strangers_are_no_machine(address: str) -> None:
    with pytest.raises(BadRequestError):
        addresses.choose_address(NET, [], address)


def test_taken_address_and_full_subnet_are_refused() -> None:
    with pytest.raises(ConflictError, match="another machine"):
        addresses.choose_address(NET, ["198.18.0.9"], "198.18.0.9")
    with pytest.raises(ConflictError, match="full"):
        addresses.choose_address(NET, [str(NET[n]) for n in range(2, 255)])


def test_index_is_the_smallest_free_one() -> None:
    assert addresses.choose_index([]) == 0
    assert addresses.choose_index([0, 1, 3]) == 2


def test_names_on_the_host_can_be_read_back_and_fit_an_interface() -> None:
    assert addresses.bridge_index(addresses.bridge_name(511)) == 511
    assert addresses.table_index(addresses.table_name(7)) == 7
    assert addresses.bridge_index("ing-x") is None
    assert addresses.table_index("ingot_lab_") is None
    assert addresses.machine_key(3, "198.18.3.17") == "ing3-17"
    assert len("vb-" + addresses.machine_key(511, "198.19.255.254")) <= 15


@pytest.mark.parametrize("name", ["core1", "a", "dea-2", "a" * 32])
def test_good_names(name: str) -> None:
    assert addresses.check_name(name, "machine") == name


@pytest.mark.parametrize("name", ["", "Core", "1a", "a-", "a_b", "a.b", "../x", "a" * 33, "a\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(BadRequestError, match="machine"):
        addresses.check_name(name, "machine")

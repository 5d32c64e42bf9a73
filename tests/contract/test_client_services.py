"""What `ingot` sends about services, and what it says (protocol 1.13 and 1.16)."""

import re

import pytest

from components.client.errors import ClientError
from components.client.offerings import Offering, choose, offerings_of
from tests.contract.client_stub import Stub

CATALOGUE = {
    "key-value": {
        "redis": {
            "7.0": {
                "id": 1,
                "vendor": "redis",
                "version": "7.0",
                "type": "key-value",
                "description": "Redis",
                "tiers": {"large": {"options": {}, "order": 2}, "free": {"options": {}, "order": 1}},
            }
        }
    },
    "database": {"mysql": {"8.0": {"tiers": {"gold": {"order": 1}}}}},
}
MINE = {
    "name": "r1",
    "type": "key-value",
    "vendor": "redis",
    "version": "7.0",
    "tier": "free",
    "properties": {},
    "meta": {"created": 1, "updated": 1, "tags": [], "version": 1},
}


@pytest.fixture
def stub():
    server = Stub()
    server.set("GET /info/services", CATALOGUE)
    server.set("GET /services", [MINE])
    server.set("POST /services", {})
    server.set("DELETE /services/r1", {})
    yield server
    server.close()


def test_services_lists_both(stub, ingot):
    stub.app("hello", services=["r1"])
    stub.app("other")
    text = ingot.run("services").stdout
    assert stub.lines() == ["GET /info/services", "GET /services", "GET /apps"]
    for word in ("redis", "7.0", "free large", "r1", "hello"):
        assert word in text
    found = ingot.json("services")
    assert found["services"] == [{**MINE, "apps": ["hello"]}]
    assert found["offerings"][0]["plans"] == ["free", "large"]
    stub.set("GET /info/services", {})
    stub.set("GET /services", [])
    text = ingot.run("services").stdout
    assert "no services are offered now" in text
    assert "create-service" in text


def test_create_sends_what_vmc_sends(stub, ingot):
    result = ingot.run("create-service", "redis", "mine")
    assert stub.lines() == ["GET /info/services", "POST /services"]
    assert stub.last("POST /services").json() == {
        "type": "key-value",
        "vendor": "redis",
        "version": "7.0",
        "tier": "free",
        "name": "mine",
    }
    assert "ingot bind-service mine APP" in result.stdout
    made = ingot.json("create-service", "REDIS-7.0", "--plan", "large")
    assert made["tier"] == "large"
    assert re.fullmatch(r"redis-[0-9a-f]{6}", made["name"])
    assert stub.last("POST /services").json() == made


def test_create_says_what_there_is(stub, ingot):
    assert "choose one of: mysql, redis" in ingot.run("create-service", "mongodb", code=1).stderr
    assert "it has: free, large" in ingot.run("create-service", "redis", "--plan", "x", code=1).stderr
    assert ingot.json("create-service", "mysql")["tier"] == "gold"
    stub.set("POST /services", {"description": "there is a service 'r1' already"}, status=400)
    assert "ingot: there is a service 'r1' already\n" in ingot.run("create-service", "redis", code=1).stderr
    stub.error("POST /services", 403, 504, "Too many services")
    assert "ingot delete-service" in ingot.run("create-service", "redis", code=1).stderr
    stub.error("POST /services", 502, 503, "the gateway of redis-7.0 cannot be reached")
    shown = ingot.run("create-service", "redis", code=1).stderr
    assert "cannot be reached" in shown
    assert "try again" in shown
    stub.set("GET /info/services", {})
    assert "no services are offered" in ingot.run("create-service", "redis", code=1).stderr


def test_bind_puts_the_whole_object_and_restarts(stub, ingot):
    before = dict(stub.app("hello", state="STARTED", services=["other"]))
    result = ingot.run("bind-service", "r1", "hello")
    puts = [call.json() for call in stub.calls if call.line == "PUT /apps/hello"]
    assert puts[0] == {**before, "services": ["other", "r1"]}
    assert [put["state"] for put in puts] == ["STARTED", "STOPPED", "STARTED"]
    assert "r1 is bound to hello; it runs" in result.stdout
    assert "binding" in result.stderr
    stub.calls.clear()
    assert "already" in ingot.run("bind-service", "r1", "hello").stdout
    assert stub.lines() == ["GET /apps/hello"]


@pytest.mark.parametrize(("state", "more"), [("STOPPED", []), ("STARTED", ["--no-restart"])])
def test_bind_without_a_restart(stub, ingot, state, more):
    stub.app("hello", state=state)
    result = ingot.run("bind-service", "r1", "hello", *more)
    assert [c.json()["state"] for c in stub.calls if c.method == "PUT"] == [state]
    assert f"ingot {'start' if state == 'STOPPED' else 'restart'} hello" in result.stdout


def test_bind_of_what_is_not_there_changes_nothing(stub, ingot):
    assert "ingot apps" in ingot.run("bind-service", "r1", "none", code=1).stderr
    stub.app("hello")
    assert "you have: r1" in ingot.run("bind-service", "r9", "hello", code=1).stderr
    stub.set("GET /services", [])
    assert "ingot create-service" in ingot.run("bind-service", "r9", "hello", code=1).stderr
    assert not [line for line in stub.lines() if not line.startswith("GET")]


def test_bind_whose_gateway_is_away_restarts_nothing(stub, ingot):
    stub.app("hello", state="STARTED")
    stub.error("PUT /apps/hello", 502, 503, "redis-7.0: node redis_node_1 did not answer (30700)")
    assert "did not answer" in ingot.run("bind-service", "r1", "hello", code=1).stderr
    assert stub.lines().count("PUT /apps/hello") == 1


def test_unbind(stub, ingot):
    stub.app("hello", state="STARTED", services=["other", "r1"])
    assert "no longer bound" in ingot.run("unbind-service", "r1", "hello").stdout
    puts = [call.json() for call in stub.calls if call.line == "PUT /apps/hello"]
    assert puts[0]["services"] == ["other"]
    assert [put["state"] for put in puts] == ["STARTED", "STOPPED", "STARTED"]
    assert "bound to it: other" in ingot.run("unbind-service", "r1", "hello", code=1).stderr


def test_delete_asks_and_refuses_what_is_bound(stub, ingot):
    app = stub.app("hello", services=["r1"])
    refused = ingot.run("delete-service", "r1", "--force", code=1).stderr
    assert "r1 is bound to hello" in refused
    assert "ingot unbind-service r1 hello" in refused
    assert "--unbind" in refused
    assert "unbound from hello" in ingot.run("delete-service", "r1", "--force", "--unbind").stdout
    app["services"] = []
    stub.calls.clear()
    assert "--force" in ingot.run("delete-service", "r1", code=2).stderr
    assert "DELETE /services/r1" not in stub.lines()
    ingot.run("delete-service", "r1", "--force")
    assert stub.lines()[-3:] == ["GET /services", "GET /apps", "DELETE /services/r1"]
    assert "you have: r1" in ingot.run("delete-service", "r2", "--force", code=1).stderr


def test_choosing():
    offers = offerings_of(CATALOGUE)
    assert choose(offers, "mysql-8.0").vendor == "mysql"
    assert Offering("generic", "x", "1", "", ()).plan(None) == "free"
    assert Offering("generic", "x", "1", "", ()).plan("any") == "any"
    with pytest.raises(ClientError):
        choose(offers, "redis-6.0")

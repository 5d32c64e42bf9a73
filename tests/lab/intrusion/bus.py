"""What a holder of a password of the bus tries, and what it can still do for want of a password for each machine."""

from __future__ import annotations

from tests.lab.intrusion.attempts import DEA, ROUTER, STAGER, Accepted, Attempt, Bus, Step

_STOP = ("dea.stop", '{"droplet":1}')
_START = ("dea.0-0.start", '{"droplet":1}')


def _says(who: str, *messages: tuple[str, str]) -> list[Attempt]:
    return [Bus(who, f"say {s}", (f"PUB {s} {len(body)}", body)) for s, body in messages]


def _hears(who: str, *subjects: str) -> list[Attempt]:
    return [Bus(who, f"hear {subject}", (f"SUB {subject} 9",)) for subject in subjects]


_API = '{"host":"198.51.100.9","port":80,"uris":["api.ingot.localhost"]}'
_REQUEST = '{"droplet":1,"op":"STOP","last_updated":1,"instances":["a"]}'
_PLATFORM = (("ingot.platform.register", _API), ("ingot.platform.unregister", _API))


def table() -> list[Attempt]:
    """Return every attempt of a holder of a password of the bus."""
    return [
        *_says(DEA, _STOP, _START, ("dea.update", '{"droplet":1,"uris":[]}'), ("staging", "{}"), *_PLATFORM),
        *_says(DEA, ("cloudcontrollers.hm.requests", _REQUEST), ("cloudcontroller.bulk.credentials", ""), ("router.start", "{}")),
        *_says(DEA, ("ingot.component.logs", "{}"), ("ingot.dea.x.task", "{}"), ("ingot.dea.x.evacuate", "{}"), ("droplet.updated", "{}")),
        *_says(DEA, ("_INBOX_controller.guess", "{}"), ("_INBOX.guess", "{}"), ("RaaS.provision.x", "{}"), ("vcap.component.discover", "")),
        *_hears(DEA, ">", "_INBOX_controller.>", "_INBOX.>", "staging", "router.register", "vcap.component.announce", "dea.heartbeat"),
        *_hears(DEA, "cloudcontroller.bulk.credentials", "RaaS.>", "ingot.staging.*.log", "$SYS.>", "dea.>"),
        *_says(STAGER, _STOP, _START, ("router.register", _API), *_PLATFORM, ("cloudcontrollers.hm.requests", _REQUEST)),
        *_says(STAGER, ("cloudcontroller.bulk.credentials", ""), ("staging", "{}"), ("dea.heartbeat", "{}"), ("dea.update", "{}")),
        *_says(STAGER, ("vcap.component.discover", ""), ("ingot.dea.beat", "{}"), ("_INBOX_health_manager.guess", "{}")),
        *_hears(STAGER, "staging", ">", "dea.*.start", "dea.update", "_INBOX_controller.>", "_INBOX.>", "ingot.staging.*.log"),
        *_hears(STAGER, "vcap.component.announce", "router.register", "RaaS.>"),
        Bus(STAGER, "hear staging in a group of its own", ("SUB staging mine 9",)),
        *_says(ROUTER, _STOP, _START, ("router.register", _API), ("router.unregister", _API), *_PLATFORM, ("dea.update", "{}")),
        *_says(ROUTER, ("cloudcontrollers.hm.requests", _REQUEST), ("cloudcontroller.bulk.credentials", ""), ("dea.heartbeat", "{}")),
        *_hears(ROUTER, "dea.*.start", "staging", ">", "_INBOX_controller.>", "vcap.component.announce", "ingot.dea.beat"),
        Step(DEA, "have a neighbour's requests sent to a machine of its own", "foreign_route"),
        Step(DEA, "have the API's requests sent to a machine of its own", "foreign_api_route"),
        Step(DEA, "have the requests of every host sent to a machine of its own", "foreign_wildcard"),
        Step(DEA, "have a router connect to itself", "loopback_route"),
        Step(DEA, "end daemons by what is malformed", "malformed_messages"),
        Step(DEA, "have a component answer where nobody asks", "reply_elsewhere"),
        Step(STAGER, "guess where an answer that it was not asked for belongs", "guessed_inbox"),
    ]  # fmt: skip


ACCEPTED = (
    Accepted(DEA, "hear dea.*.start, ingot.dea.*.task", "all DEAs have one password: its holder reads the environment and the services of what is started from then on, on any DEA"),
    Accepted(DEA, "say router.register for an application's host", "with the address of a DEA alone: requests reach a DEA's machine, and there a port that the holder must have"),
    Accepted(DEA, "say router.unregister for an application's host", "the route comes back with the DEA's next registration, within 20 seconds"),
    Accepted(DEA, "say dea.heartbeat, ingot.dea.beat, droplet.exited, ingot.task.ended", "in another DEA's name: the health manager starts and stops instances for it, and placement counts wrongly"),
    Accepted(DEA, "answer dea.find.droplet and dea.discover", "in another DEA's place: users read false statistics and logs, and a start may go to nobody"),
    Accepted(DEA, "hear _INBOX_dea.>", "answers to other DEAs; they say how often to register"),
    Accepted(STAGER, "take stagings by joining the group staging", "it gets its share of them: environment, services, and the address with the password by which packages are fetched and droplets delivered"),
    Accepted(STAGER, "say ingot.staging.*.log", "false lines in another's staging log"),
    Accepted(ROUTER, "hear router.register", "all routes: hosts, addresses and ports of instances"),
    Accepted(ROUTER, "say router.start, ingot.router.usage, router.active_apps", "DEAs register too seldom until a router says otherwise, and false figures of requests"),
    Accepted("all three", "say vcap.component.announce, read and change what passes on the wire", "the bus is not encrypted: whoever is on the platform's network reads passwords and messages"),
)  # fmt: skip

"""The folders and units of instances."""

import json
import os

import msgspec

from components.common.config import parse
from components.services.redis.config import RedisNodeConfig
from components.services.redis.folders import Folders
from tests.unit.services.redis_samples import NODE, A, record


def test_records_survive_and_what_cannot_be_read_is_left_alone(tmp_path):
    config = parse({**NODE, "base_dir": str(tmp_path), "sandbox": "process"}, RedisNodeConfig)
    folders = Folders(config)
    folders.make(record(A))
    broken = folders.of("broken")
    broken.mkdir()
    (broken / "instance.json").write_text("{")
    (folders.of("empty")).mkdir()
    assert folders.load() == [record(A)]
    assert broken.is_dir()
    assert "password of a" not in json.dumps((folders.of("i1") / "instance.json").read_text())
    folders.remove("i1")
    folders.remove("i1")
    assert folders.load() == []


def test_a_unit_says_nothing_secret_and_hides_its_neighbours(tmp_path):
    config = parse(NODE | {"base_dir": str(tmp_path)}, RedisNodeConfig)
    spec = Folders(config).spec(msgspec.structs.replace(record(A), uid=48003))
    assert spec.name == "ingot-redis-i1"
    assert next(iter(spec.argv)) == "/usr/bin/redis-server"
    assert (spec.uid, spec.gid, spec.memory_mb) == (48003, None, 192)
    assert tmp_path / "instances" in spec.empty
    assert "admin secret" not in repr(spec)


def test_servers_get_through_to_their_own_whatever_the_daemons_mask(tmp_path):
    before = os.umask(0o077)
    try:
        folders = Folders(parse({**NODE, "base_dir": str(tmp_path), "sandbox": "process"}, RedisNodeConfig))
        folders.make(record(A))
    finally:
        os.umask(before)
    assert folders.of("i1").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "instances").stat().st_mode & 0o777 == 0o711


def test_a_server_that_ended_is_asked_for_its_last_words(tmp_path):
    folders = Folders(parse({**NODE, "base_dir": str(tmp_path), "sandbox": "process"}, RedisNodeConfig))
    folders.make(record(A))
    assert folders.last_words("i1") == ""
    (folders.of("i1") / "redis.log").write_text("first\nFatal: no\n\n")
    assert folders.last_words("i1") == "Fatal: no"

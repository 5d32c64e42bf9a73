"""The configuration of an instance's server."""

from components.services.redis import settings


def test_the_servers_settings_hold_no_secret_and_keep_what_is_written(tmp_path):
    text = settings.render(tmp_path, bind="0.0.0.0", port=5000, memory_mb=64, max_clients=500)
    lines = dict(line.split(" ", 1) for line in text.splitlines())
    assert lines["appendonly"] == "yes"
    assert lines["maxmemory"] == "64mb"
    assert lines["maxmemory-policy"] == "noeviction"
    assert "requirepass" not in lines
    assert lines["aclfile"] == str(tmp_path / "users.acl")

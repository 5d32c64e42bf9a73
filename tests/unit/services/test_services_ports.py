"""The ports of servers."""

from components.services.base.ports import next_port


def test_ports_go_round_and_skip_what_is_taken():
    def every(_port: int) -> bool:
        return True

    assert next_port(5000, 5002, set(), 0, every) == 5000
    assert next_port(5000, 5002, {5001}, 5000, every) == 5002
    assert next_port(5000, 5002, set(), 5002, every) == 5000
    assert next_port(5000, 5002, {5000, 5001, 5002}, 5001, every) is None
    assert next_port(5000, 5002, set(), 5000, lambda port: port == 5000) == 5000
    assert next_port(5000, 5002, set(), 9999, every) == 5000

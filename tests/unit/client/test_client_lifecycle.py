"""The end of a log that an error shows."""

from components.client.lifecycle import tail


def test_tail_says_what_it_leaves_out():
    assert tail("a\nb\nc\n", 2) == "... 1 lines more\nb\nc"
    assert tail("a\n", 2) == "a"

"""Addresses and refusals of the controllers."""

from __future__ import annotations

from components.stager.transfer import safe_uri, want_of_storage


def test_an_address_is_logged_without_its_password() -> None:
    assert (
        safe_uri("http://me:secret@10.0.0.1:9022/staging/app/1?x=y") == "http://10.0.0.1:9022/staging/app/1"
    )


def test_a_refusal_for_want_of_storage_is_the_platforms_own_sentence():
    text = (
        '{"code":608,"description":"Not enough storage for packages and droplets: 3M, you are allowed: 2M"}'
    )
    assert want_of_storage(text) == "Not enough storage for packages and droplets: 3M, you are allowed: 2M"
    for other in ('{"code":300,"description":"x"}', "<html>", "[]", ""):
        assert not want_of_storage(other)

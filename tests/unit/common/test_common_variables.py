"""Variables that an instance can be given."""

from __future__ import annotations

import subprocess
import sys

import pytest

from components.common import variables


@pytest.mark.parametrize("name", ["A", "_", "a1", "PATH", "VCAPX", "ingot_x", "PORT", "INGOT"])
def test_names_that_are_the_users(name: str) -> None:
    assert variables.is_users(name)


@pytest.mark.parametrize(
    "name", ["", "1A", "a.b", "a-b", "A B", " A", "A\n", "\u00e9", "VCAP_X", "vcap_x", "Vmc_", "INGOT_DEA"]
)
def test_names_that_are_not(name: str) -> None:
    assert not variables.is_users(name)


@pytest.mark.parametrize(
    "value", ["", "\x01\x1b\r\n\x7f", "\ufeff\ufffd\ufdcf", "x" * (variables.LONGEST - 2)]
)
def test_what_fits_arrives(value: str) -> None:
    assert variables.fits(f"A={value}")
    said = subprocess.run(
        [sys.executable, "-c", "import os, sys; sys.stdout.buffer.write(os.environb[b'A'])"],
        env={"A": value},
        capture_output=True,
        check=True,
    )
    assert said.stdout == value.encode()


@pytest.mark.parametrize("value", ["\0", "\ufdd0", "\uffff", "\U0001fffe", "x" * (variables.LONGEST - 1)])
def test_what_does_not_fit(value: str) -> None:
    assert not variables.fits(f"A={value}")

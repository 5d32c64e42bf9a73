"""Variables of an application as the client takes, sends and shows them."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from components.client.manifest import variable_problem
from components.common import variables

VARIABLES = {
    "CSP": "'self' https://x 'unsafe-inline'",
    "JSON": '"a","b"',
    "DOLLAR": "pa$PORT$HOME${HOME}",
    "LINES": "one\r\ntwo\n\tthree\n",
    "EQUALS": "a=b==",
    "SPACES": "  x  ",
    "EMPTY": "",
}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "hello"
    path.mkdir()
    (path / "wsgi.py").write_text("def application(e, s): ...\n")
    return path


def test_values_go_out_byte_for_byte(stub, ingot):
    stub.app("hello", env=["A=1"])
    ingot.run("env", "hello", *(f"{name}={value}" for name, value in VARIABLES.items()))
    sent = ["A=1", *(f"{name}={value}" for name, value in VARIABLES.items())]
    assert stub.apps["hello"]["env"] == sent
    assert ingot.json("env", "hello") == {"A": "1", **VARIABLES}


@pytest.mark.parametrize("name", ["a.b", "my-key", "1X", "A B", "VCAP_X", "vmc_x", "INGOT_X", "PORT"])
def test_names_that_no_instance_can_be_given_are_refused(stub, ingot, folder, name):
    stub.app("hello", env=[f"{name}=0", "A=1"])
    (folder / "ingot.yml").write_text(f"name: other\nenv: {{'{name}': x}}\n")
    stub.calls.clear()
    code = 1 if name == "PORT" else 2
    assert name in ingot.run("env", "hello", "B=2", f"{name}=1", code=code).stderr
    assert name in ingot.run("push", "hello", "--path", str(folder), "--env", f"{name}=1", code=code).stderr
    assert name in ingot.run("push", "--path", str(folder), code=1).stderr
    assert all(call.method == "GET" for call in stub.calls)
    ingot.run("env", "hello", "--unset", name, "--no-restart")
    assert stub.apps["hello"]["env"] == ["A=1"]


def test_a_worker_chooses_its_port(stub, ingot):
    stub.app("hello", uris=[])
    ingot.run("env", "hello", "PORT=5000")
    assert stub.apps["hello"]["env"] == ["PORT=5000"]


@given(st.text(max_size=12) | st.from_regex(r"(?i)(vcap_|vmc_|ingot_|[a-z_])\w{0,6}", fullmatch=True))
@example("ingot_x")
@example("INGOT_X")
@example("Vcap_x")
@example("A\n")
def test_client_and_platform_agree_about_names(name):
    """The client imports nothing of the platform's, and has the rule written out."""
    assert (variable_problem(name) == "") == variables.is_users(name)

"""The host and the environment of an application that is pushed."""

from components.client.pusher import app_url, default_host, merge_environment


def test_host_and_url_of_an_application():
    assert default_host("My_App", "http://api.ingot.localhost:8080") == "my-app.ingot.localhost"
    assert app_url("x.y.z", "http://api.y.z:8080") == "http://x.y.z:8080/"
    assert app_url("x.y.z", "https://api.y.z") == "https://x.y.z/"


def test_environment_is_merged():
    assert merge_environment(["A=1", "B=2=3"], {"A": None, "C": ""}) == ["B=2=3", "C="]

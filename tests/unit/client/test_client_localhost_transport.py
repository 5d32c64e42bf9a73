"""Names below localhost are this machine's, without a resolver."""

import httpx

from components.client.localhost_transport import LocalhostTransport, is_localhost, is_loopback


def test_localhost_and_everything_below_it():
    assert all(is_localhost(h) for h in ("localhost", "api.ingot.localhost", "A.LOCALHOST."))
    assert not any(is_localhost(h) for h in ("localhost.example.com", "notlocalhost", "127.0.0.1"))
    assert is_loopback("127.0.0.1")
    assert is_loopback("x.localhost")
    assert not is_loopback("10.0.0.1")


def test_resolver_changes_the_way_and_nothing_else(monkeypatch):
    seen = []

    def send(_transport, request):
        seen.append(request)
        return httpx.Response(200)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", send)
    with httpx.Client(transport=LocalhostTransport()) as client:
        client.get("https://hello.ingot.localhost:8443/a?b=c")
        client.get("http://example.com/")
    assert str(seen[0].url) == "https://127.0.0.1:8443/a?b=c"
    assert seen[0].headers["host"] == "hello.ingot.localhost:8443"
    assert seen[0].extensions["sni_hostname"] == "hello.ingot.localhost"
    assert seen[1].url.host == "example.com"

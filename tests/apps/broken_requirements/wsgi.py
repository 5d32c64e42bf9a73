"""Asks for a package that cannot be there: its staging must fail and say so."""


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"this is never seen\n"]

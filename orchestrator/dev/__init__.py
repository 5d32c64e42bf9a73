"""The development harness: the whole platform as plain processes on loopback, with neither root nor systemd.

`ingot-lab dev` and the integration tests start it; `Platform` in `harness` is its Python face.
"""

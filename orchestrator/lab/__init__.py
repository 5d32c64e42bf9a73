"""The lab: a small IaaS on one Linux host.

`daemon` serves REST on a Unix socket, `provider` owns labs, machines and networks, a `backend` makes the machines,
people and plays use `client` and `main`. Decisions: docs/decisions/0003-lab.md.
"""

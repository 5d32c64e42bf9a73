"""The lab: a small IaaS on one Linux host.

`daemon` serves REST on a Unix socket, `engine` owns labs, machines and networks, one of `backends` makes the machines from `images`,
`host` has what the kernel of this host does for them, people and plays use `client` and `cli`. Decisions: docs/decisions/0003-lab.md.
"""

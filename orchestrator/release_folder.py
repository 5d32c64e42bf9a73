"""The names in a release's folder, for those who build one and those who roll one."""

MANIFEST = "RELEASE.json"
PLAYS = "plays"

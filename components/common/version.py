"""The version of the one distribution; a release is named after it unless the operator names it otherwise."""

VERSION = "0.1.0"

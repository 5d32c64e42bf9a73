"""HTTP without TLS, as the platform's machines use it between them."""

from __future__ import annotations

import ssl

# The value of httpx's `verify` where no TLS is used: by default every client of it, and so every `httpx.get`, reads
# all certificates of the machine, which costs 25 ms of computing and far more than a request. This context trusts no
# certificate: over TLS a request fails.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

"""HTTP without TLS, as the platform's own machines speak it among each other."""

from __future__ import annotations

import ssl

# What httpx is given as `verify` where no TLS is spoken: left alone, every client of it, and so every `httpx.get`, reads all the
# machine's certificates, which is 25 ms of computing and far more than a request. It trusts nobody: over TLS a request fails.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

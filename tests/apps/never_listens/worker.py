"""Runs and opens no port: its start must end as one that never became ready."""

import time

print("working, and not listening", flush=True)
while True:
    time.sleep(60)

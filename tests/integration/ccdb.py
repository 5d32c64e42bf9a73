"""A prepared ccdb, with its tables and the administrator, as controllers find it after their first start.

The administrator's password is hashed with cheap parameters: the hash decides the cost of verifying, and with the product's own
parameters each login takes a quarter of a second of processor time.
"""

from __future__ import annotations

import time

import argon2

from components.controller.accounts.auth import find_user, new_epoch
from components.controller.db.database import Database
from components.controller.db.models import User

QUICK = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


def prepare(url: str, email: str, password: str) -> None:
    """Bring a database to the newest revision and add its administrator; leave an existing one as it is."""
    database = Database(url, 1)
    try:
        database.migrate()
        with database.session() as session:
            if find_user(session, email) is None:
                hashed = QUICK.hash(password)
                user = User(email=email, crypted_password=hashed, admin=True, token_epoch=new_epoch())
                user.created_at = int(time.time())
                session.add(user)
    finally:
        database.close()


def ease(url: str, email: str, password: str) -> None:
    """Hash an existing user's password anew, so that it costs nothing to verify."""
    database = Database(url, 1)
    try:
        with database.session() as session:
            user = find_user(session, email)
            assert user is not None
            user.crypted_password = QUICK.hash(password)
    finally:
        database.close()

"""The smallest possible controller, for the benchmark: one route of Flask that reads one row, served by gunicorn."""

from __future__ import annotations

import os

from flask import Flask, Response, jsonify
from sqlalchemy import create_engine, text


def make() -> Flask:
    """Return the application; `BENCH_DATABASE_URL` names the database of the row."""
    app = Flask("peer", static_folder=None)
    engine = create_engine(os.environ["BENCH_DATABASE_URL"], pool_size=20)

    def user(email: str) -> Response:
        with engine.connect() as connection:
            row = connection.execute(text("SELECT id, email FROM users WHERE email = :e"), {"e": email}).one()
        return jsonify({"id": row.id, "email": row.email})

    app.add_url_rule("/user/<email>", view_func=user)
    return app

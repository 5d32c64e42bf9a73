"""A Flask application whose requirements come from the platform's index of packages."""

import os

from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def home():
    return jsonify(framework="flask", dea=os.environ.get("VCAP_APP_HOST"))

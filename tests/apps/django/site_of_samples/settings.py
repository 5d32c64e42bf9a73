import os
import secrets

SECRET_KEY = os.environ.get("SECRET_KEY") or secrets.token_hex(32)
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_of_samples.urls"
INSTALLED_APPS = []
MIDDLEWARE = []
DATABASES = {}

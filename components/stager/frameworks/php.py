"""PHP: Apache with mod_php, a server of its own for each instance, as on the platform of 2011.

PHP's built-in server is not made for production: it knows no `.htaccess`, gives each request one worker without
supervision, and serves files without types or ranges. PHP-FPM needs a web server before it in the same instance: two programs to
supervise, for the same memory. Apache's prefork server is one program, is what PHP applications are written for (`.htaccess`,
rewriting), and its number of workers follows from the instance's memory. Its programs are on the DEAs; the droplet holds the
settings only.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.stager.errors import StagingError
from components.stager.frameworks.media_types import by_ending
from components.stager.plugin import Context, Detection
from components.stager.procfile import own_command
from components.stager.reading import json_of
from components.stager.startup import OWN, Start

BASE = f"{OWN}/apache"
_SCRIPT = f"{BASE}/start"


class Php:
    """A folder of PHP files, with index.php at the top or in public/."""

    def detect(self, source: Path, meta: Mapping[str, Any]) -> Detection:
        """See `Plugin.detect`."""
        del meta
        if (source / "public" / "index.php").is_file():
            return Detection(True, "public/index.php")
        scripts = sorted(p.name for p in source.glob("*.php"))
        if scripts:
            return Detection(True, "index.php" if "index.php" in scripts else scripts[0])
        return Detection(False, "it has no *.php at its top and no public/index.php")

    def compile(self, context: Context) -> Start:
        """See `Plugin.compile`."""
        check_packages(context.app)
        root = root_of(context.app)
        context.say(f"serves {'the whole folder' if root == '.' else root + '/'}")
        base = context.app / BASE
        base.mkdir(parents=True)
        (base / "httpd.conf").write_text(settings(root), encoding="utf-8")
        types = "".join(f"{kind} {ending}\n" for ending, kind in by_ending().items())
        (base / "mime.types").write_text(types, encoding="utf-8")
        script = context.app / _SCRIPT
        script.write_text(_START, encoding="utf-8")
        script.chmod(0o755)
        return Start(command=own_command(context.app, context.meta) or f"exec {_SCRIPT}")


def root_of(source: Path) -> str:
    """Return the folder to serve, relative to the application's; an index.php at the top wins."""
    inner = (source / "public" / "index.php").is_file() and not (source / "index.php").is_file()
    return "public" if inner else "."


def check_packages(source: Path) -> None:
    """Refuse an application without the packages of its composer.json: there is no index of PHP packages.

    Raises:
        StagingError: a package is missing, or composer.json is not JSON.
    """
    try:
        found = json_of(source / "composer.json")
    except FileNotFoundError:
        return
    required = found.get("require") if isinstance(found, dict) else None
    wanted = [n for n in required or {} if "/" in n]
    if wanted and not (source / "vendor" / "autoload.php").is_file():
        raise StagingError(
            "compile",
            f"composer.json requires {', '.join(sorted(wanted))}, and there is no vendor/autoload.php",
            "This platform has no index of PHP packages: run `composer install --no-dev` and push vendor/ with it.",
        )


def settings(root: str) -> str:
    """Return Apache's settings; values that differ between instances come from the environment."""
    folder = "${INGOT_APP}" if root == "." else "${INGOT_APP}/" + root
    return _SETTINGS.replace("@ROOT@", folder)


_MODULES = (
    *(
        "mpm_prefork",
        "authz_core",
        "dir",
        "mime",
        "rewrite",
        "setenvif",
        "env",
        "headers",
        "expires",
        "alias",
    ),
    *("filter", "deflate", "authn_core", "authz_host", "access_compat"),
)
_LOADED = "\n".join(f"LoadModule {n}_module /usr/lib/apache2/modules/mod_{n}.so" for n in _MODULES)
_SETTINGS = (
    """# Written when the application was staged.
ServerRoot "${INGOT_APP}"
ServerName localhost
Listen 0.0.0.0:${VCAP_APP_PORT}
PidFile "${TMPDIR}/apache.pid"
DefaultRuntimeDir "${TMPDIR}"
Mutex "file:${TMPDIR}" default
ServerTokens Prod
TraceEnable off
Timeout 300
KeepAlive On
KeepAliveTimeout 5
ErrorLog /dev/stderr
LogLevel warn
"""
    + _LOADED
    + """
LoadModule php_module ${INGOT_PHP_MODULE}

User #65534
Group #65534
ServerLimit ${INGOT_WORKERS}
MaxRequestWorkers ${INGOT_WORKERS}
StartServers 2
MinSpareServers 1
MaxSpareServers 4
MaxConnectionsPerChild 5000

SetEnvIf X-Forwarded-Proto "^https$" HTTPS=on
TypesConfig "${INGOT_APP}/.ingot/apache/mime.types"
AddDefaultCharset UTF-8
DirectoryIndex index.php index.html
DocumentRoot "@ROOT@"
<Directory />
  Require all denied
  AllowOverride None
  Options None
</Directory>
<Directory "@ROOT@">
  Require all granted
  AllowOverride All
  Options FollowSymLinks
</Directory>
# Nothing that starts with a dot but the folder of RFC 8615, and no list of packages.
<DirectoryMatch "/\\.(?!well-known(/|$))">
  Require all denied
</DirectoryMatch>
<FilesMatch "^(\\.|composer\\.(json|lock)$|Procfile$)">
  Require all denied
</FilesMatch>
<FilesMatch "\\.ph(p|tml)$">
  SetHandler application/x-httpd-php
</FilesMatch>
php_admin_value sys_temp_dir "${TMPDIR}"
php_admin_value upload_tmp_dir "${TMPDIR}"
php_value session.save_path "${TMPDIR}"
php_value memory_limit ${INGOT_PHP_MEMORY}M
php_value post_max_size 64M
php_value upload_max_filesize 64M
php_flag display_errors off
php_flag log_errors on
php_flag expose_php off
"""
)
# A worker with PHP needs about 24 MB of its own beside the shared memory.
_START = """#!/bin/bash
# Starts Apache with as many workers as the instance's memory has room for.
limit='"mem": ?([0-9]+)' memory=256
if [[ "${VCAP_APPLICATION:-}" =~ $limit ]]; then memory=$((BASH_REMATCH[1] / 1048576)); fi
workers=$(((memory - 24) / 24))
((workers < 2)) && workers=2
((workers > 64)) && workers=64
export INGOT_WORKERS=$workers INGOT_PHP_MEMORY=$((memory < 192 ? 64 : memory / 3))
export INGOT_APP="$PWD" TMPDIR="${TMPDIR:-/tmp}"
modules=(/usr/lib/apache2/modules/libphp*.so)
export INGOT_PHP_MODULE="${modules[-1]}"
[ -e "$INGOT_PHP_MODULE" ] || { echo "this machine has no PHP module for Apache" >&2; exit 1; }
# Apache refuses root, which only a development machine runs applications as.
wrap=()
[ "$(id -u)" != 0 ] || wrap=(unshare --user)
exec "${wrap[@]}" /usr/sbin/apache2 -f "$PWD/.ingot/apache/httpd.conf" -DFOREGROUND
"""

"""An nginx whose private functions or structures the router does not know is refused when it starts, before it listens."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from components.router import nginx_conf
from tests.support.ports import free_port

# Where Debian's packages have what is written in Lua.
BALANCER = Path("/usr/share/lua/5.1/ngx/balancer.lua")
START = "init_by_lua_block {\n"


def lua_with(folder: Path, module: str, text: str) -> str:
    """Lay out the router's Lua with one more module, which is found before the distribution's; give the folder."""
    shutil.copytree(nginx_conf.LUA, folder)
    (folder / module).parent.mkdir(exist_ok=True)
    (folder / module).write_text(text)
    return str(folder)


def front_door(tmp_path: Path, lua: str, first: str = "") -> Path:
    """Write the front door's configuration; `first` is Lua that runs before all other."""
    path = nginx_conf.write(tmp_path, free_port(), "ingot.localhost", router_lua_path=lua)
    # One process that stays in front, so that nothing is left where it does start.
    alone = "daemon off;\nmaster_process off;\n"
    path.write_text(alone + path.read_text().replace(START, START + first, 1))
    return path


def role_check(tmp_path: Path, lua: str, first: str = "") -> Path:
    """Write what the role asks nginx with."""
    template = (nginx_conf.ROLE / "templates" / "etc" / "ingot" / "nginx-check.conf.j2").read_text()
    text = jinja2.Template(template).render(router_modules_path="/usr/lib/nginx/modules", router_lua_path=lua)
    path = tmp_path / "check.conf"
    path.write_text(text.replace(START, START + first, 1))
    return path


def started(config: Path) -> subprocess.CompletedProcess[str]:
    """Start nginx, which has to end by itself."""
    return subprocess.run(
        ["nginx", "-p", str(config.parent), "-c", str(config), "-e", "stderr"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


Written = Callable[[Path, str, str], Path]
BOTH = pytest.mark.parametrize("written", [front_door, role_check])


@BOTH
@pytest.mark.parametrize(
    ("first", "found", "known"),
    [
        ("ngx.config.nginx_version = 1028003", "nginx 1.28.3", "known: 1.22, 1.24, 1.26."),
        (
            "ngx.config.ngx_lua_version = 10030",
            "nginx's Lua module 0.10.30",
            "known: 0.10.23, 0.10.26, 0.10.28.",
        ),
    ],
)
def test_an_unknown_version_is_named_with_the_known_ones_and_the_remedy(
    tmp_path: Path, written: Written, first: str, found: str, known: str
) -> None:
    done = started(written(tmp_path, str(nginx_conf.LUA), f"{first}\n"))
    assert done.returncode == 1
    assert f"this router cannot serve with {found}; {known}" in done.stderr
    assert "Install nginx and libnginx-mod-http-lua of Debian 12" in done.stderr
    assert not list(tmp_path.glob("*.sock"))


@BOTH
def test_a_function_with_another_argument_is_refused_uncalled(tmp_path: Path, written: Written) -> None:
    text = BALANCER.read_text()
    changed = text.replace("size_t addr_len, int port,", "size_t addr_len, int port, double weight,")
    assert changed != text
    lua = lua_with(tmp_path / "lua", "ngx/balancer.lua", changed)
    done = started(written(tmp_path, lua, ""))
    assert done.returncode == 1
    assert "cannot serve with ngx_http_lua_ffi_balancer_set_current_peer declared as int (" in done.stderr
    assert "uint64_t, int, double, " in done.stderr


@BOTH
def test_a_function_that_is_gone_is_refused(tmp_path: Path, written: Written) -> None:
    text = (nginx_conf.LUA / "private.lua").read_text().replace("lua_ffi_now", "lua_ffi_never")
    lua = lua_with(tmp_path / "lua", "private.lua", text)
    done = started(written(tmp_path, lua, ""))
    assert done.returncode == 1
    assert "ngx_http_lua_ffi_never declared as nothing" in done.stderr


def test_the_role_is_told_that_this_nginx_is_known(tmp_path: Path) -> None:
    done = started(role_check(tmp_path, str(nginx_conf.LUA)))
    assert (done.returncode, done.stderr) == (0, "")

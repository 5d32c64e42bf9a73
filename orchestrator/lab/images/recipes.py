"""The contents of the machines' images. Pure data and a digest; `build` makes the images.

A full image holds every Debian package the roles install, so that their apt tasks find nothing to do. A bare one holds
only the requirements of Ansible over SSH, and proves that the roles install their own. One with `-qemu` is a full image as a
disk, with Debian's kernel, for machines with a kernel of their own.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from orchestrator.lab.errors import BadRequestError
from orchestrator.lab.images import qemu_image

DEFAULT = "bookworm"
ROOT = "root"
DISK = "disk.ext4"
KERNEL = "kernel"
INITRD = "initrd"
SUITES = ("bookworm", "trixie")
BARE_SUFFIX = "-bare"
QEMU_SUFFIX = "-qemu"
# The suites that were tried with a kernel of their own.
QEMU_SUITES = ("bookworm",)
QEMU_DISK_MIB = 6144

# The base of a machine before any role: systemd, a network, SSH, and a Python for Ansible.
BARE_PACKAGES = (
    "ca-certificates",
    "dbus",
    "iproute2",
    "iputils-ping",
    "kmod",
    "netbase",
    "openssh-server",
    "procps",
    "python3",
    "python3-apt",
    "sudo",
    "systemd",
    "systemd-sysv",
)

# Without udev, networkd waits for ever for the interface. busybox is the initrd; quota sets limits on directories.
QEMU_PACKAGES = ("busybox-static", "linux-image-amd64", "quota", "udev")

# The runtimes of applications: Ruby with common gems, Java without a display, PHP within Apache.
RUBY_PACKAGES = (
    "puma",
    "ruby",
    "ruby-activerecord",
    "ruby-bundler",
    "ruby-mysql2",
    "ruby-pg",
    "ruby-railties",
    "ruby-sinatra",
)
RUNTIME_PACKAGES = (
    *("default-jre-headless", "nodejs", *RUBY_PACKAGES),
    *("apache2-bin", "libapache2-mod-php"),
    *("php-cli", "php-curl", "php-mbstring", "php-mysql", "php-pgsql", "php-xml"),
)

# The packages that roles install, by role.
ROLE_PACKAGES: Mapping[str, Sequence[str]] = {
    "base": ("acl", "curl", "nftables", "rsync", "systemd-timesyncd"),
    "release": ("python3-pip", "python3-venv"),
    "nats": ("nats-server",),
    "ccdb": ("postgresql", "python3-psycopg2"),
    "router": ("libnginx-mod-http-lua", "lua-cjson", "nginx"),
    "nfs_client": ("nfs-common",),
    "nfs_server": ("nfs-kernel-server",),
    "service_redis": ("redis-server",),
    "dea": (*RUNTIME_PACKAGES, "quota"),
    "stager": (
        *("default-jre-headless", "libtomcat10-java", "tomcat-jakartaee-migration"),
        *("nodejs", "npm", "python3-pip", "unzip", "zip", *RUBY_PACKAGES),
    ),
}

# Everything else that packages enable is disabled: a role that forgets to enable its unit must fail here too.
KEPT_UNITS = ("remote-fs.target", "ssh.service", "systemd-networkd.service", "systemd-networkd.socket")

# Units that would run behind a play's back and hold apt's lock.
MASKED_UNITS = ("apt-daily-upgrade.timer", "apt-daily.timer", "e2scrub_all.timer", "fstrim.timer")

# Files that no play and no component reads, a tenth of the image.
EXCLUDED = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")

# Runs after the unpacking of the essential packages and before the rest; $1 is the root.
PREPARE = r"""
set -eu
root="$1"
mkdir -p "$root/etc/postgresql-common/createcluster.d"
echo "create_main_cluster = false" > "$root/etc/postgresql-common/createcluster.d/image.conf"
"""

# Debian 13's Java links its manual pages, and fails where there is no folder for them.
PREPARE_TRIXIE = """
mkdir -p "$root/usr/share/man/man1"
"""

# Runs at the end; $1 is the root, the files to bring in are named by the environment.
FINISH = r"""
set -eu
root="$1"
for file in $INGOT_KEYRINGS; do
    [ -e "$root$file" ] || install -D -m 0644 "$file" "$root$file"
done
for file in $INGOT_CERTIFICATES; do
    install -D -m 0644 "$file" "$root/usr/local/share/ca-certificates/$(basename "$file")"
done
chroot "$root" update-ca-certificates > /dev/null
for link in "$root"/etc/systemd/system/*.target.wants/*; do
    unit=$(basename "$link")
    case "$unit:$(basename "$(dirname "$link")")" in *:getty.target.wants) continue ;; esac
    case " $INGOT_KEPT_UNITS " in *" $unit "*) ;; *) systemctl --quiet --root="$root" disable "$unit" ;; esac
done
systemctl --quiet --root="$root" enable ssh.service systemd-networkd.service
systemctl --quiet --root="$root" mask $INGOT_MASKED_UNITS
rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/hostname" "$root/etc/resolv.conf"
rm -rf "$root/etc/postgresql-common/createcluster.d/image.conf"
rmdir --ignore-fail-on-non-empty "$root"/etc/postgresql-common/createcluster.d "$root"/etc/postgresql-common 2> /dev/null || true
mkdir -p "$root/var/log/journal"
: > "$root/etc/machine-id"
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """The facts that decide an image, except the archive's content on that day.

    `disk_mib` is the size of the disk the image becomes, 0 where it stays a directory.
    """

    name: str
    suite: str
    packages: tuple[str, ...]
    excluded: tuple[str, ...] = EXCLUDED
    included: tuple[str, ...] = ()
    kept_units: tuple[str, ...] = KEPT_UNITS
    masked_units: tuple[str, ...] = MASKED_UNITS
    prepare: str = PREPARE
    finish: str = FINISH
    disk_mib: int = 0

    @property
    def part(self) -> str:
        """Return the part of the image's folder that a machine is made from."""
        return DISK if self.disk_mib else ROOT


def recipe(name: str) -> Recipe:
    """Return the recipe of an image: `SUITE`, `SUITE-bare` or `SUITE-qemu`.

    Raises:
        BadRequestError: there is no such image.
    """
    if name not in names():
        raise BadRequestError(f"image {name!r}: must be one of {', '.join(names())}")
    suite, _, kind = name.partition("-")
    packages = set(BARE_PACKAGES)
    if f"-{kind}" != BARE_SUFFIX:
        packages.update(*ROLE_PACKAGES.values())
    if f"-{kind}" != QEMU_SUFFIX:
        java = PREPARE_TRIXIE if name == "trixie" else ""
        return Recipe(name=name, suite=suite, packages=tuple(sorted(packages)), prepare=PREPARE + java)
    packages.update(QEMU_PACKAGES)
    return Recipe(
        name=name,
        suite=suite,
        packages=tuple(sorted(packages)),
        excluded=(*EXCLUDED, *qemu_image.EXCLUDED),
        included=qemu_image.INCLUDED,
        masked_units=(*MASKED_UNITS, *qemu_image.MASKED_UNITS),
        finish=FINISH + qemu_image.FINISH,
        disk_mib=QEMU_DISK_MIB,
    )


def has_kernel(name: str) -> bool:
    """Return whether machines of this image have a kernel of their own."""
    return name.endswith(QEMU_SUFFIX)


def names() -> list[str]:
    """Return the names of all images."""
    plain = [name for suite in SUITES for name in (suite, suite + BARE_SUFFIX)]
    return [*plain, *(suite + QEMU_SUFFIX for suite in QEMU_SUITES)]


def digest(made_of: Recipe, sources: Sequence[str], certificates: Mapping[str, bytes]) -> str:
    """Return 12 hex digits that name this recipe with these sources and authorities.

    Args:
        made_of: the recipe.
        sources: the lines of sources.list.
        certificates: the host's own authorities, by file name.
    """
    facts = {
        # A part that an image lacks is not in its digest, so that a new kind of image leaves the others as they are.
        "recipe": {key: value for key, value in asdict(made_of).items() if value},
        "sources": list(sources),
        "certificates": {
            name: hashlib.sha256(content).hexdigest() for name, content in sorted(certificates.items())
        },
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def folder_name(name: str, key: str) -> str:
    """Return the folder of an image in the cache."""
    return f"{name}-{key}"


def split_folder(folder: str) -> tuple[str, str] | None:
    """Return name and digest of a folder in the cache; None for any other folder."""
    name, _, key = folder.rpartition("-")
    return (name, key) if name in names() and len(key) == 12 else None

"""The parts of an image with a kernel of its own beside packages. Pure data; the scripts run inside the machine.

The disk of a machine that runs cannot be written from the host, so the host leaves tar archives in a directory
(`host` in the machine's folder), which the machine has mounted as /lab over 9p: N.tar, from 1 up. The machine unpacks
each once, in order: before systemd starts (its name, its keys, its network) and while it runs (the names of others). `applied` is its
answer: the last number it unpacked, there from the moment its units run. `poweroff` is there where the host wants it to shut down.
"""

from __future__ import annotations

HOST_FOLDER = "/lab"
HOST_TAG = "lab"
APPLIED = "applied"
BINDS = "binds"
POWEROFF = "poweroff"
UNIT = "ingot-lab-files.service"
# The files of the kernel's package and FINISH in the root, which are moved out of it.
KERNEL_GLOB = "boot/vmlinuz-*"
INITRD = "boot/initrd.lab"
# The word that tells a guest to boot only for a probe, and the line with which it reports that it did.
PROBE_WORD = "ingot.probe"
PROBE_SAID = "ingot-lab: a guest runs"

# Debian's kernel for clouds lacks 9p. Below are drivers of hardware that a machine of the lab does not have. Without
# the radio drivers, networkd does not load them either, which would take it seconds.
EXCLUDED = tuple(
    f"/lib/modules/*/kernel/{part}/*"
    for part in ("drivers", "net/bluetooth", "net/mac80211", "net/wireless", "sound")
)
INCLUDED = tuple(
    f"/lib/modules/*/kernel/drivers/{part}/*" for part in ("block", "char", "md", "net/ppp", "virtio")
) + tuple(
    f"/lib/modules/*/kernel/drivers/net/{module}.ko"
    for module in ("dummy", "ifb", "macvlan", "net_failover", "tun", "veth", "virtio_net", "vrf", "vxlan")
)

# Units that a machine of the lab does not need, and that would make its start seconds longer.
MASKED_UNITS = (
    *("console-getty.service", "getty@.service", "serial-getty@.service", "systemd-logind.service"),
    *("dev-hugepages.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "modprobe@.service"),
    *("proc-sys-fs-binfmt_misc.automount", "systemd-binfmt.service", "systemd-rfkill.socket"),
    *("systemd-random-seed.service", "systemd-tmpfiles-clean.timer"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service"),
)

# Loaded before the root is mounted, with their dependencies.
_MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio-rng"),
    *("crc32c_generic", "ext4", "quota_v2", "9pnet_virtio", "9p"),
)
_9P = "trans=virtio,version=9p2000.L,msize=512000"

# The first program of the machine: it applies the lab's files, then becomes systemd. It does the work of a
# distribution's initrd in a tenth of the time, because it knows its hardware. A line of `binds` is "TAG OPTIONS
# TARGET".
_INIT = f"""#!/bin/busybox sh
PATH=/bin
# Without /proc busybox does not find itself.
/bin/busybox mount -t proc proc /proc
mount -t devtmpfs dev /dev
read -r line < /proc/cmdline
case " $line " in *" {PROBE_WORD} "*)
    # By the kernel's log, as what a terminal has not sent yet is lost.
    echo "<1>{PROBE_SAID}" > /dev/kmsg
    reboot -f
esac
for module in /modules/*; do insmod "$module"; done
mount -t ext4 -o prjquota /dev/vda /root
host=/root{HOST_FOLDER}
mount -t 9p -o {_9P} {HOST_TAG} "$host"
rm -f "$host/{APPLIED}"

state=/root/var/lib/ingot-lab/{APPLIED}
applied=0
[ -s "$state" ] && read -r applied < "$state"
while [ -e "$host/$((applied + 1)).tar" ] && tar -x -f "$host/$((applied + 1)).tar" -C /root; do
    applied=$((applied + 1))
    echo "$applied" > "$state"
done
while read -r tag options target; do
    mkdir -p "/root$target"
    mount -t 9p -o "{_9P},$options" "$tag" "/root$target"
done < "$host/{BINDS}"
mount --move /dev /root/dev
umount /proc
exec /bin/busybox switch_root /root /sbin/init
"""

# Neither a timer nor `sleep`: starting a program is expensive here, so the shell itself waits and looks.
_FILES = f"""#!/bin/bash
# Unpacks the lab's archives ({HOST_FOLDER}/N.tar, in the order of N, each once), and shuts the machine down when the lab asks for it.
state=/var/lib/ingot-lab/{APPLIED}
applied=0
[ -s "$state" ] && read -r applied < "$state"
exec {{never}}<> <(:)
said=
while :; do
    while [ -e "{HOST_FOLDER}/$((applied + 1)).tar" ]; do
        tar -x -f "{HOST_FOLDER}/$((applied + 1)).tar" -C / || break
        sync
        applied=$((applied + 1))
        echo "$applied" > "$state"
    done
    [ "$said" = "$applied" ] || echo "$applied" > {HOST_FOLDER}/{APPLIED}
    said=$applied
    [ ! -e {HOST_FOLDER}/{POWEROFF} ] || exec systemctl poweroff
    read -r -t 0.5 -u "$never"
done
"""

_UNIT = """[Unit]
Description=Files the lab writes for this machine

[Service]
ExecStart=/usr/lib/ingot-lab/files
Restart=on-failure

[Install]
WantedBy=multi-user.target
"""

# Runs after the finish of every image; $1 is the root.
FINISH = f"""
mkdir -p "$root{HOST_FOLDER}" "$root/usr/lib/ingot-lab" "$root/var/lib/ingot-lab"
cat > "$root/usr/lib/ingot-lab/files" <<'END'
{_FILES}END
chmod 0755 "$root/usr/lib/ingot-lab/files"
cat > "$root/etc/systemd/system/{UNIT}" <<'END'
{_UNIT}END
systemctl --quiet --root="$root" enable {UNIT}
# Of the hardware, systemd has to know disks and network alone; asking for the rest makes the start seconds longer.
mkdir -p "$root/etc/systemd/system/systemd-udev-trigger.service.d"
cat > "$root/etc/systemd/system/systemd-udev-trigger.service.d/lab.conf" <<'END'
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=devices --action=add --subsystem-match=block --subsystem-match=net
END
# Nothing has changed below /usr since the packages were configured.
touch "$root/etc/.updated" "$root/var/.updated"
# The initrd: busybox, the modules in the order they are loaded in, and the first program.
initrd="$root/tmp/initrd"
mkdir -p "$initrd/bin" "$initrd/dev" "$initrd/modules" "$initrd/proc" "$initrd/root"
cp "$root/bin/busybox" "$initrd/bin/"
cat > "$initrd/init" <<'END'
{_INIT}END
chmod 0755 "$initrd/init"
version=$(basename "$root"/lib/modules/*)
number=100
for module in {" ".join(_MODULES)}; do
    chroot "$root" modprobe --show-depends --set-version="$version" "$module"
done | awk '$1 == "insmod" && !seen[$2]++ {{print $2}}' | while read -r file; do
    cp "$root$file" "$initrd/modules/$number-$(basename "$file")"
    number=$((number + 1))
done
chroot "$root" sh -c 'cd /tmp/initrd && find . | busybox cpio -o -H newc > /{INITRD}'
rm -rf "$initrd" "$root"/vmlinuz*
"""

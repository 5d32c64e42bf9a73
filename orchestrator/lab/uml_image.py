"""What an image with a kernel of its own needs beyond the packages. Pure data; the scripts run inside the machine.

The disk of a machine that runs cannot be written from the host, so the host leaves tar archives in a directory
(`host` in the machine's folder), which the machine has mounted as /lab by hostfs: N.tar, from 1 up. The machine unpacks
each once, in order: before systemd starts (its name, its keys, its network) and while it runs (the names of others). `applied` is its
answer: the last number it unpacked, there from the moment its units run. `reboot` is there where it ended to be started again.
"""

from __future__ import annotations

INIT_PATH = "/usr/lib/ingot-lab/init"
HOST_FOLDER = "/lab"
APPLIED = "applied"
BINDS = "binds"
REBOOT = "reboot"
UNIT = "ingot-lab-files.service"

# What the kernel starts. Reading `binds`: one line for each, "LINK OPTIONS TARGET".
_INIT = f"""#!/bin/bash
# The first program of the machine: takes over what the lab wrote, then becomes systemd.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -n -t hostfs none {HOST_FOLDER}
rm -f {HOST_FOLDER}/{APPLIED}
/usr/lib/ingot-lab/files once
if [ -e {HOST_FOLDER}/{BINDS} ]; then
    while read -r link options target; do
        mkdir -p "$target"
        mount -n -t hostfs -o "$link,$options" none "$target"
    done < {HOST_FOLDER}/{BINDS}
fi
exec /sbin/init "$@"
"""

# Neither a timer nor `sleep`: starting a program is what is expensive here, so the shell itself waits and looks.
_FILES = f"""#!/bin/bash
# Unpacks the lab's archives ({HOST_FOLDER}/N.tar, in the order of N, each once): what there is (`once`), or for ever (`watch`).
state=/var/lib/ingot-lab/{APPLIED}
applied=0
[ -s "$state" ] && read -r applied < "$state"

take() {{
    while [ -e "{HOST_FOLDER}/$((applied + 1)).tar" ]; do
        tar -x -f "{HOST_FOLDER}/$((applied + 1)).tar" -C / || return
        sync
        applied=$((applied + 1))
        echo "$applied" > "$state"
    done
}}

take
[ "$1" = watch ] || exit 0
exec {{never}}<> <(:)
said=
while :; do
    take
    [ "$said" = "$applied" ] || echo "$applied" > {HOST_FOLDER}/{APPLIED}
    said=$applied
    read -r -t 0.5 -u "$never"
done
"""

_UNIT = """[Unit]
Description=Files the lab writes for this machine

[Service]
ExecStart=/usr/lib/ingot-lab/files watch
Restart=always

[Install]
WantedBy=multi-user.target
"""

# Among the last things systemd does, when every file system is unmounted already.
_SHUTDOWN = f"""#!/bin/sh
[ "$1" = reboot ] || exit 0
mount -n -t hostfs none {HOST_FOLDER} && : > {HOST_FOLDER}/{REBOOT} && umount -n {HOST_FOLDER}
"""

# Runs after the finish of every image; $1 is the root, the kernel's version comes from the environment.
FINISH = f"""
mkdir -p "$root{HOST_FOLDER}" "$root/usr/lib/ingot-lab" "$root/usr/lib/systemd/system-shutdown" "$root/var/lib/ingot-lab" "$root/lib/modules"
cp -a "/usr/lib/uml/modules/$INGOT_KERNEL" "$root/lib/modules/"
chroot "$root" depmod "$INGOT_KERNEL"
cat > "$root{INIT_PATH}" <<'END'
{_INIT}END
cat > "$root/usr/lib/ingot-lab/files" <<'END'
{_FILES}END
cat > "$root/usr/lib/systemd/system-shutdown/ingot-lab" <<'END'
{_SHUTDOWN}END
chmod 0755 "$root{INIT_PATH}" "$root/usr/lib/ingot-lab/files" "$root/usr/lib/systemd/system-shutdown/ingot-lab"
cat > "$root/etc/systemd/system/{UNIT}" <<'END'
{_UNIT}END
systemctl --quiet --root="$root" enable {UNIT}
# Nobody sits at the consoles, and they end at once.
# Hundreds of terminals nobody has make the start seconds longer.
mkdir -p "$root/etc/systemd/system/systemd-udev-trigger.service.d"
cat > "$root/etc/systemd/system/systemd-udev-trigger.service.d/lab.conf" <<'END'
[Service]
ExecStart=
ExecStart=-udevadm trigger --type=all --action=add --subsystem-nomatch=tty --prioritized-subsystem=module,block,net
END
systemctl --quiet --root="$root" mask getty@.service serial-getty@.service console-getty.service
# The host's way to ask for a clean stop is Ctrl-Alt-Del.
ln -s /lib/systemd/system/poweroff.target "$root/etc/systemd/system/ctrl-alt-del.target"
"""

"""What an application, a build and a one-off task try."""

from __future__ import annotations

from tests.lab.intrusion.attempts import APPLICATION, BUILD, GUESTS, TASK, Attempt, Guest

# Where each port of the platform is, as in docs/platform.md.
PORTS = {
    "core1": (22, 4222, 5432, 8222, 9071),
    "ctl1": (22, 9022, 9041, 9061),
    "router1": (22, 9031),
    "dea1": (22, 9051, 12345),
    "dea2": (22, 9051, 12345),
    "svc1": (22, 9081, 9082),
}

# Name, and what is tried, by each kind of guest.
_EVERY_GUEST = (
    ("become root", "os.setuid(0) or True"),
    ("become root for the file system alone", "call(122, 0) and read('/etc/shadow')"),
    ("become the uid before its own", "os.setuid(os.getuid() - 1) or True"),
    ("become the uid after its own", "os.setresuid(os.getuid() + 1, -1, -1) or True"),
    ("join root's group", "os.setgid(0) or True"),
    ("join the platform's group", "os.setgroups([800]) or True"),
    ("become root by sudo", "run('sudo', '-n', 'true')"),
    ("become root by su", "run('su', '-c', 'true')"),
    ("make a namespace of users", "call(272, 0x10000000)"),
    ("make a namespace of mounts", "call(272, 0x00020000)"),
    ("enter the namespaces of process 1", "call(308, os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)"),
    ("mount a file system", "LIBC.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"),
    ("unmount its root", "LIBC.umount2(b'/', 2) == 0"),
    ("change its root", "os.chroot('/tmp') or True"),
    ("make a device", "os.mknod('/tmp/device', 0o60600, os.makedev(8, 0)) or True"),
    ("set the clock", "time.clock_settime(time.CLOCK_REALTIME, time.time()) or True"),
    ("set the machine's name", "socket.sethostname('mine') or True"),
    ("restart the machine", "call(169, 0xfee1dead, 672274793, 0x89abcdef)"),
    ("load a module", "call(175, b'', 0, b'')"),
    ("load a BPF program", "call(321, 0, b'\\0' * 64, 64)"),
    ("watch the machine's performance", "call(298, b'\\0' * 128, -1, 0, -1, 0)"),
    ("read the kernel's messages", "call(103, 3, ctypes.create_string_buffer(64), 64)"),
    ("trace a neighbour", "everybody(lambda pid: call(101, 16, pid, 0, 0))"),
    ("read a neighbour's memory", "everybody(lambda pid: read(f'/proc/{pid}/mem'))"),
    ("read a neighbour's environment", "everybody(lambda pid: read(f'/proc/{pid}/environ'))"),
    ("read a neighbour's command line", "everybody(lambda pid: read(f'/proc/{pid}/cmdline'))"),
    ("enter a neighbour's root", "everybody(lambda pid: os.listdir(f'/proc/{pid}/root/'))"),
    ("list a neighbour's open files", "everybody(lambda pid: os.listdir(f'/proc/{pid}/fd'))"),
    ("see a neighbour's process", "others()"),
    ("signal process 1", "signalled(1)"),
    ("signal a neighbour", "foreign_signal()"),
    ("read the machine's shadow file", "read('/etc/shadow')"),
    ("know accounts of the machine", "'ingot-' in open('/etc/passwd').read()"),
    ("read the platform's configuration", "entries('/etc/ingot')"),
    ("read the platform's state", "readable(f'/var/lib/ingot/{n}' for n in entries('/var/lib/ingot'))"),
    (
        "read the machine's journal",
        "readable(f'/var/log/journal/{n}/system.journal' for n in entries('/var/log/journal'))",
    ),
    ("write the platform's programs", "write('/opt/ingot/current/x')"),
    ("read the share", "entries('/srv/ingot/share')"),
    ("write the share", "write('/srv/ingot/share/droplets/x')"),
    ("write to /etc", "write('/etc/intrusion')"),
    ("write to /usr", "write('/usr/bin/intrusion')"),
    ("write to /run", "write('/run/intrusion')"),
    ("write to /run/lock", "write('/run/lock/intrusion')"),
    ("write to the home of root", "write('/root/.ssh/authorized_keys')"),
    ("plan a job by cron", "write('/etc/cron.d/intrusion') or write('/var/spool/cron/crontabs/root')"),
    ("set a parameter of the kernel", "write('/proc/sys/kernel/core_pattern', b'|/tmp/x')"),
    ("ask for the kernel's magic", "write('/proc/sysrq-trigger', b'h')"),
    ("leave its control group", "write('/sys/fs/cgroup/cgroup.procs', str(os.getpid()).encode())"),
    ("spare itself when memory is short", "write('/proc/self/oom_score_adj', b'-1000')"),
    ("take precedence of the processor", "os.nice(-10) or True"),
    ("raise its limit of open files", "raise_limit(resource.RLIMIT_NOFILE)"),
    ("open a raw socket", "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    ("listen to the whole network", "socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 768)"),
    ("give the machine an address", "route_change()"),
    ("speak to systemd", "unix('/run/systemd/private')"),
    ("speak to the message bus of the machine", "unix('/run/dbus/system_bus_socket')"),
    ("forge a line of the machine's journal", "unix('/run/systemd/journal/socket', socket.SOCK_DGRAM)"),
    ("forge a line of the machine's syslog", "unix('/dev/log', socket.SOCK_DGRAM)"),
    ("have units started", "run('systemd-run', 'true')"),
    ("listen on a port below 1024", "bind(81)"),
    ("listen on the port of the front door", "bind(80)"),
    ("open more files than it may", "open_files(200000)"),
    ("ask the cloud for its credentials", "connect('169.254.169.254', 80)"),
    ("reach the lab's host", "reachable((F['gateway'], port) for port in (22, 8080, 5432, 4222))"),
    ("reach the bus of another machine by IPv6", "connect(F['link_local']['core1'], 4222)"),
    ("reach a controller by IPv6", "connect(F['link_local']['ctl1'], 9022)"),
    ("reach a DEA's files by IPv6", "connect(F['link_local']['dea1'], 12345)"),
    ("reach a router's probes by IPv6", "connect(F['link_local']['router1'], 9031)"),
    ("reach a neighbour's port past the routers", "reachable((v['host'], v['port']) for v in F['victims'])"),
    ("reach a neighbour's port on loopback", "victim(('127.0.0.1', v['port']) for v in F['victims'])"),
    (
        "reach a neighbour's port on another loopback",
        "victim(('127.9.9.9', v['port']) for v in F['victims'])",
    ),
    ("reach a neighbour's port on loopback by IPv6", "victim(('::1', v['port']) for v in F['victims'])"),
    ("reach a neighbour's own debugger", "connect('127.0.0.1', F['debugger'])"),
    ("reach a neighbour's abstract socket", "unix('\\0intrusion-victim')"),
    ("reach the port mapper", "datagram(F['machines']['core1'], 111)"),
)
# Which ports a guest's own machine has for itself.
_LOOPBACK = {APPLICATION: (22, 9051, 12345), TASK: (22, 9051, 12345), BUILD: (22, 9022, 9041, 9061)}
_TASKS_ALONE = (
    ("fill the disk", "fill('.', 2500)", 60),
    ("fill the disk by /tmp", "fill('/tmp', 2500)", 60),
    ("use up the disk's inodes", "inodes('.', 400000)", 140),
    ("hold eight times its memory", "hog(512)", 40),
    ("have more processes than it may", "forks(3000)", 40),
    ("fill the disk with its log", "flood(1500)", 60),
)
# Attempts that nothing refuses, and why; docs/security.md has them.
UNDEFENDED = {
    "reach a neighbour's abstract socket": "the kernel keeps abstract sockets apart by network namespace alone, and all guests of a machine have one"
}
_APPLICATION = (
    (
        "read a neighbour's folder by its name",
        "entries('/var/lib/ingot/dea/instances', (os.getcwd().split('/')[-2],))",
    ),
    ("read a droplet of a neighbour from the cache", "entries('/var/lib/ingot/dea/droplets')"),
    ("listen on the port of the agent's files", "bind(12345)"),
    ("listen on the bus's port of its machine", "bind(4222, F['machines']['core1'])"),
)
_BUILD = (
    ("read a neighbour's build", "entries('/var/lib/ingot/stager/tasks', os.getcwd().split('/'))"),
    ("read the password of the stager", "read('/etc/ingot/stager.yml')"),
    ("read the controller's database password", "read('/etc/ingot/controller.yml')"),
    ("write the cache of other users' builds", "write('/var/lib/ingot/stager/cache/intrusion')"),
)


def _ports() -> list[Attempt]:
    found: list[Attempt] = []
    for who in GUESTS:
        found += [
            Guest(who, f"reach {machine} port {port}", f"connect(F['machines'][{machine!r}], {port})")
            for machine, ports in PORTS.items()
            for port in ports
        ]
        found += [
            Guest(who, f"reach its machine's port {port} at {address}", f"connect({address!r}, {port})")
            for port in _LOOPBACK[who]
            for address in ("127.0.0.1", "127.0.0.2", "::1", "::ffff:127.0.0.1")
        ]
    return found


def table() -> list[Attempt]:
    """Return every attempt of a guest."""
    return [
        *(Guest(who, name, code) for who in GUESTS for name, code in _EVERY_GUEST),
        *_ports(),
        *(Guest(APPLICATION, name, code) for name, code in _APPLICATION),
        *(Guest(BUILD, name, code) for name, code in _BUILD),
        *(Guest(TASK, name, code, seconds, alone=True) for name, code, seconds in _TASKS_ALONE),
    ]

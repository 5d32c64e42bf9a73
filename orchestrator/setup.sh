#!/usr/bin/env bash
# Brings a bare Debian or Ubuntu machine to the point where Python can take over: looks before it touches anything,
# installs what is missing through apt, makes the virtual environment.
#
#   orchestrator/setup.sh up|test|dev|check|peers
#
# Reads LAB, PORT, SUBNET, IMAGE from the environment. Writes build/setup.env for the next step: which way (machines or
# processes), why, and the seconds that were spent. Exits 2, having changed nothing, when something stands in the way.
set -euo pipefail
cd "$(dirname "$0")/.."

goal=${1:?usage: orchestrator/setup.sh up|test|dev|check|peers}
lab=${LAB:-ingot} port=${PORT:-8080} subnet=${SUBNET:-} image=${IMAGE:-bookworm}
python=${PYTHON:-/usr/bin/python3}
need_gib=${INGOT_NEED_GIB:-6}
# The usual lab has the usual subnet; others are given a free one by the lab itself.
[ -n "$subnet" ] || [ "$lab" != ingot ] || subnet=198.18.0.0/24

# What a goal needs on this host, as COMMAND-OR-FILE:PACKAGE; the first half says whether the second is needed.
base=(python3:python3 /usr/lib/python3/dist-packages/apt_pkg.*.so:python3-apt ssh:openssh-client ip:iproute2 xz:xz-utils)
venv=('/usr/lib/python3*/ensurepip:python3-venv')
machines=(systemd-nspawn:systemd-container mmdebstrap:mmdebstrap nft:nftables zstd:zstd)
servers=(nats-server:nats-server nginx:nginx '/usr/share/nginx/modules-available/mod-http-lua.conf:libnginx-mod-http-lua'
  '/usr/lib/*/lua/5.1/cjson.so:lua-cjson'
  node:nodejs npm:npm pip3:python3-pip
  # What the samples need of what applications run on; the roles dea and stager install more of it (docs/frameworks.md).
  ruby:ruby bundle:ruby-bundler puma:puma java:default-jre-headless php:php-cli apache2:apache2-bin
  '/usr/lib/apache2/modules/libphp*.so:libapache2-mod-php' /usr/share/java/tomcat10-catalina.jar:libtomcat10-java
  javax2jakarta:tomcat-jakartaee-migration '/usr/share/rubygems-integration/all/specifications/sinatra-*:ruby-sinatra'
  '/usr/share/rubygems-integration/all/specifications/railties-*:ruby-railties')
# What the tests use beside the main job: real servers of data services, a balancer, clients, machines with a kernel of their own.
tests=(redis-server:redis-server haproxy:haproxy curl:curl openssl:openssl ps:procps qemu-system-x86_64:qemu-system-x86 mkfs.ext4:e2fsprogs bindfs:bindfs faketime:faketime)
# The disks of such machines; tests without a machine make some, too.
disks=(qemu-img:qemu-utils)
# What only the router's benchmark uses: its load, and what it compares with.
peers=(wrk:wrk haproxy:haproxy caddy:caddy)
database=('/usr/lib/postgresql/*/bin/postgres:postgresql')

problems=()
problem() { problems+=("$1"); }

present() { # present COMMAND-OR-GLOB
  case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    *) PATH="$PATH:/usr/sbin:/sbin" type -P "$1" >/dev/null ;;
  esac
}

missing() { # missing PAIR... : the packages still to be installed
  local pair
  for pair in "$@"; do present "${pair%:*}" || printf '%s\n' "${pair##*:}"; done
}

listening() { # listening PORT : does any socket of this host listen there?
  local hex line fields
  printf -v hex '%04X' "$1"
  for table in /proc/net/tcp /proc/net/tcp6; do
    [ -r "$table" ] || continue
    while read -r line; do
      read -ra fields <<<"$line"
      [[ ${fields[1]:-} == *:"$hex" && ${fields[3]:-} == 0A ]] && return 0
    done <"$table"
  done
  return 1
}

address_number() { # address_number A.B.C.D
  local IFS=. a b c d
  read -r a b c d <<<"$1"
  printf '%d' $(((a << 24) | (b << 16) | (c << 8) | d))
}

routed() { # routed CIDR : is some part of it already routed to an interface here (the default route apart)?
  local interface destination _gateway _flags _refcount _use _metric mask rest start bits mask_wanted
  start=$(address_number "${1%/*}") bits=${1#*/}
  mask_wanted=$((0xffffffff << (32 - bits) & 0xffffffff))
  while read -r interface destination _gateway _flags _refcount _use _metric mask rest; do
    [ "$interface" = Iface ] || [ "$mask" = 00000000 ] && continue
    # The kernel prints these as little-endian words.
    local net=$((16#${destination:6:2}${destination:4:2}${destination:2:2}${destination:0:2}))
    local net_mask=$((16#${mask:6:2}${mask:4:2}${mask:2:2}${mask:0:2}))
    local common=$((net_mask & mask_wanted))
    if (((net & common) == (start & common))); then
      taken_by=$interface
      return 0
    fi
  done </proc/net/route
  return 1
}

free_gib() { df -Pk "$1" | awk 'NR == 2 {printf "%d", $4 / 1048576}'; }

no_machines_because() { # prints why machines cannot be made here; nothing when they can
  [ "$(id -u)" = 0 ] || { echo "not root"; return; }
  unshare --mount --net --pid --fork true 2>/dev/null || { echo "namespaces cannot be made here (no CAP_SYS_ADMIN)"; return; }
  grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null || { echo "the kernel has no overlayfs"; return; }
  [ -e /proc/sys/net/ipv4/ip_forward ] && [ -w /proc/sys/net/ipv4/ip_forward ] || echo "the network settings cannot be changed here"
}

packages=() way=machines why=
case $goal in
  up)
    why=${INGOT_NO_MACHINES:+asked for by INGOT_NO_MACHINES}
    [ -n "$why" ] || why=$(no_machines_because)
    if [ -z "$why" ]; then wanted=("${base[@]}" "${venv[@]}" "${machines[@]}"); else way=processes wanted=("${venv[@]}" "${servers[@]}"); fi
    ;;
  test) wanted=("${base[@]}" "${venv[@]}" "${machines[@]}" "${servers[@]}" "${database[@]}" "${tests[@]}" "${disks[@]}") ;;
  dev) way=processes wanted=("${venv[@]}" "${servers[@]}") ;;
  check) way=processes wanted=("${venv[@]}" "${servers[@]}" "${disks[@]}") ;;
  peers) way=processes wanted=("${venv[@]}" "${peers[@]}") ;;
  *) echo "usage: orchestrator/setup.sh up|test|dev|check|peers" >&2; exit 2 ;;
esac
mapfile -t packages < <(missing "${wanted[@]}" | sort -u)

[ "${#packages[@]}" = 0 ] || [ "$(id -u)" = 0 ] ||
  problem "these packages are missing and only root can install them: ${packages[*]}. Run as root, or install them first."
[ "${#packages[@]}" = 0 ] || type -P apt-get >/dev/null || problem "apt-get is missing: this needs Debian or Ubuntu."
have=$(free_gib .)
((have >= need_gib)) || problem "too little disk: $have GiB free in $PWD, $need_gib GiB needed."
if present python3 && [ -x "$python" ]; then
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    problem "$python is older than Python 3.11. Name a newer one: make $goal PYTHON=/path/to/python3."
fi
if [ "$goal" = up ]; then
  case $image in bookworm | trixie) ;; *) problem "IMAGE=$image: must be bookworm or trixie." ;; esac
  [[ $port =~ ^[0-9]+$ ]] && ((port >= 1 && port <= 65535)) || { problem "PORT=$port: must be a number from 1 to 65535."; port=0; }
  [ -z "$subnet" ] || [[ $subnet =~ ^198\.1[89]\.[0-9]+\.0/24$ ]] || { problem "SUBNET=$subnet: must be a /24 of 198.18.0.0/15."; subnet=; }
  # A platform that is already up holds its own port and subnet: running `make up` again is allowed.
  if [ ! -e "build/labs/$lab/up" ] && [ ! -e build/dev/up ]; then
    if listening "$port"; then problem "port $port is taken on this host. Free it, or choose another: make up PORT=8081."; fi
    if [ "$way" = machines ] && [ -n "$subnet" ] && routed "$subnet"; then
      problem "subnet $subnet is taken: interface $taken_by has a route into it. Choose another: make up SUBNET=198.18.7.0/24."
    fi
  fi
fi
if ((${#problems[@]})); then
  echo "make $goal cannot start; nothing was changed:" >&2
  printf '  - %s\n' "${problems[@]}" >&2
  exit 2
fi

mkdir -p build
started=$EPOCHREALTIME
seconds_since() { awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}'; }

if ((${#packages[@]})); then
  echo "installing packages: ${packages[*]}"
  # Servers are installed for their programs; their services stay off on this host.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
  fi
  {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${packages[@]}"
  } >build/apt.log 2>&1 || { tail -n 20 build/apt.log >&2; echo "apt could not install ${packages[*]}; the whole output is in build/apt.log" >&2; exit 1; }
fi
packages_seconds=$(seconds_since "$started")

started=$EPOCHREALTIME
extras=control
case $goal in test | check | peers) extras=control,dev ;; esac
stamp=build/venv/.installed-$extras
fingerprint=$(cat pyproject.toml constraints.txt | sha256sum | cut -d' ' -f1)
# An environment made for the tests has all that others have.
if ! grep -qsx "$fingerprint" "$stamp" build/venv/.installed-control,dev; then
  echo "making the virtual environment"
  [ -x build/venv/bin/python ] || "$python" -m venv build/venv
  build/venv/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[$extras]" >build/pip.log 2>&1 ||
    { tail -n 20 build/pip.log >&2; echo "pip could not install Ingot's dependencies; the whole output is in build/pip.log" >&2; exit 1; }
  echo "$fingerprint" >"$stamp"
fi
printf 'WAY=%s\nWHY=%s\nSUBNET=%s\nPACKAGES_SECONDS=%s\nVENV_SECONDS=%s\n' "$way" "$why" "$subnet" "$packages_seconds" "$(seconds_since "$started")" >build/setup.env

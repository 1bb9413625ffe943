#!/bin/sh
# Install the Debian package in a fresh Debian, in a chroot of this machine: the doctor, the service
# by its unit's command, a job that goes on while the package is upgraded, and the purge.
set -eu
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo "A chroot needs root." >&2; exit 1; }
command -v debootstrap >/dev/null || {
    echo "debootstrap is needed: apt-get install debootstrap" >&2
    exit 1
}
package=$(ls -t dist/hpc-queue-api_*.deb | head -n 1)
root=$(mktemp -d)
chmod 755 "$root"
service=
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')

clean_up() {
    [ -z "$service" ] || kill "$service" 2>/dev/null || true
    umount -l "$root/proc" "$root/dev" "$root" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap clean_up EXIT

say() { printf '\n== %s\n' "$*"; }
inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
    DEBIAN_FRONTEND=noninteractive HPCQ_URL="http://127.0.0.1:$port" "$@"; }
expect() { "$@" || { echo "failed: $*" >&2; exit 1; }; }

# The unit's command, as systemd would run it.
start() {
    unit=$root/lib/systemd/system/hpc-queue-api.service
    command=$(sed -n 's/^ExecStart=//p' "$unit")
    folder=$(sed -n 's/^WorkingDirectory=//p' "$unit")
    chroot "$root" setpriv --reuid=hpcq --regid=hpcq --init-groups --reset-env \
        env -C "$folder" LANG=C.UTF-8 $command >>"$root/tmp/service.log" 2>&1 &
    service=$!
    for _ in $(seq 120); do
        inside hpcq ls >/dev/null 2>&1 && return
        kill -0 "$service" 2>/dev/null || break
        sleep 0.5
    done
    cat "$root/tmp/service.log" >&2
    exit 1
}

stop() {
    kill "$service"
    wait "$service" || true
    service=
}

say "a fresh Debian"
debootstrap --variant=minbase "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$root" >/dev/null
# A file system of its own, as a machine has: the service reads no files where no mount is shown.
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf"
cp "$package" "$root/tmp/hpcq.deb"

say "the installation"
inside apt-get install -y -qq --no-install-recommends /tmp/hpcq.deb >/dev/null
inside sed -i "s/^#PORT=.*/PORT=$port/" /etc/hpc-queue-api/hpcq.env
expect inside hpcq doctor

say "the service, and a job"
start
expect inside hpcq doctor --job
job=$(inside setpriv --reuid=hpcq --regid=hpcq --init-groups sh -c \
    'printf "#!/bin/sh\nsleep 20\necho went on\n" | hpcq submit -C /var/tmp -')
sleep 2
inside hpcq ls

say "an upgrade meanwhile"
stop
inside dpkg -i --force-confold /tmp/hpcq.deb
inside grep -q "^PORT=$port" /etc/hpc-queue-api/hpcq.env
start
expect inside hpcq wait "$job"
expect test "$(inside hpcq logs "$job")" = "went on"
inside hpcq show "$job" | head -n 12

say "the removal, and the purge"
stop
inside apt-get remove -y -qq hpc-queue-api >/dev/null
expect test -d "$root/var/lib/hpc-queue-api"
expect test ! -e "$root/usr/lib/hpc-queue-api"
inside apt-get purge -y -qq hpc-queue-api >/dev/null
expect test ! -e "$root/var/lib/hpc-queue-api"
expect test ! -e "$root/etc/hpc-queue-api"
say "passed"

#!/bin/sh
# Build the Debian package of the wheel in dist/: dist/hpc-queue-api_VERSION_ARCHITECTURE.deb.
#
# Everything is in a virtual environment of Debian's own Python, /usr/lib/hpc-queue-api, with the
# locked dependencies and their hashes. The package needs the Debian release that it was built on.
set -eu
cd "$(dirname "$0")/../.."

python=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])') || {
    echo "Debian's own Python is needed: apt-get install python3" >&2
    exit 1
}
version=$(.venv/bin/hpcq version)
wheel=dist/hpc_queue_api-$version-py3-none-any.whl
architecture=$(dpkg --print-architecture)
# The same source makes the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
umask 022
home=/usr/lib/hpc-queue-api
doc=$root/usr/share/doc/hpc-queue-api

# The environment: what it says of its place is where it will stand.
/usr/bin/$python -m venv --without-pip --symlinks "$root$home"
.venv/bin/python -m pip --python "$root$home/bin/python" install --quiet --no-input \
    --disable-pip-version-check --no-compile --require-hashes -r requirements.txt
.venv/bin/python -m pip --python "$root$home/bin/python" install --quiet --no-input \
    --disable-pip-version-check --no-compile --no-deps "$wheel"
"$root$home/bin/python" -B -c 'from hpcq.config import Settings
from hpcq.settings import example_file
print(example_file(Settings), end="")' > "$root/settings"
for shell in bash zsh fish; do
    # zsh looks at the first line.
    "$root$home/bin/python" -B -m hpcq completion $shell | sed '/./,$!d' > "$root/$shell"
done
LC_ALL=C.UTF-8 "$root$home/bin/python" -B packaging/debian/manual.py | gzip -9n > "$root/manual"
find "$root$home" -name __pycache__ -prune -exec rm -rf {} +
find "$root$home/bin" -type f ! -name 'hpcq*' -delete
rm -f "$root$home"/bin/python* "$root$home/lib64"
rm -rf "$root$home/include"
ln -s "/usr/bin/$python" "$root$home/bin/python"
sed -i "1s|^#!.*|#!$home/bin/python|" "$root$home"/bin/hpcq*
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > "$root$home/pyvenv.cfg"
# As Debian has libraries.
find "$root$home" -name "*.so*" -type f -exec chmod 644 {} +
# Installers leave there where the files came from.
find "$root$home" -path '*.dist-info/*' \( -name direct_url.json -o -name REQUESTED \) -delete

install -D -m 755 packaging/debian/hpcq "$root/usr/bin/hpcq"
install -D -m 644 packaging/hpc-queue-api.service -t "$root/lib/systemd/system"
install -D -m 644 packaging/closed.conf packaging/setuid.conf packaging/prometheus/alerts.yml \
    packaging/grafana/hpc-queue-api.json -t "$root/usr/share/hpc-queue-api"
install -D -m 644 "$root/bash" "$root/usr/share/bash-completion/completions/hpcq"
install -D -m 644 "$root/zsh" "$root/usr/share/zsh/vendor-completions/_hpcq"
install -D -m 644 "$root/fish" "$root/usr/share/fish/vendor_completions.d/hpcq.fish"
install -D -m 644 "$root/manual" "$root/usr/share/man/man1/hpcq.1.gz"
install -D -m 644 packaging/debian/logrotate "$root/etc/logrotate.d/hpc-queue-api"
mkdir -p "$root/etc/hpc-queue-api"
sed 's|^#STATE_DIRECTORY=.*|STATE_DIRECTORY=/var/lib/hpc-queue-api|' packaging/debian/settings.head \
    "$root/settings" > "$root/etc/hpc-queue-api/hpcq.env"
ln -s hpcq.env "$root/etc/hpc-queue-api/.env"
rm "$root/settings" "$root/bash" "$root/zsh" "$root/fish" "$root/manual"

install -d "$doc"
install -m 644 packaging/debian/copyright "$doc/copyright"
printf 'hpc-queue-api (%s) stable; urgency=medium\n\n  * See CHANGES.md.gz.\n\n -- %s  %s\n' \
    "$version" "$(sed -n 's/^Maintainer: //p' packaging/debian/control)" \
    "$(date -Ru -d "@$SOURCE_DATE_EPOCH")" | gzip -9n > "$doc/changelog.gz"
gzip -9nc CHANGELOG.md > "$doc/CHANGES.md.gz"

install -d "$root/DEBIAN"
for script in postinst prerm postrm; do
    install -m 755 packaging/debian/$script "$root/DEBIAN/$script"
    sed -i "s|@PYTHON@|$python|" "$root/DEBIAN/$script"
done
(cd "$root" && find etc -type f -printf '/%p\n' | sort) > "$root/DEBIAN/conffiles"
sed -e "s|@VERSION@|$version|; s|@ARCHITECTURE@|$architecture|; s|@PYTHON@|$python|" \
    -e "s|@SIZE@|$(du -sk --apparent-size "$root" | cut -f1)|" \
    packaging/debian/control > "$root/DEBIAN/control"
(cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z |
    xargs -0 md5sum > DEBIAN/md5sums)
find "$root" -newermt "@$SOURCE_DATE_EPOCH" -exec touch -hd "@$SOURCE_DATE_EPOCH" {} +

dpkg-deb --build --root-owner-group "$root" "dist/hpc-queue-api_${version}_$architecture.deb"

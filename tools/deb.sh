#!/bin/bash
# Build dist/holdfast.deb from bin/holdfast: deb.sh VERSION. The same commit and Go
# version give the same bytes; nothing is fetched.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v dpkg-deb >/dev/null || { echo "holdfast: dpkg-deb is needed: it is part of Debian" >&2; exit 1; }
# A commit without a release sorts before every release.
version=${1#v}
[[ $version =~ ^[0-9]+\.[0-9] ]] || version=0~$version
version=${version//[^A-Za-z0-9.+~-]/-}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
install -D -m 755 bin/holdfast "$root/usr/bin/holdfast"
for unit in packaging/systemd/*.service; do
	install -D -m 644 "$unit" "$root/usr/lib/systemd/system/$(basename "$unit")"
done
install -D -m 644 LICENSE "$root/usr/share/doc/holdfast/copyright"
# What is in the binary, as the linker noted it: modules, versions and their hashes.
go version -m bin/holdfast | sed '1s/^[^:]*: //' >"$root/usr/share/doc/holdfast/modules.txt"
chmod 644 "$root/usr/share/doc/holdfast/modules.txt"
mkdir -p "$root/DEBIAN"
cat >"$root/DEBIAN/control" <<EOF
Package: holdfast
Version: $version
Architecture: $(go env GOARCH | sed 's/^arm$/armhf/; s/^386$/i386/')
Maintainer: Holdfast maintainers <holdfast@localhost>
Section: admin
Priority: optional
Recommends: postgresql
Description: keeps a company recoverable, and proves it
 Backups, proven restores, recovery, incidents and evidence, from one plan file.
EOF
find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
mkdir -p dist
dpkg-deb --root-owner-group -Zxz --build "$root" dist/holdfast.deb >/dev/null
sha256sum dist/holdfast.deb

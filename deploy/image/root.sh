#!/bin/sh
# Lays out the image's root file system: root.sh PROGRAM SBOM ROOT
# The program, the libraries it is linked against, CA certificates and an account. No shell, no package manager.
set -eu
program=$1 sbom=$2 root=$3
umask 022
rm -rf "$root"
mkdir -p "$root/usr/local/bin" "$root/etc/ssl/certs" "$root/tmp"
chmod 1777 "$root/tmp"
cp "$program" "$root/usr/local/bin/medusa-fleet"
strip --strip-all "$root/usr/local/bin/medusa-fleet"

# Under the names that the loader looks for, which may be links here. `strip` may be a cross-build's: ldd only reads.
libraries=$(ldd "$program" | awk '$3 ~ /^\// {print $3} $1 ~ /^\/.*ld-linux/ {print $1}')
test -n "$libraries"
for library in $libraries; do
	mkdir -p "$root$(dirname "$library")"
	cp -L "$library" "$root$library"
done

cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >"$root/etc/passwd"
echo 'nonroot:x:65532:' >"$root/etc/group"
# Without it the C library asks DNS before /etc/hosts.
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
cp "$sbom" "$root/sbom.cdx.json"
chmod -R u=rwX,go=rX "$root/usr" "$root/etc" "$root/sbom.cdx.json"

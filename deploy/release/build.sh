#!/usr/bin/env bash
# Makes everything that a release consists of: build.sh PROGRAM TESTBED FOLDER
# PROGRAM is the release binary, TESTBED has Helm in it, FOLDER is made anew. The same commit and program on the same
# Debian give the same files, byte for byte: all have the time SOURCE_DATE_EPOCH, or else the commit's.
set -euo pipefail
umask 022
export LC_ALL=C TZ=UTC
[ $# = 3 ] || { echo "usage: $0 PROGRAM TESTBED FOLDER" >&2; exit 2; }
program=$(realpath "$1") testbed=$(realpath "$2") folder=$(realpath -m "$3")
cd "$(dirname "$0")/../.."
fail() { echo "no release: $*" >&2; exit 1; }

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
said=$("$program" --version) || fail "$program does not run"
[ "$said" = "medusa-fleet $version" ] || fail "$program is $said, Cargo.toml has $version: build it again"
[ ! -e "$folder" ] || [ -f "$folder/SHA256SUMS" ] || fail "$folder is there, and is no release"
if [ -z "${SOURCE_DATE_EPOCH:-}" ]; then
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) || fail "this is no Git checkout: set SOURCE_DATE_EPOCH"
  [ -z "$(git status --porcelain)" ] || echo "warning: files here differ from the commit" >&2
fi
case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac

name=medusa-fleet-$version binaries=medusa-fleet-$version-linux-$machine
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=$work/out
mkdir "$out"

# archive NAME: the folder $work/NAME, with nothing in it of this machine, account or moment.
archive() {
  tar --create --directory "$work" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX \
    --mtime="@$SOURCE_DATE_EPOCH" "$1" | gzip --no-name >"$out/$1.tar.gz"
}

"$program" crds --dir "$work/$name-crds"
for file in crds/*.yaml "$work/$name-crds"/*.yaml; do
  file=${file##*/}
  cmp -s "crds/$file" "$work/$name-crds/$file" || fail "crds/$file is stale: make crds"
done
"$program" crds >"$out/$name-crds.yaml"
archive "$name-crds"

mkdir -p "$work/$name-manifests"
cp -r --parents crds deploy/control-plane.yaml deploy/data-plane.yaml deploy/kustomize deploy/examples \
  kubeconfigs/data-plane-rbac.yaml "$work/$name-manifests"
archive "$name-manifests"
for role in control-plane data-plane; do
  grep -qF "image: \"medusa-fleet:$version\"" "deploy/$role.yaml" || fail "deploy/$role.yaml is stale: make manifests"
  cp "deploy/$role.yaml" "$out/$name-$role.yaml"
done

for chart in medusa-fleet medusa-fleet-data-plane; do
  cp -r "deploy/charts/$chart" "$work"
  # What Helm packs has the times of the files.
  find "$work/$chart" -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
  "$testbed" helm package "$work/$chart" --destination "$out" >"$work/helm.log" 2>&1 || fail "$(cat "$work/helm.log")"
  [ -f "$out/$chart-$version.tgz" ] || fail "deploy/charts/$chart/Chart.yaml has another version than $version"
done

# Without symbols, as in the image. Both names are one file: the name it is called by says what it is.
mkdir "$work/$binaries" "$work/$name-completions"
strip --strip-all -o "$work/$binaries/kubectl-medusa" "$program"
ln "$work/$binaries/kubectl-medusa" "$work/$binaries/medusa-fleet"
cp LICENSE "$work/$binaries"
archive "$binaries"
for binary in kubectl-medusa medusa-fleet; do
  for shell in bash elvish fish powershell zsh; do
    "$work/$binaries/$binary" completion "$shell" >"$work/$name-completions/$binary.$shell"
  done
done
archive "$name-completions"

deploy/image/build.sh "$program" "$out/$binaries-image.tar" >"$work/image.log" || fail "the image could not be built"

(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
rm -rf "$folder"
mkdir -p "$(dirname "$folder")"
mv "$out" "$folder"
echo "$folder: $(ls "$folder" | wc -l) files, $(du -sk "$folder" | cut -f 1) KiB"

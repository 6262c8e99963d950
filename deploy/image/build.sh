#!/usr/bin/env bash
# Builds the OCI image of a release binary, without a container daemon: build.sh PROGRAM OUTPUT.tar
# The same binary on the same Debian gives the same archive, byte for byte. Needs buildah.
set -euo pipefail
program=$(realpath "$1") output=$(realpath -m "$2")
cd "$(dirname "$0")/../.."
command -v buildah >/dev/null || {
  echo "buildah is missing; install it with: apt-get install -y --no-install-recommends buildah" >&2
  exit 2
}
work=$(mktemp -d)
container=""
buildah() { command buildah --storage-driver vfs --root "$work/storage" --runroot "$work/run" "$@"; }
trap '[ -z "$container" ] || buildah rm "$container" >/dev/null 2>&1; rm -rf "$work"' EXIT

target=$(rustc -vV | sed -n 's/^host: //p')
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
cargo metadata --format-version 1 --locked --filter-platform "$target" |
  deploy/image/sbom.py "$target" >"$work/sbom.cdx.json"
deploy/image/root.sh "$program" "$work/sbom.cdx.json" "$work/root"

container=$(buildah from scratch)
buildah copy --quiet "$container" "$work/root" / >/dev/null
buildah config --entrypoint '["/usr/local/bin/medusa-fleet"]' --cmd '' --user 65532:65532 \
  --label org.opencontainers.image.title=medusa-fleet \
  --label "org.opencontainers.image.version=$version" \
  --label org.opencontainers.image.licenses=Apache-2.0 "$container"
mkdir -p "$(dirname "$output")"
rm -f "$output"
# With the name that a kubelet makes of `medusa-fleet`: an image that is loaded into a node, as by `kind load`, is found.
buildah commit --quiet --timestamp 0 --format oci --disable-compression=false \
  "$container" "oci:$work/image:docker.io/library/medusa-fleet:$version" >/dev/null
# An archive that buildah writes has the time of day in it.
tar --create --file "$output" --directory "$work/image" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner \
  --mode=u=rwX,go=rX --mtime=@0 blobs index.json oci-layout
cp "$work/sbom.cdx.json" "${output%.tar}.sbom.cdx.json"
echo "$output: $(du -k "$output" | cut -f 1) KiB, medusa-fleet:$version"

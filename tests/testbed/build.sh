#!/bin/sh
# Builds the testbed: build.sh OUTPUT [go build flags, such as -tags=assets]
set -eu
output=$(realpath -m "$1")
shift
cd "$(dirname "$0")"
# Kubernetes' own build stamps its programs with their version by linker flags; theirs is the pinned module's.
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kubernetes#v1.}
version=k8s.io/component-base/version
CGO_ENABLED=0 go build -buildvcs=false -o "$output.new" \
	-ldflags="-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}" "$@" .
# In one step: somebody may be running the old one, or about to.
mv "$output.new" "$output"

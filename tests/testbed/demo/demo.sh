#!/usr/bin/env bash
# A fleet on this machine, from nothing to a backup that really happened: `make demo`.
#
#   demo.sh        run it; leaves the fleet running until Ctrl-C (DEMO_EXIT=1: ends after success)
#   demo.sh down   end a fleet that runs in another terminal
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
work=$root/target/demo
logs=$work/logs
fleet=$work/fleet
testbed=$root/target/testbed/testbed
# MEDUSA_FLEET names another build of the program, such as a debug build.
# What `make build` has made is used; without it a debug build, which `make test` needs as well.
# With a test beside it the crates are built with the features that tests need, once for both.
built=debug how=(--bin medusa-fleet --test cli)
[ ! -x "$root/target/release/medusa-fleet" ] || built=release how=(--release)
program=${MEDUSA_FLEET:-$root/target/$built/medusa-fleet}
namespace=medusa-fleet
# Where the datacenters are in their data planes.
datacenter_namespace=shop
bucket_secret=backup-bucket
children=()

# shellcheck source=tests/testbed/demo/progress.sh
. "$here/progress.sh"

kubectl() { "$testbed" kubectl --kubeconfig "$fleet/$1.kubeconfig" "${@:2}"; }
medusa() { setpriv --pdeathsig KILL "$program" --kubeconfig "$fleet/control-plane.kubeconfig" "$@"; }
# field OBJECT KEY: a string of the line of JSON that the testbed printed when it was ready.
field() { printf '%s' "$ready" | sed -n "s/.*\"$1\":{[^}]*\"$2\":\"\([^\"]*\)\".*/\1/p"; }

# background LOG COMMAND…: starts a program that dies with this script, however this script ends.
background() {
	local log=$1
	shift
	setpriv --pdeathsig KILL "$@" >>"$log" 2>&1 </dev/null {fleet_input}>&- &
	children+=("$!:$log")
}

# alive: whether everything that was started still runs.
alive() {
	local child
	for child in "${children[@]}"; do
		if ! kill -0 "${child%%:*}" 2>/dev/null; then
			part_log=${child#*:}
			echo "a program of the fleet has ended" >&2
			return 1
		fi
	done
}

tear_down() {
	local status=$?
	trap - EXIT INT TERM HUP
	[ "$status" -eq 0 ] || [ "$status" -ge 128 ] || failed
	# The testbed takes every process of its fleet with it.
	jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true
	wait
	[ ! -f "$work/pid" ] || [ "$(cat "$work/pid")" != $$ ] || rm -f "$work/pid"
	[ "$status" -lt 128 ] || status=0
	exit "$status"
}

demo_down() {
	local pid
	pid=$(cat "$work/pid" 2>/dev/null) && kill -TERM "$pid" 2>/dev/null || { echo "no demonstration is running" && return; }
	while kill -0 "$pid" 2>/dev/null; do sleep 0.2; done
	echo "the fleet is gone"
}

build() {
	step "Build medusa-fleet"
	if [ -z "${MEDUSA_FLEET:-}" ]; then
		quietly "$logs/cargo.log" cargo build "${how[@]}" --locked --manifest-path "$root/Cargo.toml"
		ln -sf medusa-fleet "$root/target/$built/kubectl-medusa"
	fi
	step "Build the testbed: etcd, kube-apiserver, kube-controller-manager, kubectl (about 10 minutes the first time)"
	quietly "$logs/testbed-build.log" "$here/../build.sh" "$testbed"
	step "Install Cassandra, Medusa and an object store"
	quietly "$logs/install.log" "$testbed" install
}

start_fleet() {
	step "Start one control plane, two data planes and an object store" "$logs/testbed.log"
	# Both ends are this script's: what the testbed prints, and the standard input whose end ends it.
	coproc TESTBED { exec "$testbed" up --dir "$fleet" --data-planes 2 --pods --s3 2>"$logs/testbed.log"; }
	fleet_pid=$TESTBED_PID
	exec {fleet_input}>&"${TESTBED[1]}" {fleet_output}<&"${TESTBED[0]}"
	eval "exec ${TESTBED[1]}>&-"
	children+=("$fleet_pid:$logs/testbed.log")
	IFS= read -r ready <&"$fleet_output"
	case $ready in *'"ready":true'*) ;; *) echo "$ready" >&2 && return 1 ;; esac
	for cluster in control-plane dp-1 dp-2; do
		"$program" crds | kubectl $cluster apply --server-side -f - >"$logs/crds.log"
	done
	note "control-plane, dp-1 and dp-2 are up, with the CRDs of medusa-fleet"
}

start_datacenters() {
	step "Create a Cassandra datacenter in each data plane" "$logs/testbed.log"
	for number in 1 2; do
		"$testbed" datacenter --kubeconfig "$fleet/dp-$number.kubeconfig" --namespace $datacenter_namespace \
			--cluster shop --datacenter dc$number --labels fleet.k8ssandra.io/cluster=shop \
			--bucket-secret $bucket_secret --s3-endpoint "$(field s3 endpoint)"
	done
	note "dc1 and dc2 of cluster shop; their pods wait for the bucket's secret"
}

start_controllers() {
	step "Start the controllers" "$logs/control-plane.log"
	for cluster in control-plane dp-1 dp-2; do
		kubectl $cluster create namespace $namespace >>"$logs/crds.log"
		role=data-plane
		[ $cluster = control-plane ] && role=control-plane
		background "$logs/$cluster.log" "$program" $role --kubeconfig "$fleet/$cluster.kubeconfig" \
			--namespace $namespace --metrics-addr 127.0.0.1:0
	done
	note "medusa-fleet control-plane, and medusa-fleet data-plane twice"
	step "Register both data planes by kubeconfig" "$logs/control-plane.log"
	for cluster in dp-1 dp-2; do
		medusa register $cluster --from-kubeconfig "$fleet/$cluster.kubeconfig"
	done
}

replicate() {
	step "Create a MedusaConfiguration with its bucket secret; the control plane copies both" "$logs/control-plane.log"
	kubectl control-plane apply --server-side -f - >>"$logs/crds.log" <<-YAML
		apiVersion: v1
		kind: Secret
		metadata:
		  name: $bucket_secret
		  namespace: $namespace
		stringData:
		  credentials: |
		    [default]
		    aws_access_key_id = $(field s3 accessKey)
		    aws_secret_access_key = $(field s3 secretKey)
		---
		apiVersion: medusa.k8ssandra.io/v1alpha1
		kind: MedusaConfiguration
		metadata:
		  name: backups
		  namespace: $namespace
		  annotations:
		    fleet.k8ssandra.io/targets: "*"
		spec:
		  storageProperties:
		    storageProvider: s3_compatible
		    bucketName: $(field s3 bucket)
		    prefix: shop
		    storageSecretRef:
		      name: $bucket_secret
	YAML
	for cluster in dp-1 dp-2; do
		await 30 "secret $bucket_secret in $cluster" \
			kubectl $cluster -n $datacenter_namespace get secret $bucket_secret
		await 30 "MedusaConfiguration in $cluster" \
			kubectl $cluster -n $datacenter_namespace get medusaconfiguration backups
		note "$cluster/$datacenter_namespace has MedusaConfiguration backups and secret $bucket_secret"
	done
}

is_ready() { kubectl "dp-$1" -n $datacenter_namespace wait --for=condition=Ready --timeout=0 "cassandradatacenter/dc$1"; }

write_rows() {
	step "Wait until Cassandra and Medusa answer" "$fleet/logs"
	for number in 1 2; do
		await 240 "datacenter dc$number" is_ready $number
		note "dc$number in dp-$number is ready"
	done
	step "Write rows by CQL" "$logs/cql.log"
	for number in 1 2; do
		address=$(kubectl dp-$number -n $datacenter_namespace get pods -o 'jsonpath={.items[0].status.podIP}')
		rows=$("$testbed" cql --address "$address" load $((number * 1000)) 2>"$logs/cql.log")
		note "dc$number: $rows rows in shop.orders"
	done
}

back_up() {
	step "Back up the fleet: kubectl medusa backup demo --watch" "$logs/control-plane.log"
	medusa backup demo --watch --timeout 3m
	step "What there is now"
	for verb in dataplanes clusters backups status; do
		printf '\n$ kubectl medusa %s\n' $verb
		medusa $verb || [ $verb = status ]
	done
	printf '\nObjects in bucket %s:\n' "$(field s3 bucket)"
	AWS_ACCESS_KEY_ID=$(field s3 accessKey) AWS_SECRET_ACCESS_KEY=$(field s3 secretKey) \
		"$testbed" objects --endpoint "$(field s3 endpoint)" --summary
}

# What the user gets on PATH: kubectl, with its plugin, pointed at the control plane.
write_wrappers() {
	mkdir -p "$work/bin"
	ln -sf "$program" "$work/bin/kubectl-medusa"
	ln -sf "$program" "$work/bin/medusa-fleet"
	printf '#!/bin/sh\nexec "%s" kubectl "$@"\n' "$testbed" >"$work/bin/kubectl"
	chmod +x "$work/bin/kubectl"
}

farewell() {
	cat <<-TEXT

		==> Done in $SECONDS s. The fleet runs on. In another terminal:

		  export PATH=$work/bin:\$PATH KUBECONFIG=$fleet/control-plane.kubeconfig

		  kubectl medusa status
		  kubectl medusa backup --watch
		  kubectl medusa describe cluster/shop
		  kubectl -n $namespace get dataplanes,fleetclusters,fleetbackups,fleetbackupjobs
		  kubectl --kubeconfig $fleet/dp-1.kubeconfig -n $datacenter_namespace get pods,medusabackups

		Logs: $logs (controllers), $fleet/logs (Cassandra and Medusa).
		Ctrl-C here, or make demo-down, ends it.
	TEXT
}

[ "${1:-}" != down ] || { demo_down && exit; }
if [ -f "$work/pid" ] && kill -0 "$(cat "$work/pid")" 2>/dev/null; then
	echo "a demonstration is running already: make demo-down ends it" >&2
	exit 1
fi
echo "==> Check what this machine has"
"$root/tests/check-machine"
rm -rf "$work"
mkdir -p "$logs"
echo $$ >"$work/pid"
trap tear_down EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
build
start_fleet
start_datacenters
start_controllers
replicate
write_rows
back_up
write_wrappers
if [ -n "${DEMO_EXIT:-}" ]; then
	printf '\n==> Done in %s s\n' "$SECONDS"
	exit
fi
farewell
while alive; do sleep 1; done
exit 1

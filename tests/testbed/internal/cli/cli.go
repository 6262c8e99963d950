// Package cli has the testbed's own sub-commands.
package cli

import (
	"fmt"
	"os"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/crds"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sandbox"
)

const usage = `testbed runs fleets of Kubernetes clusters on this machine, for tests and demonstrations.

  testbed up --dir DIR [--data-planes N] [--pods] [--s3]          run a fleet until end of file or a signal
             [--image NAME=ARCHIVE]
  testbed sim --dir DIR --data-planes N                           simulate many data planes in one process
  testbed install                                                 install what --pods and --s3 run
  testbed datacenter --kubeconfig FILE                            create a Cassandra datacenter in a data plane
  testbed cql --address IP (load ROWS | count | execute CQL…)     speak with a Cassandra node
  testbed objects --endpoint URL                                  list the objects in the bucket
  testbed crds                                                    print the CRDs that up installs
  testbed slots                                                   slots of cron expressions, as robfig/cron has them
  testbed etcd|kube-apiserver|kube-controller-manager|kubectl …   the real programs

"testbed COMMAND -h" lists a command's flags.
`

var commands = map[string]func(args []string) error{
	"up":         up,
	"sim":        simulate,
	"install":    installPieces,
	"datacenter": createDatacenter,
	"cql":        runCQL,
	"objects":    listObjects,
	"slots":      printSlots,
	"crds": func([]string) error {
		_, err := os.Stdout.Write(crds.CassandraDatacenter)
		return err
	},
	sandbox.Command: func(args []string) error { return sandbox.Enter(args[0]) },
}

// Run runs the sub-command that args name and returns the exit code.
func Run(args []string) int {
	if len(args) < 2 || args[1] == "help" || args[1] == "-h" || args[1] == "--help" {
		fmt.Print(usage)
		return 0
	}
	command, ok := commands[args[1]]
	if !ok {
		fmt.Fprintf(os.Stderr, "testbed: unknown command %q\n\n%s", args[1], usage)
		return 2
	}
	if err := command(args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "testbed: %v\n", err)
		return 1
	}
	return 0
}

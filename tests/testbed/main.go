// Testbed runs fleets of real Kubernetes clusters on one machine without a container engine, for the tests
// and the demonstration of medusa-fleet. README.md beside this file describes its commands and the protocol of `testbed up`.
package main

import (
	"os"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/cli"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/programs"
)

func main() {
	programs.RunIfNamed(os.Args)
	os.Exit(cli.Run(os.Args))
}

package main

import (
	"os"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/programs"
)

func main() {
	programs.RunIfNamed(os.Args)
}

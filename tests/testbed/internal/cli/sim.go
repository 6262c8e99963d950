package cli

import (
	"context"
	"errors"
	"flag"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sim"
)

// simulate runs simulated data planes.
func simulate(args []string) error {
	var s session
	var config sim.Config
	flags := flag.NewFlagSet("sim", flag.ExitOnError)
	s.declare(flags, "directory for keys and kubeconfigs (required)")
	flags.IntVar(&config.Planes, "data-planes", 1, "number of data planes: sim-1 and so on")
	flags.StringVar(&config.Definitions, "crds", "crds", "directory of Medusa's definitions")
	flags.StringVar(&config.Seed.Namespace, "namespace", "cassandra", "namespace of the datacenters")
	flags.IntVar(&config.Seed.Datacenters, "datacenters", 1, "CassandraDatacenters in each data plane")
	flags.IntVar(&config.Seed.Nodes, "nodes", 3, "nodes of each datacenter")
	flags.IntVar(&config.Seed.Backups, "backups", 10, "MedusaBackups of each datacenter")
	flags.DurationVar(&config.MedusaTakes, "medusa-takes", 5*time.Second, "how long a backup takes")
	_ = flags.Parse(args)
	return s.run(flags.Name(), func(_ context.Context, dir string) (running, error) {
		config.Dir = dir
		planes, err := sim.Start(config)
		if err != nil {
			return running{}, err
		}
		refuse := func(protocol.Command) protocol.Answer {
			return protocol.Failure(errors.New("faults are set through the admin port; there are no commands"))
		}
		return running{ready: planes.Describe(), do: refuse, stop: planes.Stop}, nil
	})
}

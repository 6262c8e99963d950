package cli

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sim"
)

// simulate runs simulated data planes until end of file or a signal, as up does.
func simulate(args []string) error {
	var config sim.Config
	var tty bool
	flags := flag.NewFlagSet("sim", flag.ExitOnError)
	flags.StringVar(&config.Dir, "dir", "", "directory for keys and kubeconfigs (required)")
	flags.IntVar(&config.Planes, "data-planes", 1, "number of data planes: sim-1 and so on")
	flags.StringVar(&config.Definitions, "crds", "crds", "directory of Medusa's definitions")
	flags.StringVar(&config.Seed.Namespace, "namespace", "cassandra", "namespace of the datacenters")
	flags.IntVar(&config.Seed.Datacenters, "datacenters", 1, "CassandraDatacenters in each data plane")
	flags.IntVar(&config.Seed.Nodes, "nodes", 3, "nodes of each datacenter")
	flags.IntVar(&config.Seed.Backups, "backups", 10, "MedusaBackups of each datacenter")
	flags.DurationVar(&config.MedusaTakes, "medusa-takes", 5*time.Second, "how long a backup takes")
	flags.BoolVar(&tty, "foreground-tty", false, "leave standard input alone and end by signal only")
	_ = flags.Parse(args)
	if config.Dir == "" {
		return errors.New("sim: --dir is missing")
	}
	absolute, err := filepath.Abs(config.Dir)
	if err != nil {
		return err
	}
	config.Dir = absolute
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := runSimulation(ctx, stop, config, tty); err != nil {
		return announceFailure(err)
	}
	return nil
}

func runSimulation(ctx context.Context, stop context.CancelFunc, config sim.Config, tty bool) error {
	commands := controlInput(ctx, stop, tty)
	unlock, err := own(config.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	fleet, err := sim.Start(config)
	if err != nil {
		return err
	}
	defer fleet.Stop()
	if err := protocol.Write(os.Stdout, fleet.Describe()); err != nil {
		return err
	}
	if commands != nil {
		go func() {
			_ = protocol.Serve(commands, os.Stdout, func(protocol.Command) protocol.Answer {
				return protocol.Failure(errors.New("a simulation is told what to do through its admin port"))
			})
			stop()
		}()
	}
	<-ctx.Done()
	return nil
}

package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/fleet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/lab"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

type upFlags struct {
	session
	cache         string
	dataPlanes    int
	manager, crds bool
	pods, s3      bool
	images        imageFlag
}

// imageFlag collects images, each as NAME=ARCHIVE.
type imageFlag map[string]string

func (f imageFlag) String() string { return "" }

// Set takes one.
func (f imageFlag) Set(text string) error {
	name, archive, ok := strings.Cut(text, "=")
	if !ok || name == "" || archive == "" {
		return fmt.Errorf("%q is not NAME=ARCHIVE", text)
	}
	f[name] = archive
	return nil
}

func up(args []string) error {
	f := upFlags{images: imageFlag{}}
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	f.declare(flags, "directory for keys, kubeconfigs, logs and data (required)")
	flags.IntVar(&f.dataPlanes, "data-planes", 1, "number of data-plane clusters")
	flags.BoolVar(&f.manager, "controller-manager", false, "run kube-controller-manager in every cluster")
	flags.BoolVar(&f.crds, "crds", true, "install the stand-in for cass-operator's CRD in every cluster")
	flags.BoolVar(&f.pods, "pods", false, "run the pods of data planes as local processes (implies --controller-manager)")
	flags.Var(f.images, "image",
		"`NAME=ARCHIVE`: run pods of this image from an OCI archive, in every cluster (implies --controller-manager; may be repeated)")
	flags.BoolVar(&f.s3, "s3", false, "run an S3-compatible object store")
	cacheFlag(flags, &f.cache)
	_ = flags.Parse(args)
	f.manager = f.manager || f.pods || len(f.images) > 0
	return f.run(flags.Name(), f.start)
}

// start brings everything up, in an order in which each part finds what it needs; its end takes it down in reverse.
func (f upFlags) start(ctx context.Context, dir string) (running, error) {
	var paths install.Paths
	if f.pods || f.s3 {
		var err error
		if paths, err = install.Find(f.cache); err != nil {
			return running{}, err
		}
	}
	beside, err := lab.Start(lab.Config{Dir: dir, Pods: f.pods, S3: f.s3, Paths: paths, Images: f.images})
	if err != nil {
		return running{}, err
	}
	clusters, err := fleet.Up(ctx, fleet.Config{
		Dir: dir, DataPlanes: f.dataPlanes, ControllerManager: f.manager, CRDs: f.crds,
		ServiceAccounts: len(f.images) > 0, OnCluster: beside.Join,
	})
	if err != nil {
		beside.Stop()
		return running{}, err
	}
	ready := clusters.Describe()
	ready.S3 = beside.Describe()
	return running{
		ready: ready,
		do: func(command protocol.Command) protocol.Answer {
			if command.Do == protocol.Rotate {
				return beside.Rotate()
			}
			return clusters.Do(ctx, command)
		},
		stop: func() {
			beside.Stop()
			clusters.Down()
		},
	}, nil
}

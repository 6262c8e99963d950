// Package lab makes a fleet's data planes run real Cassandra and Medusa: a pod runner and a stand-in for cass-operator
// in each, and one object store for their backups.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/datacenter"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/fleet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/objectstore"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/podrunner"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

// Config says what to run, and where the installed pieces are.
type Config struct {
	Dir      string
	Pods, S3 bool
	Paths    install.Paths
}

// Lab is what runs beside the API servers.
type Lab struct {
	config Config
	store  *objectstore.Store
	block  *loopback.Block
	dns    *podrunner.DNS

	ctx       context.Context
	cancel    context.CancelFunc
	operators sync.WaitGroup

	mutex   sync.Mutex
	runners []*podrunner.Runner
}

// Start starts the parts that clusters share.
func Start(config Config) (*Lab, error) {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Lab{config: config, ctx: ctx, cancel: cancel}
	if err := l.start(); err != nil {
		l.Stop()
		return nil, err
	}
	return l, nil
}

func (l *Lab) start() (err error) {
	if err := os.MkdirAll(l.config.Dir, 0o755); err != nil {
		return err
	}
	if l.config.S3 {
		if l.store, err = objectstore.Start(l.config.Paths.MinIO, l.config.Dir); err != nil {
			return fmt.Errorf("object store: %w", err)
		}
	}
	if !l.config.Pods {
		return nil
	}
	if l.block, err = loopback.ClaimBlock(); err != nil {
		return err
	}
	l.dns, err = podrunner.StartDNS(l.block.First())
	return err
}

// Join gives a data plane its pod runner and its operator. The control plane hosts no datacenters.
func (l *Lab) Join(cluster *fleet.Cluster) error {
	if !l.config.Pods || cluster.Name == fleet.ControlPlane {
		return nil
	}
	client, err := cluster.Config()
	if err != nil {
		return err
	}
	runner, err := podrunner.Start(podrunner.Config{
		Cluster: cluster.Name, Client: client, Dir: l.config.Dir, Addresses: l.block, DNS: l.dns,
		Paths: l.config.Paths, Certificates: cluster.Certificates(), Log: logf,
	})
	if err != nil {
		return fmt.Errorf("pod runner of %s: %w", cluster.Name, err)
	}
	l.mutex.Lock()
	l.runners = append(l.runners, runner)
	l.mutex.Unlock()
	l.operators.Go(func() {
		prefixed := func(format string, arguments ...any) { logf(cluster.Name+": "+format, arguments...) }
		if err := datacenter.Run(l.ctx, client, prefixed); err != nil {
			prefixed("stand-in for cass-operator: %v", err)
		}
	})
	return nil
}

// Describe is the object store as the protocol shows it.
func (l *Lab) Describe() *protocol.S3 {
	if l.store == nil {
		return nil
	}
	return &protocol.S3{
		PID: l.store.PID(), Endpoint: l.store.Endpoint, Bucket: objectstore.Bucket,
		AccessKey: l.store.AccessKey, SecretKey: l.store.SecretKey,
	}
}

// Rotate gives the object store other credentials.
func (l *Lab) Rotate() protocol.Answer {
	if l.store == nil {
		return protocol.Failure(errors.New("rotate: this fleet has no object store"))
	}
	if err := l.store.Rotate(); err != nil {
		return protocol.Failure(err)
	}
	return protocol.Answer{OK: true, S3: l.Describe()}
}

// Stop ends everything. Pods stay in their clusters, and run again when the fleet is started in the same directory.
func (l *Lab) Stop() {
	l.cancel()
	l.operators.Wait()
	l.mutex.Lock()
	defer l.mutex.Unlock()
	var group sync.WaitGroup
	for _, runner := range l.runners {
		group.Go(runner.Stop)
	}
	group.Wait()
	if l.store != nil {
		l.store.Stop()
	}
	if l.dns != nil {
		l.dns.Close()
	}
	if l.block != nil {
		l.block.Close()
	}
}

func logf(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, "testbed: "+format+"\n", arguments...)
}

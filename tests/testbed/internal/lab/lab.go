// Package lab makes a fleet's clusters run pods. Data planes run real Cassandra and Medusa: a pod runner and a stand-in for
// cass-operator in each, and one object store for their backups. With images, every cluster runs containers of them.
package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/datacenter"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/fleet"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/images"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/objectstore"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/podrunner"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/runc"
)

// Config says what to run, and where the installed pieces are.
type Config struct {
	Dir      string
	Pods, S3 bool
	Paths    install.Paths
	// Images are OCI archives by the name that pods give them.
	Images map[string]string
}

// Lab is what runs beside the API servers.
type Lab struct {
	config Config
	store  *objectstore.Store
	block  *loopback.Block
	dns    *podrunner.DNS
	// images and runtime are those of containers; nil without images.
	images  map[string]*images.Image
	runtime *runc.Runtime

	ctx       context.Context
	cancel    context.CancelFunc
	operators sync.WaitGroup

	mutex   sync.Mutex
	runners []*podrunner.Runner
	// servers are the addresses of API servers, in the order in which they joined.
	servers []string
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
	if len(l.config.Images) > 0 {
		if err := l.loadImages(); err != nil {
			return err
		}
	}
	if !l.config.Pods && len(l.images) == 0 {
		return nil
	}
	if l.block, err = loopback.ClaimBlock(); err != nil {
		return err
	}
	l.dns, err = podrunner.StartDNS(l.block.First())
	return err
}

func (l *Lab) loadImages() (err error) {
	if l.runtime, err = runc.New(filepath.Join(l.config.Dir, "runc")); err != nil {
		return err
	}
	l.images = map[string]*images.Image{}
	for name, archive := range l.config.Images {
		if l.images[name], err = images.Load(archive, filepath.Join(l.config.Dir, "images")); err != nil {
			return err
		}
	}
	return nil
}

// serversFor are the addresses of all API servers so far, with one first.
func (l *Lab) serversFor(own string) []string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return append([]string{own}, l.servers...)
}

// Join gives a cluster its pod runner, and a data plane its operator. The control plane hosts no datacenters, and pods only
// where there are images.
func (l *Lab) Join(cluster *fleet.Cluster) error {
	l.mutex.Lock()
	l.servers = append(l.servers, cluster.Address())
	l.mutex.Unlock()
	datacenters := l.config.Pods && cluster.Name != fleet.ControlPlane
	if !datacenters && len(l.images) == 0 {
		return nil
	}
	client, err := cluster.Config()
	if err != nil {
		return err
	}
	runner, err := podrunner.Start(podrunner.Config{
		Cluster: cluster.Name, Client: client, Dir: l.config.Dir, Addresses: l.block, DNS: l.dns,
		Recipes: datacenters, Paths: l.config.Paths, Images: l.images, Runtime: l.runtime,
		APIServers:   func() []string { return l.serversFor(cluster.Address()) },
		Certificates: cluster.Certificates(), Log: logf,
	})
	if err != nil {
		return fmt.Errorf("pod runner of %s: %w", cluster.Name, err)
	}
	l.mutex.Lock()
	l.runners = append(l.runners, runner)
	l.mutex.Unlock()
	if !datacenters {
		return nil
	}
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
	if l.runtime != nil {
		l.runtime.Close()
	}
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

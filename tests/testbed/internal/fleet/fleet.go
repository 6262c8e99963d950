// Package fleet runs a fleet of Kubernetes clusters on this machine: one etcd, and an API server per cluster that keeps
// its objects there under a prefix of its own.
package fleet

import (
	"context"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/protocol"
)

// ControlPlane is the name of the control plane's cluster.
const ControlPlane = "control-plane"

// DataPlane is the name of the n-th data plane's cluster, counted from one.
func DataPlane(n int) string { return fmt.Sprintf("dp-%d", n) }

// startsAtOnce bounds the API servers that start together: each keeps a core busy for seconds.
const startsAtOnce = 4

// Config says what fleet to run.
type Config struct {
	// Dir is an absolute path; everything the fleet writes is in it.
	Dir               string
	DataPlanes        int
	ControllerManager bool
	CRDs              bool
	// ServiceAccounts gives pods their account and its token when they are created; the account must be there then.
	ServiceAccounts bool
	// OnCluster is called with each cluster that is ready.
	OnCluster func(*Cluster) error
}

// Fleet is a running fleet.
type Fleet struct {
	config   Config
	etcd     *etcd
	mutex    sync.Mutex
	clusters []*Cluster
	proxies  []*proxy
}

// Up starts a fleet. Where it fails, what was started is gone again.
func Up(ctx context.Context, config Config) (*Fleet, error) {
	if err := os.MkdirAll(config.Dir, 0o755); err != nil {
		return nil, err
	}
	f := &Fleet{config: config}
	if err := f.up(ctx); err != nil {
		f.Down()
		return nil, err
	}
	return f, nil
}

func (f *Fleet) up(ctx context.Context) (err error) {
	if f.etcd, err = startEtcd(ctx, f.config.Dir); err != nil {
		return err
	}
	names := []string{ControlPlane}
	for n := range f.config.DataPlanes {
		names = append(names, DataPlane(n+1))
	}
	for _, name := range names {
		cluster, err := newCluster(f.config, name, f.etcd.url)
		if err != nil {
			return err
		}
		f.clusters = append(f.clusters, cluster)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(startsAtOnce)
	for _, cluster := range f.clusters {
		group.Go(func() error { return f.bring(ctx, cluster) })
	}
	return group.Wait()
}

// bring starts a cluster and puts into it what every cluster of this fleet has.
func (f *Fleet) bring(ctx context.Context, cluster *Cluster) error {
	if err := cluster.start(ctx); err != nil {
		return err
	}
	if f.config.CRDs {
		if err := installCRDs(ctx, cluster); err != nil {
			return fmt.Errorf("install CRDs in %s: %w", cluster.Name, err)
		}
	}
	if f.config.ControllerManager {
		if err := cluster.startControllerManager(f.config.Dir); err != nil {
			return err
		}
	}
	if f.config.OnCluster != nil {
		return f.config.OnCluster(cluster)
	}
	return nil
}

// Down ends everything. API servers go first: without etcd they would fill their logs.
func (f *Fleet) Down() {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	for _, proxy := range f.proxies {
		proxy.close()
	}
	var group sync.WaitGroup
	for _, cluster := range f.clusters {
		group.Go(cluster.stop)
	}
	group.Wait()
	if f.etcd != nil {
		f.etcd.process.Stop(stopGrace)
	}
}

// Describe is the fleet as the protocol shows it.
func (f *Fleet) Describe() protocol.Ready {
	ready := protocol.Ready{Ready: true, Etcd: &protocol.Etcd{PID: f.etcd.process.PID(), URL: f.etcd.url}}
	for _, cluster := range f.clusters {
		ready.Clusters = append(ready.Clusters, cluster.Describe())
	}
	return ready
}

// Do carries out one command of the protocol.
func (f *Fleet) Do(ctx context.Context, command protocol.Command) protocol.Answer {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if command.Do == protocol.Add {
		return f.add(ctx, command.Cluster)
	}
	cluster := f.find(command.Cluster)
	if cluster == nil {
		return protocol.Failure(fmt.Errorf("no cluster %s in this fleet", command.Cluster))
	}
	answer, err := f.act(ctx, cluster, command)
	if err != nil {
		return protocol.Failure(err)
	}
	answer.OK = true
	return answer
}

func (f *Fleet) act(ctx context.Context, cluster *Cluster, command protocol.Command) (protocol.Answer, error) {
	switch command.Do {
	case protocol.Stop:
		cluster.stopServer()
		return protocol.Answer{}, nil
	case protocol.Start:
		if err := cluster.restart(ctx); err != nil {
			return protocol.Answer{}, err
		}
		described := cluster.Describe()
		return protocol.Answer{Cluster: &described}, nil
	case protocol.Pause:
		return protocol.Answer{}, cluster.signal(syscall.SIGSTOP)
	case protocol.Resume:
		return protocol.Answer{}, cluster.signal(syscall.SIGCONT)
	case protocol.Delay:
		return f.delay(cluster, command.Millis)
	default:
		return protocol.Answer{}, fmt.Errorf("do: %q is unknown", command.Do)
	}
}

func (f *Fleet) add(ctx context.Context, name string) protocol.Answer {
	if f.find(name) != nil {
		return protocol.Failure(fmt.Errorf("there is a cluster %s already", name))
	}
	cluster, err := newCluster(f.config, name, f.etcd.url)
	if err != nil {
		return protocol.Failure(err)
	}
	if err := f.bring(ctx, cluster); err != nil {
		cluster.stop()
		return protocol.Failure(err)
	}
	f.clusters = append(f.clusters, cluster)
	described := cluster.Describe()
	return protocol.Answer{OK: true, Cluster: &described}
}

func (f *Fleet) find(name string) *Cluster {
	for _, cluster := range f.clusters {
		if cluster.Name == name {
			return cluster
		}
	}
	return nil
}

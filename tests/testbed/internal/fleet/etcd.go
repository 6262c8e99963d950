package fleet

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/loopback"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/programs"
)

// bindAttempts is how often a server is tried on another port when somebody took the chosen one first.
const bindAttempts = 5

const etcdTimeout = 30 * time.Second

type etcd struct {
	process *process.Process
	url     string
}

func startEtcd(ctx context.Context, dir string) (*etcd, error) {
	argv, err := programs.Command(programs.Etcd)
	if err != nil {
		return nil, err
	}
	log := filepath.Join(dir, "etcd.log")
	for attempt := 1; ; attempt++ {
		started, err := tryEtcd(ctx, argv, dir, log)
		if err == nil {
			return started, nil
		}
		if attempt == bindAttempts || !errors.Is(err, errExited) {
			return nil, &StartError{Program: programs.Etcd, Log: log, Err: err}
		}
	}
}

func tryEtcd(ctx context.Context, argv []string, dir, log string) (*etcd, error) {
	client, err := loopback.FreePort()
	if err != nil {
		return nil, err
	}
	peer, err := loopback.FreePort()
	if err != nil {
		return nil, err
	}
	url, peerURL := fmt.Sprintf("http://127.0.0.1:%d", client), fmt.Sprintf("http://127.0.0.1:%d", peer)
	child, err := process.Start(process.Spec{
		Argv: append(argv[:len(argv):len(argv)],
			"--data-dir="+filepath.Join(dir, "etcd"),
			"--listen-client-urls="+url, "--advertise-client-urls="+url,
			"--listen-peer-urls="+peerURL, "--initial-advertise-peer-urls="+peerURL,
			"--initial-cluster=default="+peerURL,
			// A test fleet need not survive a power cut, and fsync is most of a write's latency.
			"--unsafe-no-fsync",
			"--quota-backend-bytes=4294967296",
			"--log-level=warn",
		),
		Log: log,
	})
	if err != nil {
		return nil, err
	}
	healthy := func(ctx context.Context) error { return get(ctx, plainClient, url+"/health") }
	if err := waitUntil(ctx, child, etcdTimeout, healthy); err != nil {
		child.Stop(0)
		return nil, err
	}
	return &etcd{process: child, url: url}, nil
}

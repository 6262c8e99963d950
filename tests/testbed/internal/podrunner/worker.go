package podrunner

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/podnet"
)

const (
	// syncInterval is how often a pod's volumes and status are looked at when nothing wakes its worker.
	syncInterval   = 500 * time.Millisecond
	requestTimeout = 10 * time.Second
)

// worker runs one pod, from its binding to its removal.
type worker struct {
	runner  *Runner
	pod     *corev1.Pod // as first seen; its spec does not change
	dir     string
	address string
	// directories maps volume names to directories of this machine.
	directories map[string]string
	// network is that of containers of images; nil when the pod has none.
	network *podnet.Network
	woken   chan struct{}

	inits, containers []*container

	mutex sync.Mutex
	// blocked is why the containers cannot be created yet.
	blocked string
}

func newWorker(r *Runner, pod *corev1.Pod) *worker {
	w := &worker{
		runner: r, pod: pod, dir: r.podDir(pod), directories: map[string]string{}, woken: make(chan struct{}, 1),
	}
	for i := range pod.Spec.InitContainers {
		w.inits = append(w.inits, newContainer(w, &pod.Spec.InitContainers[i], true))
	}
	for i := range pod.Spec.Containers {
		w.containers = append(w.containers, newContainer(w, &pod.Spec.Containers[i], false))
	}
	return w
}

// wake makes the worker look at its pod now.
func (w *worker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *worker) run(ctx context.Context) {
	address, err := w.runner.config.Addresses.Acquire()
	if err != nil {
		w.log("%v", err)
		return
	}
	w.runner.mutex.Lock()
	w.address = address
	w.runner.mutex.Unlock()
	w.runner.config.DNS.Set(address, w.pod.Namespace, w.pod.Name, w.pod.Spec.Subdomain)
	defer func() {
		if w.network != nil {
			w.network.Close()
		}
		w.runner.tokens.DeleteServiceAccountToken(w.pod.UID)
		w.runner.config.DNS.Remove(address)
		w.runner.config.Addresses.Release(address)
	}()

	containersCtx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	stop := func(grace time.Duration) {
		w.stopProcesses(grace)
		cancel()
		running.Wait()
	}
	defer stop(0)
	launched := false
	for ctx.Err() == nil {
		pod := w.current()
		if pod == nil {
			stop(0)
			w.removeFiles()
			return
		}
		if pod.DeletionTimestamp != nil {
			w.terminate(ctx, pod, stop)
			return
		}
		err := w.prepare(pod)
		if !launched {
			w.setBlocked(err)
			if err == nil {
				launched = true
				running.Go(func() { w.runContainers(containersCtx) })
			}
		}
		w.publish(ctx, pod)
		select {
		case <-w.woken:
		case <-time.After(syncInterval):
		case <-ctx.Done():
		}
	}
}

// current is the pod as the cluster has it; nil when it is gone, or when one of the same name has replaced it.
func (w *worker) current() *corev1.Pod {
	pod, err := w.runner.pods.Pods(w.pod.Namespace).Get(w.pod.Name)
	if err != nil || pod.UID != w.pod.UID {
		return nil
	}
	return pod
}

// prepare brings the pod's directories up to date.
func (w *worker) prepare(pod *corev1.Pod) error {
	if err := os.MkdirAll(w.dir, 0o755); err != nil {
		return err
	}
	if err := w.volumes(pod); err != nil {
		return err
	}
	if err := w.connect(); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	hosts, path := []byte(w.runner.hosts()), w.hostsFile()
	if existing, err := os.ReadFile(path); err == nil && string(existing) == string(hosts) {
		return nil
	}
	// Written in place: containers have this very file mounted.
	return os.WriteFile(path, hosts, 0o644)
}

func (w *worker) hostsFile() string { return filepath.Join(w.dir, "hosts") }

// runContainers runs the init containers one after the other, then the containers together.
func (w *worker) runContainers(ctx context.Context) {
	for _, init := range w.inits {
		if !init.runOnce(ctx) {
			return
		}
	}
	var group sync.WaitGroup
	for _, container := range w.containers {
		group.Go(func() { container.runAlways(ctx) })
	}
	group.Wait()
}

func (w *worker) stopProcesses(grace time.Duration) {
	var group sync.WaitGroup
	for _, container := range append(w.inits[:len(w.inits):len(w.inits)], w.containers...) {
		group.Go(func() { container.stop(grace) })
	}
	group.Wait()
}

// terminate is the kubelet's part of a graceful deletion: TERM, KILL after the grace period, then the final delete.
func (w *worker) terminate(ctx context.Context, pod *corev1.Pod, stop func(time.Duration)) {
	for _, container := range w.containers {
		container.setReady(false)
	}
	w.publish(ctx, pod)
	var grace time.Duration
	if pod.DeletionGracePeriodSeconds != nil {
		grace = time.Duration(*pod.DeletionGracePeriodSeconds) * time.Second
	}
	stop(grace)
	w.removeFiles()
	options := metav1.NewDeleteOptions(0)
	options.Preconditions = metav1.NewUIDPreconditions(string(pod.UID))
	for ctx.Err() == nil {
		err := w.runner.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, *options)
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
			return
		}
		w.log("delete: %v", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

func (w *worker) removeFiles() {
	if err := os.RemoveAll(w.dir); err != nil {
		w.log("remove files: %v", err)
	}
}

func (w *worker) setBlocked(err error) {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	if w.blocked = ""; err != nil {
		w.blocked = err.Error()
	}
}

func (w *worker) log(format string, arguments ...any) {
	w.runner.config.Log("%s: pod %s/%s: %s", w.runner.config.Cluster, w.pod.Namespace, w.pod.Name,
		fmt.Sprintf(format, arguments...))
}

package podrunner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/plugin/pkg/admission/serviceaccount"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/process"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/runc"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/sandbox"
)

// Restart back-off: a kubelet's is 10 s to 5 min, too slow to wait for in tests.
const (
	firstBackOff = time.Second
	lastBackOff  = 30 * time.Second
	// steadyAfter is the running time that makes an end count as the first one again.
	steadyAfter = time.Minute
)

// How often a container is probed before and after it is ready.
const (
	probeUnready = 300 * time.Millisecond
	probeReady   = 2 * time.Second
)

// container runs one container of a pod and keeps what its status reports.
type container struct {
	worker *worker
	spec   *corev1.Container
	init   bool

	mutex    sync.Mutex
	state    corev1.ContainerState
	last     *corev1.ContainerStateTerminated
	restarts int32
	ready    bool
	stopping bool
	process  *process.Process
	// starting says that it has a startup probe, which has not succeeded yet.
	starting bool
	// runs counts the containers of an image that were made.
	runs int
	// imageID is the digest of an image; empty for a recipe.
	imageID string
}

var errInit = errors.New("an init container is not probed")

func newContainer(w *worker, spec *corev1.Container, init bool) *container {
	return &container{worker: w, spec: spec, init: init}
}

// runOnce runs an init container until it succeeds; false when the pod ends before.
func (c *container) runOnce(ctx context.Context) bool {
	backOff := firstBackOff
	for {
		if ended := c.run(ctx); ended != nil && ended.ExitCode == 0 {
			return true
		}
		if !c.pause(ctx, backOff) {
			return false
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

// runAlways runs a container again and again until the pod ends.
func (c *container) runAlways(ctx context.Context) {
	backOff := firstBackOff
	for {
		if ended := c.run(ctx); ended != nil && ended.FinishedAt.Sub(ended.StartedAt.Time) > steadyAfter {
			backOff = firstBackOff
		}
		if !c.pause(ctx, backOff) {
			return
		}
		backOff = min(2*backOff, lastBackOff)
	}
}

// pause waits before a restart; false when there will be none.
func (c *container) pause(ctx context.Context, backOff time.Duration) bool {
	c.mutex.Lock()
	if c.stopping || ctx.Err() != nil {
		c.mutex.Unlock()
		return false
	}
	if c.last = c.state.Terminated; c.last != nil {
		c.restarts++
		c.state = waiting("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting container %s", backOff, c.spec.Name))
	}
	c.mutex.Unlock()
	c.worker.wake()
	select {
	case <-time.After(backOff):
		return true
	case <-ctx.Done():
		return false
	}
}

// run runs the container once. It returns nil when it could not be started; the state then says why.
func (c *container) run(ctx context.Context) *corev1.ContainerStateTerminated {
	if image, ok := c.worker.runner.config.Images[c.spec.Image]; ok {
		return c.runImage(ctx, image)
	}
	recipe, err := c.worker.runner.recipe(c.spec.Image)
	if err != nil {
		return c.cannot("ErrImagePull", err)
	}
	inputs, err := c.inputs()
	if err != nil {
		return c.cannot("CreateContainerConfigError", err)
	}
	log, err := c.newLog()
	if err != nil {
		return c.cannot("RunContainerError", err)
	}
	started := now()
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}}
	if recipe.Function != nil {
		c.set(running)
		how := functionExit(recipe.Function(ctx, inputs))
		if how.message != "" {
			_ = os.WriteFile(log, []byte(how.message+"\n"), 0o644)
		}
		return c.ended(started, how)
	}
	launch, err := recipe.Program(inputs)
	if err != nil {
		return c.cannot("CreateContainerError", err)
	}
	c.set(running)
	if launch.Await != nil && launch.Await(ctx) != nil {
		return nil // the pod ends
	}
	child, err := c.start(inputs, launch, log)
	if err != nil {
		return c.cannot("RunContainerError", err)
	}
	if child == nil {
		return nil // stopped in between
	}
	if c.init {
		// What an init container serves is nobody's business; it is ready when it has ended well.
		launch.Ready = func(context.Context) error { return errInit }
	}
	c.watch(ctx, child, launch.Ready)
	return c.ended(started, exit{code: child.ExitCode()})
}

// watch probes a running process until it has ended.
func (c *container) watch(ctx context.Context, child *process.Process, ready func(context.Context) error) {
	interval := time.Duration(0)
	for {
		select {
		case <-child.Done():
			return
		case <-ctx.Done():
			child.Stop(0)
			return
		case <-time.After(interval):
		}
		ok := ready(ctx) == nil
		c.setReady(ok)
		if interval = probeUnready; ok {
			interval = probeReady
		}
	}
}

func (c *container) inputs() (recipes.Container, error) {
	runner, pod := c.worker.runner, c.worker.pod
	scratch := filepath.Join(c.worker.dir, "containers", c.spec.Name)
	if err := os.MkdirAll(filepath.Join(scratch, "tmp"), 0o755); err != nil {
		return recipes.Container{}, err
	}
	environment, err := c.worker.environment(c.spec, nil)
	if err != nil {
		return recipes.Container{}, err
	}
	mounts, err := c.mounts()
	if err != nil {
		return recipes.Container{}, err
	}
	volumes := map[string]string{}
	for _, mount := range mounts {
		// What stands in for an image asks no API server.
		if mount.Target != serviceaccount.DefaultAPITokenMountPath {
			volumes[mount.Target] = mount.Source
		}
	}
	return recipes.Container{
		Pod: pod, Spec: c.spec, Address: c.worker.address, Env: environment, Volumes: volumes,
		Resolver: runner.config.DNS.Address(), Paths: runner.config.Paths, Scratch: scratch,
		AddressOf: func(name string) (string, bool) { return runner.addressOf(pod.Namespace, name) },
	}, nil
}

// mounts are the pod's volumes in the container.
func (c *container) mounts() ([]runc.Mount, error) {
	var mounts []runc.Mount
	for _, mount := range c.spec.VolumeMounts {
		directory, ok := c.worker.directories[mount.Name]
		if !ok {
			return nil, fmt.Errorf("volume %q is not one of the pod's", mount.Name)
		}
		if mount.SubPath != "" || mount.SubPathExpr != "" {
			return nil, fmt.Errorf("mount %s: the testbed supports no subPath", mount.MountPath)
		}
		mounts = append(mounts, runc.Mount{
			Source: directory, Target: filepath.Clean(mount.MountPath), ReadOnly: mount.ReadOnly,
		})
	}
	return mounts, nil
}

// start starts the process, unless the pod is ending.
func (c *container) start(inputs recipes.Container, launch recipes.Launch, log string) (*process.Process, error) {
	temporary := filepath.Join(inputs.Scratch, "tmp")
	spec := sandbox.Spec{
		Hostname: c.worker.pod.Name,
		Mounts:   []sandbox.Mount{{Source: c.worker.hostsFile(), Target: "/etc/hosts"}},
		Argv:     launch.Argv,
		Scratch:  inputs.Scratch,
	}
	for target, source := range inputs.Volumes {
		if target == "/tmp" {
			// This machine's /tmp may hold the very programs and directories that are in use.
			temporary = source
			continue
		}
		spec.Mounts = append(spec.Mounts, sandbox.Mount{Source: source, Target: target})
	}
	argv, err := sandbox.Write(filepath.Join(inputs.Scratch, "sandbox.json"), spec)
	if err != nil {
		return nil, err
	}
	environment := []string{"PATH=" + os.Getenv("PATH"), "LANG=C.UTF-8", "HOME=" + temporary, "TMPDIR=" + temporary}
	for name, value := range inputs.Env {
		environment = append(environment, name+"="+value)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.stopping {
		return nil, nil
	}
	c.process, err = process.Start(process.Spec{
		Argv: argv, Env: append(environment, launch.Env...), CleanEnv: true, Dir: temporary, Log: log, Isolated: true,
	})
	return c.process, err
}

// stop ends the process for good.
func (c *container) stop(grace time.Duration) {
	c.mutex.Lock()
	c.stopping = true
	child := c.process
	c.mutex.Unlock()
	if child != nil {
		child.Stop(grace)
	}
}

type exit struct {
	code    int
	message string
	// reason is why it ended, where that is known.
	reason string
}

func functionExit(err error) exit {
	if err != nil {
		return exit{code: 1, message: err.Error()}
	}
	return exit{}
}

func (c *container) ended(started metav1.Time, how exit) *corev1.ContainerStateTerminated {
	terminated := &corev1.ContainerStateTerminated{
		ExitCode: int32(how.code), Message: how.message, StartedAt: started, FinishedAt: now(), Reason: "Completed",
	}
	if how.code != 0 {
		terminated.Reason = cmp.Or(how.reason, "Error")
	}
	c.set(corev1.ContainerState{Terminated: terminated})
	return terminated
}

func (c *container) cannot(reason string, err error) *corev1.ContainerStateTerminated {
	c.set(waiting(reason, err.Error()))
	return nil
}

func (c *container) set(state corev1.ContainerState) {
	c.mutex.Lock()
	c.state, c.ready = state, false
	c.mutex.Unlock()
	c.worker.wake()
}

func (c *container) setReady(ready bool) {
	c.mutex.Lock()
	changed := c.ready != ready
	c.ready = ready && c.state.Running != nil && !c.stopping
	c.mutex.Unlock()
	if changed {
		c.worker.wake()
	}
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

package podrunner

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// publish writes the pod's status if it differs from what the cluster has.
func (w *worker) publish(ctx context.Context, pod *corev1.Pod) {
	status := w.status(&pod.Status)
	if equality.Semantic.DeepEqual(status, pod.Status) {
		return
	}
	update := pod.DeepCopy()
	update.Status = status
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err := w.runner.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, update, metav1.UpdateOptions{})
	// A conflict means that a newer pod is on its way here, and wakes the worker.
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		w.log("update status: %v", err)
	}
}

// status is the pod's status now; old is what the cluster has, for the fields and times that do not change.
func (w *worker) status(old *corev1.PodStatus) corev1.PodStatus {
	w.mutex.Lock()
	blocked := w.blocked
	w.mutex.Unlock()
	status := *old.DeepCopy()
	status.InitContainerStatuses, status.ContainerStatuses = nil, nil
	initialized, ready, started := true, true, true
	for _, init := range w.inits {
		report := init.report(blocked)
		done := report.State.Terminated != nil && report.State.Terminated.ExitCode == 0
		report.Ready = done
		initialized = initialized && done
		status.InitContainerStatuses = append(status.InitContainerStatuses, report)
	}
	for _, container := range w.containers {
		report := container.report(blocked)
		ready = ready && report.Ready
		started = started && (report.State.Running != nil || report.RestartCount > 0)
		status.ContainerStatuses = append(status.ContainerStatuses, report)
	}
	// Once running, a pod does not become pending again.
	if status.Phase != corev1.PodRunning || !initialized {
		if status.Phase = corev1.PodPending; initialized && started {
			status.Phase = corev1.PodRunning
		}
	}
	if blocked == "" {
		status.HostIP = nodeAddress
		status.HostIPs = []corev1.HostIP{{IP: status.HostIP}}
		status.PodIP = w.address
		status.PodIPs = []corev1.PodIP{{IP: w.address}}
	}
	if status.StartTime == nil {
		start := now()
		status.StartTime = &start
	}
	setCondition(&status, corev1.PodScheduled, true, "")
	setCondition(&status, corev1.PodInitialized, initialized, "ContainersNotInitialized")
	setCondition(&status, corev1.ContainersReady, ready, "ContainersNotReady")
	setCondition(&status, corev1.PodReady, ready, "ContainersNotReady")
	return status
}

func setCondition(status *corev1.PodStatus, kind corev1.PodConditionType, holds bool, otherwise string) {
	condition := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
	if !holds {
		condition.Status, condition.Reason = corev1.ConditionFalse, otherwise
	}
	for i := range status.Conditions {
		existing := &status.Conditions[i]
		if existing.Type != kind {
			continue
		}
		if existing.Status != condition.Status {
			condition.LastTransitionTime = now()
			*existing = condition
		}
		return
	}
	condition.LastTransitionTime = now()
	status.Conditions = append(status.Conditions, condition)
}

// report is the container's status; blocked says why its pod's containers cannot be created, if so.
func (c *container) report(blocked string) corev1.ContainerStatus {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	started := c.state.Running != nil && !c.starting
	report := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, ImageID: cmp.Or(c.imageID, c.spec.Image), State: c.state, Ready: c.ready,
		RestartCount: c.restarts, Started: &started,
	}
	if c.last != nil {
		report.LastTerminationState = corev1.ContainerState{Terminated: c.last}
	}
	if c.process != nil {
		report.ContainerID = fmt.Sprintf("process://%d", c.process.PID())
	}
	switch {
	case blocked != "":
		report.State = waiting("ContainerCreating", blocked)
	case c.state == corev1.ContainerState{}:
		report.State = waiting("PodInitializing", "")
	}
	return report
}

// now is the time with the precision the API keeps: with more, a status would never equal its stored self.
func now() metav1.Time { return metav1.Now().Rfc3339Copy() }

package datacenter

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Condition types and progress values of cass-operator.
const (
	readyCondition       = "Ready"
	initializedCondition = "Initialized"
	stoppedCondition     = "Stopped"
	updatingCondition    = "Updating"

	progressReady    = "Ready"
	progressUpdating = "Updating"
)

// status is what the datacenter's status should be; old keeps the times of conditions that do not change.
func (dc *datacenter) status(old map[string]any, sets []*appsv1.StatefulSet, pods []*corev1.Pod) map[string]any {
	settled, up := true, int32(0)
	for _, set := range sets {
		up += set.Status.ReadyReplicas
		settled = settled && set.Status.ObservedGeneration == set.Generation &&
			set.Status.Replicas == *set.Spec.Replicas && set.Status.ReadyReplicas == *set.Spec.Replicas &&
			(set.Status.UpdatedReplicas == *set.Spec.Replicas || *set.Spec.Replicas == 0)
	}
	ready := settled && !dc.Stopped && up == dc.Size
	wasInitialized := conditionStatus(old, initializedCondition) == string(corev1.ConditionTrue)
	progress := progressUpdating
	if settled {
		progress = progressReady
	}
	status := map[string]any{}
	for name, value := range old {
		status[name] = value
	}
	status["cassandraOperatorProgress"] = progress
	status["observedGeneration"] = dc.generation
	status["nodeStatuses"] = nodes(pods)
	conditions := []any{}
	for _, condition := range []struct {
		kind  string
		holds bool
	}{
		{initializedCondition, ready || wasInitialized},
		{readyCondition, ready},
		{stoppedCondition, dc.Stopped},
		{updatingCondition, !settled && wasInitialized && !dc.Stopped},
	} {
		conditions = append(conditions, carry(old, condition.kind, condition.holds))
	}
	status["conditions"] = conditions
	if ready && status["datacenterName"] == nil {
		status["datacenterName"] = dc.cassandraName()
	}
	return status
}

func nodes(pods []*corev1.Pod) map[string]any {
	nodes := map[string]any{}
	for _, pod := range pods {
		if pod.Status.PodIP != "" {
			nodes[pod.Name] = map[string]any{"ip": pod.Status.PodIP, "rack": pod.Labels[RackLabel]}
		}
	}
	return nodes
}

// carry is a condition, with the old time where its status is the old one.
func carry(old map[string]any, kind string, holds bool) map[string]any {
	status := string(corev1.ConditionFalse)
	if holds {
		status = string(corev1.ConditionTrue)
	}
	if existing := findCondition(old, kind); existing != nil && existing["status"] == status {
		return existing
	}
	return map[string]any{
		"type": kind, "status": status, "reason": "", "message": "",
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}
}

func conditionStatus(status map[string]any, kind string) string {
	value, _ := findCondition(status, kind)["status"].(string)
	return value
}

func findCondition(status map[string]any, kind string) map[string]any {
	conditions, _, _ := unstructured.NestedSlice(status, "conditions")
	for _, condition := range conditions {
		if fields, ok := condition.(map[string]any); ok && fields["type"] == kind {
			return fields
		}
	}
	return nil
}

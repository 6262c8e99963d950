package datacenter

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// Condition types and progress values of cass-operator.
const (
	readyCondition       = "Ready"
	initializedCondition = "Initialized"
	stoppedCondition     = "Stopped"
	updatingCondition    = "Updating"
	resumingCondition    = "Resuming"

	progressReady    = "Ready"
	progressUpdating = "Updating"
)

// status is the datacenter's status when a step is about to be taken; old keeps the times of conditions that do not
// change, and what is known of nodes that do not run now.
func (dc *datacenter) status(old map[string]any, step step, racks []rackSets, pods []*corev1.Pod) map[string]any {
	settled, up := step == idle, int32(0)
	for _, rack := range racks {
		up += rack.current.Status.ReadyReplicas
		settled = settled && rack.settled()
	}
	was := func(kind string) bool { return conditionStatus(old, kind) == string(corev1.ConditionTrue) }
	complete := settled && !dc.Stopped && up >= dc.Size
	status := map[string]any{}
	for name, value := range old {
		status[name] = value
	}
	if status["cassandraOperatorProgress"] = progressUpdating; settled {
		status["cassandraOperatorProgress"] = progressReady
		status["observedGeneration"] = dc.generation
	}
	status["nodeStatuses"] = nodes(old, pods)
	conditions := []any{}
	for _, condition := range []struct {
		kind  string
		holds bool
	}{
		{initializedCondition, complete || was(initializedCondition)},
		// Only a stop takes it away, as with cass-operator; that nodes are down is to be seen in the progress.
		{readyCondition, complete || was(readyCondition) && !dc.Stopped},
		{stoppedCondition, dc.Stopped},
		{updatingCondition, step == push || was(updatingCondition) && !settled},
		{resumingCondition, !dc.Stopped && (was(stoppedCondition) || was(resumingCondition)) && !complete},
	} {
		conditions = append(conditions, carry(old, condition.kind, condition.holds))
	}
	status["conditions"] = conditions
	if complete && status["datacenterName"] == nil {
		status["datacenterName"] = dc.cassandraName()
	}
	return status
}

func nodes(old map[string]any, pods []*corev1.Pod) map[string]any {
	nodes, _, _ := unstructured.NestedMap(old, "nodeStatuses")
	if nodes == nil {
		nodes = map[string]any{}
	}
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

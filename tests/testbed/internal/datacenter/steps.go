package datacenter

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// step is what is to be done next with a datacenter.
type step int

const (
	// idle: nothing to do but wait for pods, or nothing at all.
	idle step = iota
	// halt scales the racks of a stopped datacenter to no pods.
	halt
	// grow scales racks up, which also is how a stopped datacenter resumes.
	grow
	// push brings a changed pod template into the StatefulSets, also while they have no pods.
	push
)

// rackSets is a rack's StatefulSet as it is and as it should be.
type rackSets struct{ current, desired *appsv1.StatefulSet }

func (r rackSets) templateDiffers() bool {
	return r.current.Annotations[templateAnnotation] != r.desired.Annotations[templateAnnotation]
}

// settled tells whether the StatefulSet controller has done all there is to do. Without replicas that is to have seen the
// spec: cass-operator does not wait for the pods of a stopped datacenter to be gone.
func (r rackSets) settled() bool {
	status, replicas := r.current.Status, *r.current.Spec.Replicas
	if status.ObservedGeneration != r.current.Generation {
		return false
	}
	return replicas == 0 || status.Replicas == replicas && status.ReadyReplicas == replicas && status.UpdatedReplicas == replicas
}

// next decides by cass-operator's order: stop, scale, wait for pods, and only then the pod template. So a template that
// changes together with the end of a stop reaches pods by a restart, not by their start.
func (dc *datacenter) next(old map[string]any, racks []rackSets) step {
	differs, settled := false, true
	for _, rack := range racks {
		current, desired := *rack.current.Spec.Replicas, *rack.desired.Spec.Replicas
		switch {
		case dc.Stopped && current > 0:
			return halt
		case !dc.Stopped && current < desired:
			return grow
		}
		differs = differs || rack.templateDiffers()
		settled = settled && rack.settled()
	}
	resuming := conditionStatus(old, resumingCondition) == string(corev1.ConditionTrue)
	if differs && (settled || !resuming) {
		return push
	}
	return idle
}

// advance is the StatefulSet after a step; nil where the step leaves it alone.
func (r rackSets) advance(step step) *appsv1.StatefulSet {
	update := r.current.DeepCopy()
	switch step {
	case halt, grow:
		if *r.current.Spec.Replicas == *r.desired.Spec.Replicas {
			return nil
		}
		update.Spec.Replicas = r.desired.Spec.Replicas
	case push:
		if !r.templateDiffers() {
			return nil
		}
		update.Annotations = r.desired.Annotations
		update.Spec.Template = r.desired.Spec.Template
	default:
		return nil
	}
	return update
}

package sim

import (
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// delete removes an object, or marks it if it has finalizers, and says whether it is gone.
func (s *store) delete(k *kind, namespace, name string, options metav1.DeleteOptions) (*object, bool, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	_, before := s.collections[k.index].place(namespace, name)
	if before == nil {
		return nil, false, apierrors.NewNotFound(k.resource(), name)
	}
	if err := s.allows(k, before, options.Preconditions); err != nil {
		return nil, false, err
	}
	live := before.open(k)
	dryRun := len(options.DryRun) > 0
	if len(live.GetFinalizers()) > 0 {
		if live.GetDeletionTimestamp() != nil || dryRun {
			return before, false, nil
		}
		now := metav1.NewTime(time.Now())
		live.SetDeletionTimestamp(&now)
		_ = unstructured.SetNestedField(live.Object, int64(0), "metadata", "deletionGracePeriodSeconds")
		if k.counted {
			live.SetGeneration(live.GetGeneration() + 1)
		}
		marked, err := seal(live, s.version+1)
		if err == nil {
			s.commit(k, before, marked, marked.version)
		}
		return marked, false, err
	}
	if dryRun {
		return before, true, nil
	}
	gone, err := s.remove(k, live)
	return gone, true, err
}

// remove removes an object, whose last state is u, and with a namespace all that is in it; the lock is held.
func (s *store) remove(k *kind, u *unstructured.Unstructured) (*object, error) {
	if k.Kind == "Namespace" {
		if err := s.removeAllIn(u.GetName()); err != nil {
			return nil, err
		}
	}
	gone, err := seal(u, s.version+1)
	if err == nil {
		s.commit(k, gone, nil, gone.version)
	}
	return gone, err
}

// allows checks what a deletion depends on.
func (s *store) allows(k *kind, before *object, asked *metav1.Preconditions) error {
	if asked == nil {
		return nil
	}
	// As an API server has it: the kind, where other conflicts name the resource.
	resource := schema.GroupResource{Group: k.Group, Resource: k.Kind}
	if uid := asked.UID; uid != nil && *uid != before.uid {
		return apierrors.NewConflict(resource, before.name, uidDiffers(*uid, before.uid))
	}
	version := strconv.FormatUint(before.version, 10)
	if asked.ResourceVersion != nil && *asked.ResourceVersion != version {
		return apierrors.NewConflict(resource, before.name, fmt.Errorf(
			"Precondition failed: ResourceVersion in precondition: %v, ResourceVersion in object meta: %v",
			*asked.ResourceVersion, version))
	}
	return nil
}

// removeAllIn removes all objects of a namespace, whatever finalizers they have; the lock is held.
func (s *store) removeAllIn(namespace string) error {
	for _, k := range s.kinds.all {
		var doomed []*object
		for _, o := range s.collections[k.index].objects {
			if k.namespaced && o.namespace == namespace {
				doomed = append(doomed, o)
			}
		}
		for _, o := range doomed {
			if _, err := s.remove(k, o.open(k)); err != nil {
				return err
			}
		}
	}
	return nil
}

package sim

import (
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/client-go/kubernetes/scheme"
)

// write is how something is written.
type write struct {
	manager string
	dryRun  bool
	// force has an apply take fields away from others.
	force bool
	// status says that the status subresource is written.
	status bool
}

// create adds an object.
func (s *store) create(k *kind, namespace string, u *unstructured.Unstructured, w write) (*object, error) {
	if err := fits(k, namespace, u); err != nil {
		return nil, err
	}
	if u.GetResourceVersion() != "" {
		// An API server answers with 500, too.
		return nil, errors.New("resourceVersion should not be set on objects to be created")
	}
	if err := k.tidy(u); err != nil {
		return nil, err
	}
	u, err := k.managed(k.empty(), u, w)
	if err != nil {
		return nil, err
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.add(k, u, w)
}

// fits checks that an object is of the kind and in the namespace that the request names.
func fits(k *kind, namespace string, u *unstructured.Unstructured) error {
	if gvk := u.GroupVersionKind(); gvk != k.GroupVersionKind {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the API version in the data (%s, Kind=%s) does not match the expected API version (%s, Kind=%s)",
			u.GetAPIVersion(), u.GetKind(), k.GroupVersion(), k.Kind))
	}
	if _, err := metadata(u); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("the metadata cannot be read: %v", err))
	}
	switch u.GetNamespace() {
	case namespace:
	case "":
		u.SetNamespace(namespace)
	default:
		return apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	return nil
}

// managed returns the object with its managedFields as they are after the write.
func (k *kind) managed(live, u *unstructured.Unstructured, w write) (*unstructured.Unstructured, error) {
	written := k.manager(w.status).UpdateNoErrors(live, u, w.manager)
	managed, ok := written.(*unstructured.Unstructured)
	if !ok {
		return nil, fmt.Errorf("%T is no object", written)
	}
	return managed, nil
}

// add puts a new object in; the lock is held.
func (s *store) add(k *kind, u *unstructured.Unstructured, w write) (*object, error) {
	if u.GetName() == "" && u.GetGenerateName() != "" {
		u.SetName(u.GetGenerateName() + rand.String(5))
	}
	if errs := checkMetadata(k, u); len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.GroupKind(), u.GetName(), errs)
	}
	if u.GetNamespace() != "" && !s.hasNamespace(u.GetNamespace()) {
		return nil, apierrors.NewNotFound(s.kinds.namespaces().resource(), u.GetNamespace())
	}
	if _, found := s.collections[k.index].place(u.GetNamespace(), u.GetName()); found != nil {
		return nil, apierrors.NewAlreadyExists(k.resource(), u.GetName())
	}
	if k.status {
		delete(u.Object, "status")
	}
	if k.Kind == "Namespace" {
		u.Object["spec"] = map[string]any{"finalizers": []any{"kubernetes"}}
		u.Object["status"] = map[string]any{"phase": "Active"}
	}
	for _, field := range []string{"deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"} {
		unstructured.RemoveNestedField(u.Object, "metadata", field)
	}
	if k.counted {
		u.SetGeneration(1)
	}
	u.SetUID(uuid.NewUUID())
	u.SetCreationTimestamp(metav1.NewTime(time.Now()))
	if k.custom != nil {
		if errs := k.custom.check(u.Object, nil, false); len(errs) > 0 {
			return nil, apierrors.NewInvalid(k.GroupKind(), u.GetName(), errs)
		}
	}
	version := s.version + 1
	if w.dryRun {
		version = 0
	}
	made, err := seal(u, version)
	if err != nil || w.dryRun {
		return made, err
	}
	s.commit(k, nil, made, version)
	return made, nil
}

// tidy makes an object as it is kept: without what its kind does not know.
func (k *kind) tidy(u *unstructured.Unstructured) error {
	if k.custom == nil {
		return k.tidyOwn(u)
	}
	meta, err := metadata(u)
	if err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(meta)
	if err != nil {
		return err
	}
	u.Object["metadata"] = dated(content)
	k.custom.tidy(u.Object)
	return nil
}

// tidyOwn passes an object of Kubernetes' own through its Go type, which drops unknown fields.
func (k *kind) tidyOwn(u *unstructured.Unstructured) error {
	if k.Kind == "Secret" {
		if u.Object["type"] == nil {
			u.Object["type"] = "Opaque"
		}
		encodeStrings(u)
	}
	typed, err := scheme.Scheme.New(k.GroupVersionKind)
	if err != nil {
		return err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, typed); err != nil {
		return apierrors.NewBadRequest(fmt.Sprintf("%s in version %q cannot be handled as a %s: %v", k.Kind, k.Version, k.Kind, err))
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
	if err != nil {
		return err
	}
	if meta, ok := content["metadata"].(map[string]any); ok {
		dated(meta)
	}
	u.Object = content
	u.SetGroupVersionKind(k.GroupVersionKind)
	if k.Kind == "Namespace" {
		labels := u.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels["kubernetes.io/metadata.name"] = u.GetName()
		u.SetLabels(labels)
	}
	return nil
}

// dated drops an empty creationTimestamp.
func dated(meta map[string]any) map[string]any {
	if meta["creationTimestamp"] == nil {
		delete(meta, "creationTimestamp")
	}
	return meta
}

// empty is an object of the kind with nothing in it.
func (k *kind) empty() *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(k.GroupVersionKind)
	if k.custom == nil {
		_ = k.tidyOwn(u)
		unstructured.RemoveNestedField(u.Object, "metadata", "labels")
		delete(u.Object, "type")
	}
	return u
}

func (s *store) hasNamespace(name string) bool {
	_, found := s.collections[s.kinds.namespaces().index].place("", name)
	return found != nil
}

func checkMetadata(k *kind, u *unstructured.Unstructured) field.ErrorList {
	meta, err := metadata(u)
	if err != nil {
		return field.ErrorList{field.Invalid(field.NewPath("metadata"), "", err.Error())}
	}
	names := apivalidation.NameIsDNSSubdomain
	if k.Kind == "Namespace" {
		names = apivalidation.NameIsDNSLabel
	}
	return apivalidation.ValidateObjectMeta(meta, k.namespaced, names, field.NewPath("metadata"))
}

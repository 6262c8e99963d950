package sim

import (
	"encoding/base64"
	"fmt"
	"maps"
	"reflect"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// change is what an update does to an object; upsert says that it may create it.
type change struct {
	upsert bool
	// make returns the changed object, with its managedFields; it may change and return live.
	make func(live *unstructured.Unstructured) (*unstructured.Unstructured, error)
}

// update applies a change, and says whether it created the object.
func (s *store) update(k *kind, namespace, name string, c change, w write) (*object, bool, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	_, before := s.collections[k.index].place(namespace, name)
	if before == nil {
		if !c.upsert || w.status {
			return nil, false, apierrors.NewNotFound(k.resource(), name)
		}
		u, err := c.make(k.empty())
		if err != nil {
			return nil, false, err
		}
		if uid := u.GetUID(); uid != "" {
			return nil, false, apierrors.NewConflict(k.resource(), name, fmt.Errorf(
				"uid mismatch: the provided object specified uid %s, and no existing object was found", uid))
		}
		made, err := s.add(k, u, w)
		return made, true, err
	}
	live := before.open(k)
	u, err := c.make(live.DeepCopy())
	if err != nil {
		return nil, false, err
	}
	after, err := s.replace(k, before, live, u, w)
	return after, false, err
}

// replace writes u in the place of an object; the lock is held.
func (s *store) replace(k *kind, before *object, live, u *unstructured.Unstructured, w write) (*object, error) {
	if err := s.agree(k, before, u); err != nil {
		return nil, err
	}
	k.restrict(live, u, w)
	if errs := checkMetadata(k, u); len(errs) > 0 {
		return nil, apierrors.NewInvalid(k.GroupKind(), u.GetName(), errs)
	}
	if k.custom != nil {
		if errs := k.custom.check(u.Object, live.Object, w.status); len(errs) > 0 {
			return nil, apierrors.NewInvalid(k.GroupKind(), u.GetName(), errs)
		}
	}
	if isSame(live, u) {
		return before, nil
	}
	if w.dryRun {
		return seal(u, before.version)
	}
	if u.GetDeletionTimestamp() != nil && len(u.GetFinalizers()) == 0 {
		return s.remove(k, u)
	}
	after, err := seal(u, s.version+1)
	if err == nil {
		s.commit(k, before, after, after.version)
	}
	return after, err
}

// agree checks that u is meant for this object, in its present version.
func (s *store) agree(k *kind, before *object, u *unstructured.Unstructured) error {
	if u.GetName() != before.name {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", u.GetName(), before.name))
	}
	if u.GetNamespace() != before.namespace {
		return apierrors.NewBadRequest(fmt.Sprintf(
			"the namespace of the object (%s) does not match the namespace on the URL (%s)", u.GetNamespace(), before.namespace))
	}
	if uid := u.GetUID(); uid != "" && uid != before.uid {
		errs := field.ErrorList{field.Invalid(field.NewPath("metadata", "uid"), uid, "field is immutable")}
		if k.custom != nil {
			// An API server says it twice.
			errs = append(errs, errs...)
		}
		return apierrors.NewInvalid(k.GroupKind(), before.name, errs)
	}
	version := strconv.FormatUint(before.version, 10)
	if asked := u.GetResourceVersion(); asked != "" && asked != version {
		return apierrors.NewConflict(k.resource(), before.name, fmt.Errorf(
			"the object has been modified; please apply your changes to the latest version and try again"))
	}
	return nil
}

func uidDiffers(asked, is types.UID) error {
	return fmt.Errorf("Precondition failed: UID in precondition: %v, UID in object meta: %v", asked, is)
}

// restrict undoes what this kind of write cannot change, and counts the generation.
func (k *kind) restrict(live, u *unstructured.Unstructured, w write) {
	if w.status {
		managers, status := u.GetManagedFields(), u.Object["status"]
		u.Object = live.DeepCopy().Object
		u.SetManagedFields(managers)
		delete(u.Object, "status")
		if status != nil {
			u.Object["status"] = status
		}
		return
	}
	if k.status {
		delete(u.Object, "status")
		if status, ok := live.Object["status"]; ok {
			u.Object["status"] = status
		}
	}
	for _, field := range []string{"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "uid"} {
		value, ok, _ := unstructured.NestedFieldNoCopy(live.Object, "metadata", field)
		if ok {
			_ = unstructured.SetNestedField(u.Object, value, "metadata", field)
		} else {
			unstructured.RemoveNestedField(u.Object, "metadata", field)
		}
	}
	if k.counted && !reflect.DeepEqual(content(live), content(u)) {
		u.SetGeneration(live.GetGeneration() + 1)
	}
}

// content is what counts for the generation.
func content(u *unstructured.Unstructured) map[string]any {
	all := maps.Clone(u.Object)
	delete(all, "metadata")
	delete(all, "status")
	return all
}

// isSame says whether there is nothing to write. The times in managedFields do not count.
func isSame(live, u *unstructured.Unstructured) bool {
	return reflect.DeepEqual(untimed(live), untimed(u))
}

func untimed(u *unstructured.Unstructured) map[string]any {
	all := maps.Clone(u.Object)
	meta, _ := all["metadata"].(map[string]any)
	meta = maps.Clone(meta)
	delete(meta, "resourceVersion")
	var managers []metav1.ManagedFieldsEntry
	for _, entry := range u.GetManagedFields() {
		entry.Time = nil
		managers = append(managers, entry)
	}
	meta["managedFields"] = managers
	all["metadata"] = meta
	return all
}

// encodeStrings moves a Secret's stringData into its data.
func encodeStrings(u *unstructured.Unstructured) {
	plain, ok := u.Object["stringData"].(map[string]any)
	if !ok {
		return
	}
	data, _ := u.Object["data"].(map[string]any)
	if data == nil {
		data = map[string]any{}
	}
	for key, value := range plain {
		text, _ := value.(string)
		data[key] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	u.Object["data"] = data
	delete(u.Object, "stringData")
}

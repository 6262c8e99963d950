package sim

import (
	"fmt"
	"maps"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// put is a change to a whole new content.
func (k *kind) put(u *unstructured.Unstructured, w write) change {
	return change{make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		return k.overwrite(live, u, w)
	}}
}

func (k *kind) overwrite(live, u *unstructured.Unstructured, w write) (*unstructured.Unstructured, error) {
	if err := k.tidy(u); err != nil {
		return nil, err
	}
	return k.managed(live, u, w)
}

// patch is what a patch of one of the types asks for.
func (k *kind) patch(namespace, name string, as types.PatchType, body []byte, w write) (change, error) {
	switch {
	case as == types.ApplyPatchType:
		return k.apply(namespace, name, body, w)
	case as == types.MergePatchType:
		return k.mergeWith(body, w, func(live, patch map[string]any) (map[string]any, error) {
			merged, _ := merge(live, patch).(map[string]any)
			return merged, nil
		})
	case as == types.StrategicMergePatchType && k.custom == nil:
		shape, err := scheme.Scheme.New(k.GroupVersionKind)
		if err != nil {
			return change{}, err
		}
		return k.mergeWith(body, w, func(live, patch map[string]any) (map[string]any, error) {
			return strategicpatch.StrategicMergeMapPatch(live, patch, shape)
		})
	case k.custom == nil:
		err := newUnsupportedMediaType(
			string(types.MergePatchType), string(types.StrategicMergePatchType), string(types.ApplyPatchType))
		err.ErrStatus.Details = &metav1.StatusDetails{}
		return change{}, err
	default:
		return change{}, newUnsupportedMediaType(string(types.MergePatchType), string(types.ApplyPatchType))
	}
}

func (k *kind) mergeWith(
	body []byte, w write, combine func(live, patch map[string]any) (map[string]any, error),
) (change, error) {
	patch := map[string]any{}
	if err := utiljson.Unmarshal(body, &patch); err != nil {
		return change{}, apierrors.NewBadRequest(fmt.Sprintf("the patch cannot be read: %v", err))
	}
	return change{make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		merged, err := combine(live.DeepCopy().Object, patch)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		u := &unstructured.Unstructured{Object: merged}
		if err := fits(k, live.GetNamespace(), u); err != nil {
			return nil, err
		}
		return k.overwrite(live, u, w)
	}}, nil
}

// merge is a JSON merge patch (RFC 7386).
func merge(into, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	old, _ := into.(map[string]any)
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]any{}
	}
	for key, value := range changes {
		if value == nil {
			delete(merged, key)
		} else {
			merged[key] = merge(merged[key], value)
		}
	}
	return merged
}

// apply is a server-side apply.
func (k *kind) apply(namespace, name string, body []byte, w write) (change, error) {
	text, err := yaml.YAMLToJSON(body)
	if err != nil {
		return change{}, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
	}
	content := map[string]any{}
	if err := utiljson.Unmarshal(text, &content); err != nil {
		return change{}, apierrors.NewBadRequest(fmt.Sprintf("the object cannot be read: %v", err))
	}
	applied := &unstructured.Unstructured{Object: content}
	if applied.GetName() == "" {
		applied.SetName(name)
	}
	if applied.GetName() != name {
		return change{}, apierrors.NewBadRequest(fmt.Sprintf(
			"the name of the object (%s) does not match the name on the URL (%s)", applied.GetName(), name))
	}
	if err := fits(k, namespace, applied); err != nil {
		return change{}, err
	}
	return change{upsert: true, make: func(live *unstructured.Unstructured) (*unstructured.Unstructured, error) {
		merged, err := k.manager(w.status).Apply(live, applied.DeepCopy(), w.manager, w.force)
		if err != nil {
			return nil, err
		}
		u, ok := merged.(*unstructured.Unstructured)
		if !ok {
			return nil, fmt.Errorf("%T is no object", merged)
		}
		return u, k.tidy(u)
	}}, nil
}

// readObject reads an object that was sent.
func readObject(body []byte) (*unstructured.Unstructured, error) {
	content := map[string]any{}
	if err := utiljson.Unmarshal(body, &content); err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("the object provided is unrecognized: %v", err))
	}
	return &unstructured.Unstructured{Object: content}, nil
}

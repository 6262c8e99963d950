package sim

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// object is one version of an object. It does not change: a write puts another in its place.
type object struct {
	namespace, name string
	uid             types.UID
	version         uint64
	labels          labels.Set
	// body is JSON without kind and apiVersion, which all objects of a kind share.
	body []byte
}

// seal makes an object of u's content, under a version, which it also writes into u; zero is no version.
func seal(u *unstructured.Unstructured, version uint64) (*object, error) {
	text := ""
	if version > 0 {
		text = strconv.FormatUint(version, 10)
	}
	u.SetResourceVersion(text)
	content := maps.Clone(u.Object)
	delete(content, "kind")
	delete(content, "apiVersion")
	body, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	return &object{
		namespace: u.GetNamespace(), name: u.GetName(), uid: u.GetUID(), version: version, labels: u.GetLabels(),
		body: body,
	}, nil
}

// open decodes the object; the caller may change the result.
func (o *object) open(k *kind) *unstructured.Unstructured {
	content := map[string]any{}
	if err := utiljson.Unmarshal(o.body, &content); err != nil {
		panic(fmt.Sprintf("a stored object cannot be read: %v", err))
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(k.GroupVersionKind)
	return u
}

// at is the same object under another version.
func (o *object) at(k *kind, version uint64) *object {
	moved, err := seal(o.open(k), version)
	if err != nil {
		panic(fmt.Sprintf("a stored object cannot be read: %v", err))
	}
	return moved
}

// compare orders objects as lists have them.
func (o *object) compare(namespace, name string) int {
	return cmp.Or(cmp.Compare(o.namespace, namespace), cmp.Compare(o.name, name))
}

// form is how objects are shown.
type form int

const (
	whole form = iota
	// onlyMetadata is a PartialObjectMetadata.
	onlyMetadata
)

const (
	partialPrefix = `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1",`
	partialHead   = `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1",`
)

// write appends the object as JSON. Within a list, Kubernetes' own kinds do not say what they are.
func (o *object) write(to []byte, k *kind, shown form, inList bool) []byte {
	if shown == onlyMetadata {
		var part struct {
			Metadata json.RawMessage `json:"metadata"`
		}
		if err := json.Unmarshal(o.body, &part); err != nil {
			panic(fmt.Sprintf("a stored object cannot be read: %v", err))
		}
		to = append(to, partialPrefix+`"metadata":`...)
		return append(append(to, part.Metadata...), '}')
	}
	if inList && k.custom == nil {
		return append(to, o.body...)
	}
	return append(append(to, k.prefix...), o.body[1:]...)
}

// selection is what a request asks for of a kind.
type selection struct {
	namespace string
	labels    labels.Selector
	fields    fields.Selector
}

func (s selection) matches(o *object) bool {
	return (s.namespace == "" || o.namespace == s.namespace) && s.labels.Matches(o.labels) &&
		(s.fields.Empty() || s.fields.Matches(fields.Set{"metadata.name": o.name, "metadata.namespace": o.namespace}))
}

func (s selection) everything() bool { return s.labels.Empty() && s.fields.Empty() }

// metadata decodes an object's metadata.
func metadata(u *unstructured.Unstructured) (*metav1.ObjectMeta, error) {
	content, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		if u.Object["metadata"] != nil {
			return nil, fmt.Errorf("metadata is no object")
		}
		return &metav1.ObjectMeta{}, nil
	}
	meta := &metav1.ObjectMeta{}
	return meta, runtime.DefaultUnstructuredConverter.FromUnstructured(content, meta)
}

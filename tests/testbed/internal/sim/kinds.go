package sim

import (
	"slices"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
)

// kind is one resource that is served.
type kind struct {
	schema.GroupVersionKind
	plural, singular string
	shortNames       []string
	// index is the kind's place in every store.
	index      int
	namespaced bool
	// there is how many objects all data planes have of it together.
	there atomic.Int64
	// status says that there is a status subresource.
	status bool
	// counted says that objects have a generation.
	counted bool
	// unconditional says that an update need not name the version it was made from.
	unconditional bool
	// returned says that who deletes an object is shown it, and not that it went well.
	returned bool
	// custom is how objects are checked that Kubernetes itself does not know.
	custom *definition
	// managers keep track of who owns which field: of the object, and of what is written as its status.
	managers [2]*managedfields.FieldManager
	// prefix begins every object; head begins every list.
	prefix, head string
}

func (k *kind) resource() schema.GroupResource {
	return schema.GroupResource{Group: k.Group, Resource: k.plural}
}

// String is the resource's name as people write it: `secrets`, `leases.coordination.k8s.io`.
func (k *kind) String() string { return k.resource().String() }

func (k *kind) manager(status bool) *managedfields.FieldManager {
	if status {
		return k.managers[1]
	}
	return k.managers[0]
}

// verbs are what can be done at a path; none where there is no such path.
func (k *kind) verbs(t target) []string {
	everywhere := k.namespaced && t.namespace == ""
	switch {
	case t.namespace != "" && !k.namespaced, t.name != "" && everywhere, t.part != "" && (t.part != "status" || !k.status):
		return nil
	case t.part != "":
		return []string{"get", "patch", "update"}
	case t.name != "":
		return []string{"delete", "get", "patch", "update"}
	case everywhere:
		return []string{"list", "watch"}
	case k.Kind == "Namespace":
		return []string{"create", "list", "watch"}
	default:
		return []string{"create", "deletecollection", "list", "watch"}
	}
}

// kinds are all that are served.
type kinds struct {
	all        []*kind
	byResource map[schema.GroupVersionResource]*kind
	// documents are the OpenAPI documents, by path below /openapi/v3/.
	documents map[string][]byte
}

func (ks *kinds) add(k *kind) {
	k.index = len(ks.all)
	version := k.GroupVersion().String()
	k.prefix = `{"kind":"` + k.Kind + `","apiVersion":"` + version + `",`
	k.head = `{"kind":"` + k.Kind + `List","apiVersion":"` + version + `",`
	ks.all = append(ks.all, k)
	ks.byResource[k.GroupVersion().WithResource(k.plural)] = k
}

func (ks *kinds) find(group, version, plural string) *kind {
	return ks.byResource[schema.GroupVersionResource{Group: group, Version: version, Resource: plural}]
}

func (ks *kinds) namespaces() *kind { return ks.find("", "v1", "namespaces") }

// versions are the groups with their versions, in the order in which discovery tells them.
func (ks *kinds) versions() []schema.GroupVersion {
	var found []schema.GroupVersion
	for _, k := range ks.all {
		if !slices.Contains(found, k.GroupVersion()) {
			found = append(found, k.GroupVersion())
		}
	}
	return append(found, reviews)
}

// own are Kubernetes' own kinds.
func own() []*kind {
	gvk := func(group, version, kind string) schema.GroupVersionKind {
		return schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
	}
	return []*kind{
		{GroupVersionKind: gvk("", "v1", "Namespace"), plural: "namespaces", singular: "namespace", shortNames: []string{"ns"},
			status: true, unconditional: true, returned: true},
		{GroupVersionKind: gvk("", "v1", "Secret"), plural: "secrets", singular: "secret", namespaced: true, unconditional: true},
		{GroupVersionKind: gvk("", "v1", "ConfigMap"), plural: "configmaps", singular: "configmap", shortNames: []string{"cm"},
			namespaced: true, unconditional: true},
		{GroupVersionKind: gvk("", "v1", "Event"), plural: "events", singular: "event", shortNames: []string{"ev"},
			namespaced: true, unconditional: true},
		{GroupVersionKind: gvk("", "v1", "PersistentVolumeClaim"), plural: "persistentvolumeclaims",
			singular: "persistentvolumeclaim", shortNames: []string{"pvc"}, namespaced: true, status: true, unconditional: true,
			returned: true},
		{GroupVersionKind: gvk("", "v1", "Pod"), plural: "pods", singular: "pod", shortNames: []string{"po"},
			namespaced: true, status: true, counted: true, unconditional: true, returned: true},
		{GroupVersionKind: gvk("", "v1", "ServiceAccount"), plural: "serviceaccounts", singular: "serviceaccount",
			shortNames: []string{"sa"}, namespaced: true, unconditional: true, returned: true},
		{GroupVersionKind: gvk("apps", "v1", "Deployment"), plural: "deployments", singular: "deployment",
			shortNames: []string{"deploy"}, namespaced: true, status: true, counted: true, unconditional: true},
		{GroupVersionKind: gvk("coordination.k8s.io", "v1", "Lease"), plural: "leases", singular: "lease", namespaced: true},
		{GroupVersionKind: gvk("events.k8s.io", "v1", "Event"), plural: "events", singular: "event",
			shortNames: []string{"ev"}, namespaced: true, unconditional: true},
	}
}

package sim

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

func (ks *kinds) addOwn() error {
	// Without this, the scheme does not know ObjectMeta.
	metav1.AddToGroupVersion(scheme.Scheme, schema.GroupVersion{Version: "v1"})
	converter := applyconfigurations.NewTypeConverter(scheme.Scheme)
	for _, k := range own() {
		ks.add(k)
		if err := k.manage(converter); err != nil {
			return err
		}
	}
	return nil
}

// manage makes the kind's field managers.
func (k *kind) manage(converter managedfields.TypeConverter) error {
	reset := func(fields ...string) map[fieldpath.APIVersion]fieldpath.Filter {
		set := fieldpath.NewSet()
		for _, field := range fields {
			set.Insert(fieldpath.MakePathOrDie(field))
		}
		return fieldpath.NewExcludeFilterSetMap(map[fieldpath.APIVersion]*fieldpath.Set{
			fieldpath.APIVersion(k.GroupVersion().String()): set,
		})
	}
	// Fields that a write does not reach have no owner by it.
	whole, status := reset(), reset("metadata", "spec")
	if k.status {
		whole = reset("status")
	}
	for i, unreached := range []map[fieldpath.APIVersion]fieldpath.Filter{whole, status} {
		part := []string{"", "status"}[i]
		manager, err := managedfields.NewDefaultCRDFieldManager(
			converter, unconverted{}, defaulter{k.custom}, creator{k}, k.GroupVersionKind, k.GroupVersion(), part, unreached)
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		k.managers[i] = manager
	}
	return nil
}

// unconverted stands for the conversion between versions where there is one.
type unconverted struct{}

func (unconverted) Convert(_, _, _ any) error { return fmt.Errorf("there is one version") }

func (unconverted) ConvertToVersion(in runtime.Object, _ runtime.GroupVersioner) (runtime.Object, error) {
	return in, nil
}

func (unconverted) ConvertFieldLabel(_ schema.GroupVersionKind, label, value string) (string, string, error) {
	return label, value, nil
}

type defaulter struct{ definition *definition }

func (d defaulter) Default(in runtime.Object) {
	if object, ok := in.(*unstructured.Unstructured); ok && d.definition != nil {
		d.definition.defaults(object.Object)
	}
}

type creator struct{ kind *kind }

func (c creator) New(schema.GroupVersionKind) (runtime.Object, error) { return c.kind.empty(), nil }

package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structural "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/kube-openapi/pkg/spec3"
	"sigs.k8s.io/yaml"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/crds"
)

// medusaGroup is the group of the definitions that are read.
const medusaGroup = "medusa.k8ssandra.io"

// definition is what a CustomResourceDefinition says of its objects.
type definition struct {
	schema    *structural.Structural
	validator validation.SchemaValidator
	status    validation.SchemaValidator
	rules     *cel.Validator
}

// tidy takes out what the definition does not know, and puts in its defaults.
func (d *definition) tidy(object map[string]any) {
	pruning.Prune(object, d.schema, true)
	defaulting.PruneNonNullableNullsWithoutDefaults(object, d.schema)
	d.defaults(object)
}

func (d *definition) defaults(object map[string]any) { defaulting.Default(object, d.schema) }

// check says what is wrong with an object, or with its status only; before is nil for a new one.
func (d *definition) check(object, before map[string]any, onlyStatus bool) field.ErrorList {
	var errs field.ErrorList
	switch {
	case onlyStatus && d.status != nil && object["status"] != nil:
		errs = validation.ValidateCustomResource(field.NewPath("status"), object["status"], d.status)
	case !onlyStatus:
		errs = validation.ValidateCustomResource(nil, object, d.validator)
	}
	errs = append(errs, listtype.ValidateListSetsAndMaps(nil, d.schema, object)...)
	if d.rules != nil && len(errs) == 0 {
		var old any
		if before != nil {
			old = before
		}
		found, _ := d.rules.Validate(context.Background(), nil, d.schema, object, old, celconfig.RuntimeCELCostBudget)
		errs = append(errs, found...)
	}
	return errs
}

// load makes the kinds: Kubernetes' own, the stand-in for cass-operator's, and Medusa's from the definitions in dir.
func load(dir string) (*kinds, error) {
	ks := &kinds{byResource: map[schema.GroupVersionResource]*kind{}, documents: map[string][]byte{}}
	if err := ks.addOwn(); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, medusaGroup+"_*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no definitions %s_*.yaml in %s", medusaGroup, dir)
	}
	texts := [][]byte{crds.CassandraDatacenter}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		texts = append(texts, text)
	}
	documents := map[string][]*spec3.OpenAPI{}
	for _, text := range texts {
		if err := ks.define(text, documents); err != nil {
			return nil, err
		}
	}
	for path, parts := range documents {
		merged, err := builder.MergeSpecsV3(parts...)
		if err != nil {
			return nil, err
		}
		if ks.documents[path], err = json.Marshal(merged); err != nil {
			return nil, err
		}
	}
	return ks, nil
}

// define adds the kind of one CustomResourceDefinition.
func (ks *kinds) define(text []byte, documents map[string][]*spec3.OpenAPI) error {
	crd := &apiextensionsv1.CustomResourceDefinition{}
	if err := yaml.Unmarshal(text, crd); err != nil {
		return err
	}
	crd.Status.AcceptedNames = crd.Spec.Names
	if crd.Spec.Names.ListKind == "" {
		crd.Spec.Names.ListKind = crd.Spec.Names.Kind + "List"
	}
	if crd.Spec.Names.Singular == "" {
		crd.Spec.Names.Singular = strings.ToLower(crd.Spec.Names.Kind)
	}
	if len(crd.Spec.Versions) != 1 {
		return fmt.Errorf("%s: one version is understood, and there are %d", crd.Name, len(crd.Spec.Versions))
	}
	version := crd.Spec.Versions[0]
	document, err := builder.BuildOpenAPIV3(crd, version.Name, builder.Options{})
	if err != nil {
		return fmt.Errorf("%s: %w", crd.Name, err)
	}
	path := "apis/" + crd.Spec.Group + "/" + version.Name
	documents[path] = append(documents[path], document)
	definition, err := newDefinition(version.Schema)
	if err != nil {
		return fmt.Errorf("%s: %w", crd.Name, err)
	}
	converter, err := managedfields.NewTypeConverter(document.Components.Schemas, crd.Spec.PreserveUnknownFields)
	if err != nil {
		return fmt.Errorf("%s: %w", crd.Name, err)
	}
	k := &kind{
		GroupVersionKind: schema.GroupVersionKind{Group: crd.Spec.Group, Version: version.Name, Kind: crd.Spec.Names.Kind},
		plural:           crd.Spec.Names.Plural,
		singular:         crd.Spec.Names.Singular,
		shortNames:       crd.Spec.Names.ShortNames,
		namespaced:       crd.Spec.Scope == apiextensionsv1.NamespaceScoped,
		status:           version.Subresources != nil && version.Subresources.Status != nil,
		counted:          true,
		custom:           definition,
	}
	ks.add(k)
	return k.manage(converter)
}

func newDefinition(version1 *apiextensionsv1.CustomResourceValidation) (*definition, error) {
	internal := &apiextensions.CustomResourceValidation{}
	err := apiextensionsv1.Convert_v1_CustomResourceValidation_To_apiextensions_CustomResourceValidation(version1, internal, nil)
	if err != nil {
		return nil, err
	}
	whole := internal.OpenAPIV3Schema
	d := &definition{}
	if d.schema, err = structural.NewStructural(whole); err != nil {
		return nil, err
	}
	if err := defaulting.PruneDefaults(d.schema); err != nil {
		return nil, err
	}
	d.rules = cel.NewValidator(d.schema, true, celconfig.PerCallLimit)
	if d.validator, _, err = validation.NewSchemaValidator(whole); err != nil {
		return nil, err
	}
	if status, ok := whole.Properties["status"]; ok {
		if d.status, _, err = validation.NewSchemaValidator(&status); err != nil {
			return nil, err
		}
	}
	return d, nil
}

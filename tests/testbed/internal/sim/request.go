package sim

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// target is what a path leads to.
type target struct {
	group, version, namespace, plural, name, part string
}

func (t target) resource() schema.GroupResource {
	return schema.GroupResource{Group: t.group, Resource: t.plural}
}

// parse reads the path of a resource: /api/v1/… or /apis/GROUP/VERSION/….
func parse(path string) (target, bool) {
	steps := strings.Split(strings.Trim(path, "/"), "/")
	var t target
	switch {
	case len(steps) > 2 && steps[0] == "api":
		t.version, steps = steps[1], steps[2:]
	case len(steps) > 3 && steps[0] == "apis":
		t.group, t.version, steps = steps[1], steps[2], steps[3:]
	default:
		return t, false
	}
	if steps[0] == "namespaces" && len(steps) > 2 && steps[2] != "status" && steps[2] != "finalize" {
		t.namespace, steps = steps[1], steps[2:]
	}
	for i, into := range []*string{&t.plural, &t.name, &t.part} {
		if i < len(steps) {
			*into = steps[i]
		}
	}
	return t, len(steps) <= 3
}

// verb is what a request does, as audits call it.
func verb(method string, t target, query url.Values) string {
	switch method {
	case http.MethodGet, http.MethodHead:
		switch {
		case t.name != "":
			return "get"
		case isTrue(query, "watch"):
			return "watch"
		default:
			return "list"
		}
	case http.MethodPost:
		return "create"
	case http.MethodPut:
		return "update"
	case http.MethodPatch:
		return "patch"
	case http.MethodDelete:
		if t.name == "" {
			return "deletecollection"
		}
		return "delete"
	}
	return strings.ToLower(method)
}

// isTrue reads a parameter as Kubernetes does: it is true unless it is missing or says otherwise.
func isTrue(query url.Values, name string) bool {
	text := query.Get(name)
	return query.Has(name) && text != "0" && !strings.EqualFold(text, "false")
}

// selected reads which objects a list or watch is about.
func selected(t target, query url.Values) (selection, error) {
	found := selection{namespace: t.namespace}
	var err error
	if found.labels, err = labels.Parse(query.Get("labelSelector")); err != nil {
		return found, apierrors.NewBadRequest(fmt.Sprintf("unable to parse requirement: %v", err))
	}
	if found.fields, err = fields.ParseSelector(query.Get("fieldSelector")); err != nil {
		return found, apierrors.NewBadRequest(err.Error())
	}
	for _, one := range found.fields.Requirements() {
		if one.Field != "metadata.name" && one.Field != "metadata.namespace" {
			return found, apierrors.NewBadRequest(fmt.Sprintf("field label not supported: %s", one.Field))
		}
	}
	return found, nil
}

// number reads a parameter that is a number, zero where it is missing.
func number(query url.Values, name string) (uint64, error) {
	text := query.Get(name)
	if text == "" {
		return 0, nil
	}
	value, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid %s %q", name, text))
	}
	return value, nil
}

// acceptable reads in which form the answer is wanted; ok is false where none of them is spoken here.
func acceptable(header string) (shown form, aggregated, ok bool) {
	if header == "" {
		return whole, false, true
	}
	for part := range strings.SplitSeq(header, ",") {
		media, parameters, err := mime.ParseMediaType(part)
		if err != nil || (media != "application/json" && media != "application/*" && media != "*/*") {
			continue
		}
		switch parameters["as"] {
		case "":
			return whole, false, true
		case "PartialObjectMetadata", "PartialObjectMetadataList":
			return onlyMetadata, false, true
		case "APIGroupDiscoveryList":
			if parameters["v"] == "v2" {
				return whole, true, true
			}
		}
	}
	return whole, false, false
}

// manager is who writes, as fields remember it.
func manager(r *http.Request) string {
	if name := r.URL.Query().Get("fieldManager"); name != "" {
		return name
	}
	name, _, _ := strings.Cut(r.UserAgent(), "/")
	if name == "" {
		return "unknown"
	}
	return name
}

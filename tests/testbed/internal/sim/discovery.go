package sim

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	discovery "k8s.io/api/apidiscovery/v2"
	authorization "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/util/compatibility"
)

// reviews is the group of the reviews of access.
var reviews = authorization.SchemeGroupVersion

// describe answers about discovery, OpenAPI, version and health.
func (ks *kinds) describe(w http.ResponseWriter, r *http.Request, aggregated bool) {
	if r.Method != http.MethodGet {
		refuse(w, newMethodNotAllowed())
		return
	}
	path := strings.TrimSuffix(r.URL.Path, "/")
	group := func(steps []string) (schema.GroupVersion, bool) {
		for _, known := range ks.versions() {
			if steps[0] == known.Group && (len(steps) == 1 || steps[1] == known.Version) {
				return known, true
			}
		}
		return schema.GroupVersion{}, false
	}
	steps := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case path == "/version":
		sendJSON(w, http.StatusOK, compatibility.DefaultBuildEffectiveVersion().Info())
	case path == "/healthz" || path == "/livez" || path == "/readyz":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok"))
	case (path == "/api" || path == "/apis") && aggregated:
		w.Header().Set("Vary", "Accept")
		ks.aggregate(w, path == "/api")
	case path == "/api":
		sendJSON(w, http.StatusOK, metav1.APIVersions{
			TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"},
			ServerAddressByClientCIDRs: []metav1.ServerAddressByClientCIDR{{ClientCIDR: "0.0.0.0/0", ServerAddress: r.Host}},
		})
	case path == "/apis":
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, gv := range ks.versions() {
			if gv.Group != "" {
				list.Groups = append(list.Groups, groupOf(gv))
			}
		}
		sendJSON(w, http.StatusOK, list)
	case path == "/openapi/v3":
		ks.index(w)
	case strings.HasPrefix(path, "/openapi/v3/") && ks.documents[strings.TrimPrefix(path, "/openapi/v3/")] != nil:
		send(w, http.StatusOK, ks.documents[strings.TrimPrefix(path, "/openapi/v3/")])
	case len(steps) == 2 && steps[0] == "api" && steps[1] == "v1":
		sendJSON(w, http.StatusOK, ks.resources(schema.GroupVersion{Version: "v1"}))
	case (len(steps) == 2 || len(steps) == 3) && steps[0] == "apis":
		gv, ok := group(steps[1:])
		switch {
		case !ok:
			notFound(w)
		case len(steps) == 2:
			found := groupOf(gv)
			found.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
			sendJSON(w, http.StatusOK, found)
		default:
			sendJSON(w, http.StatusOK, ks.resources(gv))
		}
	default:
		notFound(w)
	}
}

func groupOf(gv schema.GroupVersion) metav1.APIGroup {
	version := metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: gv.Version}
	return metav1.APIGroup{Name: gv.Group, Versions: []metav1.GroupVersionForDiscovery{version}, PreferredVersion: version}
}

// resources are those of a group and version, as discovery has them.
func (ks *kinds) resources(gv schema.GroupVersion) metav1.APIResourceList {
	list := metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: gv.String(), APIResources: []metav1.APIResource{},
	}
	if gv == reviews {
		for _, kind := range []string{"SelfSubjectAccessReview", "SelfSubjectRulesReview"} {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: strings.ToLower(kind) + "s", SingularName: strings.ToLower(kind), Kind: kind, Verbs: []string{"create"},
			})
		}
	}
	for _, k := range ks.all {
		if k.GroupVersion() != gv {
			continue
		}
		var all target
		if k.namespaced {
			all.namespace = "any"
		}
		one, status := all, all
		one.name, status.name, status.part = "any", "any", "status"
		verbs := slices.Sorted(slices.Values(slices.Concat(k.verbs(all), k.verbs(one))))
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: k.plural, SingularName: k.singular, Namespaced: k.namespaced, Kind: k.Kind, Verbs: verbs, ShortNames: k.shortNames,
		})
		if k.status {
			list.APIResources = append(list.APIResources, metav1.APIResource{
				Name: k.plural + "/status", Namespaced: k.namespaced, Kind: k.Kind, Verbs: k.verbs(status),
			})
		}
	}
	return list
}

// aggregate is all of discovery in one answer: of the core group, or of the others.
func (ks *kinds) aggregate(w http.ResponseWriter, core bool) {
	list := discovery.APIGroupDiscoveryList{
		TypeMeta: metav1.TypeMeta{Kind: "APIGroupDiscoveryList", APIVersion: discovery.SchemeGroupVersion.String()},
	}
	for _, gv := range ks.versions() {
		if (gv.Group == "") != core {
			continue
		}
		found := discovery.APIVersionDiscovery{Version: gv.Version, Freshness: discovery.DiscoveryFreshnessCurrent}
		for _, resource := range ks.resources(gv).APIResources {
			kind := metav1.GroupVersionKind{Group: gv.Group, Version: gv.Version, Kind: resource.Kind}
			if _, part, ok := strings.Cut(resource.Name, "/"); ok {
				last := &found.Resources[len(found.Resources)-1]
				last.Subresources = append(last.Subresources, discovery.APISubresourceDiscovery{
					Subresource: part, ResponseKind: &kind, Verbs: resource.Verbs,
				})
				continue
			}
			scope := discovery.ScopeCluster
			if resource.Namespaced {
				scope = discovery.ScopeNamespace
			}
			found.Resources = append(found.Resources, discovery.APIResourceDiscovery{
				Resource: resource.Name, ResponseKind: &kind, Scope: scope, SingularResource: resource.SingularName,
				Verbs: resource.Verbs, ShortNames: resource.ShortNames,
			})
		}
		list.Items = append(list.Items, discovery.APIGroupDiscovery{
			ObjectMeta: metav1.ObjectMeta{Name: gv.Group}, Versions: []discovery.APIVersionDiscovery{found},
		})
	}
	body, err := json.Marshal(list)
	if err != nil {
		refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(body)
}

// index says where the OpenAPI documents are.
func (ks *kinds) index(w http.ResponseWriter) {
	paths := map[string]any{}
	for path, document := range ks.documents {
		sum := sha256.Sum256(document)
		paths[path] = map[string]string{
			"serverRelativeURL": "/openapi/v3/" + path + "?hash=" + strings.ToUpper(hex.EncodeToString(sum[:])),
		}
	}
	sendJSON(w, http.StatusOK, map[string]any{"paths": paths})
}

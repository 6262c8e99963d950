package sim

import (
	"maps"
	"slices"
	"strings"
)

// step is one request to both servers. In it, <name> stands for what an earlier step has remembered.
type step struct {
	name string
	// request is method and path.
	request          string
	as, accept, body string
	// token is the one to show instead of the right one, or nobody's.
	token string
	// remember are paths into the answer by the names they are remembered under.
	remember map[string]string
	// see is what of the answer has to be the same, where not all has.
	see func(map[string]any) any
}

const (
	nobody  = "nobody"
	merges  = "application/merge-patch+json"
	applies = "application/apply-patch+yaml"
	partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	parts   = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"

	configs = "/api/v1/namespaces/here/configmaps"
	jobs    = "/apis/medusa.k8ssandra.io/v1alpha1/namespaces/here/medusabackupjobs"
	dcs     = "/apis/cassandra.datastax.com/v1beta1/namespaces/here/cassandradatacenters"
	plans   = "/apis/medusa.k8ssandra.io/v1alpha1/namespaces/here/medusabackupschedules"
)

func job(name, more string) string {
	return `{"apiVersion":"medusa.k8ssandra.io/v1alpha1","kind":"MedusaBackupJob","metadata":{"name":"` + name +
		`","labels":{"run":"a"}` + more + `},"spec":{"cassandraDatacenter":"none","unknown":1}}`
}

func configMap(metadata, value string) string {
	return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{` + metadata + `},"data":{"a":"` + value + `"}}`
}

var remembered = map[string]string{"uid": "metadata.uid", "rv": "metadata.resourceVersion"}

// keysOf names the keys of an object, for answers whose values are a server's own.
func keysOf(value map[string]any) any { return slices.Sorted(maps.Keys(value)) }

func reason(value map[string]any) any { return value["reason"] }

// named are the resources that both have, of a list of resources.
func named(plurals ...string) func(map[string]any) any {
	return func(value map[string]any) any {
		found := map[string]any{"kind": value["kind"], "groupVersion": value["groupVersion"]}
		resources, _ := value["resources"].([]any)
		for _, resource := range resources {
			entry, _ := resource.(map[string]any)
			name, _ := entry["name"].(string)
			if slices.Contains(plurals, name) {
				verbs, _ := entry["verbs"].([]any)
				texts := []string{}
				for _, verb := range verbs {
					text, _ := verb.(string)
					texts = append(texts, text)
				}
				slices.Sort(texts)
				found[name] = []any{entry["kind"], entry["namespaced"], entry["singularName"], texts}
			}
		}
		return found
	}
}

// specOf are the fields that an OpenAPI document declares in a kind's spec.
func specOf(schema string) func(map[string]any) any {
	return func(value map[string]any) any {
		found, _ := dig(value, []string{"components", "schemas", schema, "properties", "spec", "properties"}).(map[string]any)
		return slices.Sorted(maps.Keys(found))
	}
}

var steps = slices.Concat(reads, writes, refusals, bodies, applied, deletions, watches)

var reads = []step{
	{name: "version", request: "GET /version", see: keysOf},
	{name: "resources of a group", request: "GET /apis/medusa.k8ssandra.io/v1alpha1",
		see: named("medusabackups", "medusabackups/status", "medusabackupjobs", "medusatasks", "medusarestorejobs")},
	{name: "resources of the core", request: "GET /api/v1", see: named("secrets", "configmaps", "namespaces", "namespaces/status")},
	{name: "a group that is not there", request: "GET /apis/nobody.example/v1", see: keysOf},
	{name: "a resource that is not there", request: "GET /apis/medusa.k8ssandra.io/v1alpha1/nothings"},
	{name: "the fields of a definition", request: "GET /openapi/v3/apis/medusa.k8ssandra.io/v1alpha1",
		see: specOf("io.k8ssandra.medusa.v1alpha1.MedusaBackupSchedule")},
	{name: "access is reviewed", request: "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
		body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"list","resource":"secrets"}}}`,
		see:  func(value map[string]any) any { return []any{value["kind"], dig(value, []string{"status", "allowed"})} }},
	{name: "rules are reviewed", request: "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
		body: `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"none"}}`,
		see: func(value map[string]any) any {
			return []any{value["kind"], dig(value, []string{"status", "incomplete"})}
		}},
	{name: "the cluster's identity", request: "GET /api/v1/namespaces/kube-system", accept: partial,
		see: func(value map[string]any) any {
			return []any{value["kind"], value["apiVersion"], dig(value, []string{"metadata", "uid"}) != nil, value["status"]}
		}},
	{name: "a namespace that is not there", request: "GET /api/v1/namespaces/nowhere"},
	{name: "objects in a namespace that is not there", request: "GET /api/v1/namespaces/nowhere/secrets"},
	{name: "an empty list", request: "GET /apis/medusa.k8ssandra.io/v1alpha1/medusabackups"},
	{name: "no token", request: "GET /api/v1/namespaces/default/secrets", token: nobody},
	{name: "no token for an object", request: "DELETE /apis/medusa.k8ssandra.io/v1alpha1/namespaces/default/medusabackups/x", token: nobody},
	{name: "the version without a token", request: "GET /version", token: nobody, see: keysOf},
	{name: "a wrong token", request: "GET /api/v1/secrets", token: "wrong"},
	{name: "a list of no number", request: "GET /api/v1/secrets?limit=x"},
	{name: "a list from no number", request: "GET /api/v1/secrets?resourceVersion=x"},
	{name: "no such form", request: "GET /api/v1/secrets", accept: "text/html"},
	{name: "a selector that is none", request: "GET /api/v1/secrets?labelSelector=a%20b%20c"},
	{name: "a field that is none", request: "GET /api/v1/secrets?fieldSelector=spec.x%3D1"},
}

var writes = []step{
	{name: "a namespace is made", request: "POST /api/v1/namespaces",
		body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"here"}}`},
	{name: "nothing is made nowhere", request: "POST /api/v1/namespaces/nowhere/configmaps", body: configMap(`"name":"m"`, "1")},
	{name: "made", request: "POST " + configs + "?fieldManager=us", body: configMap(`"name":"m1","labels":{"set":"x"}`, "1"), remember: remembered},
	{name: "made by whom nobody names", request: "POST " + configs, body: configMap(`"name":"m2","labels":{"set":"y"}`, "1")},
	{name: "there already", request: "POST " + configs, body: configMap(`"name":"m1"`, "1")},
	{name: "of another kind", request: "POST " + configs, body: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"x"}}`},
	{name: "in another namespace", request: "POST " + configs, body: configMap(`"name":"x","namespace":"there"`, "1")},
	{name: "a name that is none", request: "POST " + configs, body: configMap(`"name":"No Name"`, "1")},
	{name: "no name", request: "POST " + configs, body: configMap(`"labels":{}`, "1")},
	{name: "not JSON", request: "POST " + configs, body: `{"apiVersion"`, see: reason},
	{name: "as a trial", request: "POST " + configs + "?dryRun=All", body: configMap(`"name":"m9"`, "1")},
	{name: "got", request: "GET " + configs + "/m1"},
	{name: "got by its metadata", request: "GET " + configs + "/m1", accept: partial},
	{name: "merged", request: "PATCH " + configs + "/m1?fieldManager=us", as: merges, body: `{"data":{"b":"2"}}`, remember: remembered},
	{name: "merged to the same", request: "PATCH " + configs + "/m1?fieldManager=us", as: merges, body: `{"data":{"b":"2"}}`},
	{name: "merged by another", request: "PATCH " + configs + "/m1?fieldManager=them", as: merges, body: `{"data":{"a":null,"c":"3"}}`},
	{name: "merged into an old version", request: "PATCH " + configs + "/m1?fieldManager=us", as: merges,
		body: `{"metadata":{"resourceVersion":"<rv>"},"data":{"d":"4"}}`},
	{name: "merged into another object", request: "PATCH " + configs + "/m1?fieldManager=us", as: merges,
		body: `{"metadata":{"uid":"00000000-0000-4000-8000-000000000000"},"data":{"d":"4"}}`},
	{name: "applied to another object", request: "PATCH " + configs + "/m1?fieldManager=us&force=true", as: applies,
		body: configMap(`"name":"m1","uid":"00000000-0000-4000-8000-000000000000"`, "8")},
	{name: "merged into nothing", request: "PATCH " + configs + "/m0?fieldManager=us", as: merges, body: `{"data":{"d":"4"}}`},
	{name: "a patch of no type", request: "PATCH " + configs + "/m1", as: "text/plain", body: `{}`},
	{name: "updated in an old version", request: "PUT " + configs + "/m1", body: configMap(`"name":"m1","resourceVersion":"<rv>"`, "7")},
	{name: "updated under another name", request: "PUT " + configs + "/m1", body: configMap(`"name":"m2"`, "7")},
	{name: "updated", request: "PUT " + configs + "/m2?fieldManager=us", body: configMap(`"name":"m2","labels":{"set":"y"}`, "7")},
	{name: "a Secret of plain texts", request: "POST /api/v1/namespaces/here/secrets?fieldManager=us",
		body: `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s1"},"stringData":{"k":"v"}}`},
	{name: "a Lease", request: "POST /apis/coordination.k8s.io/v1/namespaces/here/leases?fieldManager=us",
		body: `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l1"},"spec":{"holderIdentity":"me","leaseDurationSeconds":60,"renewTime":"2026-01-01T00:00:00.000000Z"}}`},
	{name: "a custom object", request: "POST " + jobs + "?fieldManager=us", body: job("j1", ""), remember: remembered},
	{name: "a custom object that breaks its schema", request: "POST " + jobs,
		body: `{"apiVersion":"medusa.k8ssandra.io/v1alpha1","kind":"MedusaBackupJob","metadata":{"name":"j0"},"spec":{"cassandraDatacenter":"","backupType":"half"}}`},
	{name: "a custom object without a spec", request: "POST " + jobs,
		body: `{"apiVersion":"medusa.k8ssandra.io/v1alpha1","kind":"MedusaBackupJob","metadata":{"name":"j0"}}`},
	{name: "its status", request: "PATCH " + jobs + "/j1/status?fieldManager=them", as: merges,
		body: `{"metadata":{"resourceVersion":"<rv>","labels":{"not":"kept"}},"spec":{"ttlSecondsAfterFinished":5},"status":{"startTime":"2026-01-01T00:00:00Z","inProgress":["p"]}}`},
	{name: "its status with the whole", request: "PATCH " + jobs + "/j1?fieldManager=us", as: merges,
		body: `{"status":{"startTime":null,"message":"no"},"spec":{"ttlSecondsAfterFinished":9}}`},
	{name: "its status in an old version", request: "PATCH " + jobs + "/j1/status?fieldManager=them", as: merges,
		body: `{"metadata":{"resourceVersion":"<rv>"},"status":{"message":"x"}}`},
	{name: "a status that breaks its schema", request: "PATCH " + jobs + "/j1/status?fieldManager=them", as: merges,
		body: `{"status":{"inProgress":[1]}}`},
	{name: "a custom object updated without a version", request: "PUT " + jobs + "/j1", body: job("j1", "")},
	{name: "a custom object merged into another", request: "PATCH " + jobs + "/j1?fieldManager=us", as: merges,
		body: `{"metadata":{"uid":"00000000-0000-4000-8000-000000000000","finalizers":["x.y/z"]}}`},
	{name: "a field that is not known to Kubernetes", request: "POST " + configs + "?fieldManager=us",
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m4"},"spec":{"x":1},"data":{"a":"b"}}`},
	{name: "a field of another type", request: "POST " + configs + "?fieldManager=us",
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"m5"},"data":{"a":1}}`},
	{name: "a strategic patch of a custom object", request: "PATCH " + jobs + "/j1", as: "application/strategic-merge-patch+json", body: `{}`},
	{name: "a schedule", request: "POST " + plans + "?fieldManager=us",
		body: `{"apiVersion":"medusa.k8ssandra.io/v1alpha1","kind":"MedusaBackupSchedule","metadata":{"name":"p1"},"spec":{"cronSchedule":"0 1 * * *","backupSpec":{"cassandraDatacenter":"none"}}}`},
}

// What cannot be done at a path.
var refusals = []step{
	{name: "a status is deleted", request: "DELETE " + jobs + "/j1/status"},
	{name: "a status is made", request: "POST " + jobs + "/j1/status", body: job("j1", "")},
	{name: "a status of Kubernetes' own is deleted", request: "DELETE /api/v1/namespaces/here/status"},
	{name: "a part that is not there", request: "GET " + jobs + "/j1/scale"},
	{name: "all are deleted everywhere", request: "DELETE /api/v1/configmaps"},
	{name: "all custom ones are deleted everywhere", request: "DELETE /apis/medusa.k8ssandra.io/v1alpha1/medusabackupjobs"},
	{name: "all namespaces are deleted", request: "DELETE /api/v1/namespaces"},
	{name: "made everywhere", request: "POST /api/v1/configmaps", body: configMap(`"name":"x"`, "1")},
	{name: "a custom one is made everywhere", request: "POST /apis/medusa.k8ssandra.io/v1alpha1/medusabackupjobs", body: job("x", "")},
	{name: "all are updated", request: "PUT " + configs, body: configMap(`"name":"m1"`, "1")},
	{name: "all are patched", request: "PATCH " + configs, as: merges, body: `{}`},
	{name: "made under a name", request: "POST " + configs + "/m1", body: configMap(`"name":"m1"`, "1")},
	{name: "a name in no namespace", request: "GET /api/v1/configmaps/m1"},
	{name: "a custom one's name in no namespace", request: "GET /apis/medusa.k8ssandra.io/v1alpha1/medusabackupjobs/j1"},
	{name: "a kind that is not there", request: "GET /api/v1/nothings"},
	{name: "a kind that is not there is made", request: "POST /api/v1/namespaces/here/nothings", body: "{}"},
	{name: "a part of Kubernetes' own that is not there", request: "GET " + configs + "/m1/status"},
	{name: "a namespace in a namespace", request: "GET /api/v1/namespaces/here/namespaces"},
	{name: "another method", request: "OPTIONS " + configs},
	{name: "another method for a custom one", request: "OPTIONS " + jobs},
	{name: "only the head", request: "HEAD " + configs + "/m1"},
	{name: "only the head of a custom one", request: "HEAD " + jobs + "/j1"},
	{name: "one object is watched", request: "GET " + configs + "/m1?watch=true"},
	{name: "watched by another word", request: "GET " + configs + "?watch=yes&timeoutSeconds=1"},
	{name: "updated without a name", request: "PUT " + configs + "/m1", body: configMap("", "7")},
	{name: "made in a version", request: "POST " + configs, body: configMap(`"name":"x","resourceVersion":"7"`, "7")},
}

// Bodies of other types than JSON.
var bodies = []step{
	{name: "made of YAML", request: "POST " + configs + "?fieldManager=us", as: "application/yaml",
		body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y1}\ndata: {a: b}\n"},
	{name: "a custom one made of YAML", request: "POST " + jobs + "?fieldManager=us", as: "application/yaml",
		body: "apiVersion: medusa.k8ssandra.io/v1alpha1\nkind: MedusaBackupJob\nmetadata: {name: y1}\nspec: {cassandraDatacenter: none}\n"},
	{name: "updated by YAML", request: "PUT " + configs + "/y1?fieldManager=us", as: "application/yaml",
		body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y1}\ndata: {a: c}\n"},
	{name: "deleted by YAML", request: "DELETE " + configs + "/y1", as: "application/yaml", body: "preconditions: {uid: x}\n"},
	{name: "not YAML", request: "POST " + configs, as: "application/yaml", body: "a: b: c", see: reason},
	{name: "made of text", request: "POST " + configs, as: "text/plain", body: configMap(`"name":"x"`, "1")},
	{name: "a custom one made of text", request: "POST " + jobs, as: "text/plain", body: job("x", "")},
	{name: "updated by text", request: "PUT " + configs + "/m1", as: "text/plain", body: configMap(`"name":"m1"`, "1")},
	{name: "deleted by text", request: "DELETE " + configs + "/m1", as: "text/plain", body: `{"preconditions":{"uid":"x"}}`},
	{name: "all deleted by text", request: "DELETE " + configs, as: "text/plain", body: `{"preconditions":{"uid":"x"}}`},
	{name: "deleted by nothing", request: "DELETE " + configs + "/y1", as: "text/plain"},
	{name: "a custom one patched by text", request: "PATCH " + jobs + "/j1", as: "text/plain", body: "{}"},
	{name: "patched by YAML", request: "PATCH " + configs + "/m1", as: "application/yaml", body: "{}"},
	{name: "access is reviewed by text", request: "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", as: "text/plain", body: `{}`},
	{name: "too long", request: "POST " + configs, body: configMap(`"name":"x"`, strings.Repeat("x", 3<<20))},
}

var applied = []step{
	{name: "applied by nobody", request: "PATCH " + configs + "/a1", as: applies, body: configMap(`"name":"a1"`, "1")},
	{name: "applied anew", request: "PATCH " + configs + "/a1?fieldManager=us&force=true", as: applies, body: configMap(`"name":"a1"`, "1"), remember: remembered},
	{name: "applied again", request: "PATCH " + configs + "/a1?fieldManager=us&force=true", as: applies, body: configMap(`"name":"a1"`, "1")},
	{name: "applied by another without force", request: "PATCH " + configs + "/a1?fieldManager=them", as: applies, body: configMap(`"name":"a1"`, "2")},
	{name: "applied by another with force", request: "PATCH " + configs + "/a1?fieldManager=them&force=true", as: applies, body: configMap(`"name":"a1"`, "2")},
	{name: "applied by another, the same", request: "PATCH " + configs + "/a1?fieldManager=third", as: applies, body: configMap(`"name":"a1"`, "2")},
	{name: "applied less", request: "PATCH " + configs + "/a1?fieldManager=us", as: applies,
		body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a1"}}`},
	{name: "applied in an old version", request: "PATCH " + configs + "/a1?fieldManager=us", as: applies,
		body: configMap(`"name":"a1","resourceVersion":"<rv>"`, "2")},
	{name: "applied so that it is made only", request: "PATCH " + configs + "/a1?fieldManager=us&force=true", as: applies,
		body: configMap(`"name":"a1","resourceVersion":"1"`, "2")},
	{name: "made so", request: "PATCH " + configs + "/a2?fieldManager=us&force=true", as: applies, accept: partial,
		body: configMap(`"name":"a2","resourceVersion":"1"`, "2")},
	{name: "applied to what is not there any more", request: "PATCH " + configs + "/a3?fieldManager=us&force=true", as: applies,
		body: configMap(`"name":"a3","uid":"<uid>","resourceVersion":"<rv>"`, "2")},
	{name: "applied under another name", request: "PATCH " + configs + "/a1?fieldManager=us", as: applies, body: configMap(`"name":"a2"`, "2")},
	{name: "applied with managed fields", request: "PATCH " + configs + "/a1?fieldManager=us", as: applies,
		body: configMap(`"name":"a1","managedFields":[{"manager":"x"}]`, "2")},
	{name: "tried", request: "PATCH " + configs + "/a1?fieldManager=us&force=true&dryRun=All", as: applies, body: configMap(`"name":"a1"`, "9")},
	{name: "a datacenter is made", request: "POST " + dcs + "?fieldManager=user",
		body:     `{"apiVersion":"cassandra.datastax.com/v1beta1","kind":"CassandraDatacenter","metadata":{"name":"dc1"},"spec":{"clusterName":"shop","serverType":"cassandra","serverVersion":"5.0.4","size":3,"podTemplateSpec":{"spec":{"containers":[{"name":"cassandra","image":"c"},{"name":"medusa","image":"old"}]}}}}`,
		remember: remembered},
	{name: "a part of it is applied", request: "PATCH " + dcs + "/dc1?fieldManager=us", as: applies,
		body: `{"apiVersion":"cassandra.datastax.com/v1beta1","kind":"CassandraDatacenter","metadata":{"name":"dc1","annotations":{"a":"b"}},"spec":{"podTemplateSpec":{"spec":{"containers":[{"name":"medusa","image":"new"}]}}}}`},
	{name: "the rest of it is applied", request: "PATCH " + dcs + "/dc1?fieldManager=us", as: applies,
		body: `{"apiVersion":"cassandra.datastax.com/v1beta1","kind":"CassandraDatacenter","metadata":{"name":"dc1","resourceVersion":"<rv>","annotations":{"a":"b"}},"spec":{"podTemplateSpec":{"spec":{"containers":[{"name":"medusa","env":[{"name":"E","value":"1"}]}]}}}}`},
	{name: "a field is applied that is not known", request: "PATCH " + jobs + "/j1?fieldManager=us&force=true", as: applies, body: job("j1", "")},
	{name: "a status is applied", request: "PATCH " + jobs + "/j1/status?fieldManager=they&force=true", as: applies,
		body: `{"apiVersion":"medusa.k8ssandra.io/v1alpha1","kind":"MedusaBackupJob","metadata":{"name":"j1"},"status":{"message":"m"}}`},
	{name: "a status is applied to nothing", request: "PATCH " + jobs + "/j7/status?fieldManager=they&force=true", as: applies,
		body: `{"apiVersion":"medusa.k8ssandra.io/v1alpha1","kind":"MedusaBackupJob","metadata":{"name":"j7"},"status":{"message":"m"}}`},
}

var deletions = []step{
	{name: "another object is deleted", request: "DELETE " + configs + "/a1", body: `{"preconditions":{"uid":"00000000-0000-4000-8000-000000000000"}}`},
	{name: "an old version is deleted", request: "DELETE " + configs + "/a1", body: `{"preconditions":{"resourceVersion":"1"}}`},
	{name: "deleted as a trial", request: "DELETE " + configs + "/a1?dryRun=All"},
	{name: "deleted", request: "DELETE " + configs + "/a1"},
	{name: "deleted again", request: "DELETE " + configs + "/a1"},
	{name: "made with a finalizer", request: "POST " + jobs, body: job("f1", `,"finalizers":["example.com/held"]`)},
	{name: "an old version of a custom object is deleted", request: "DELETE " + jobs + "/j1", body: `{"preconditions":{"resourceVersion":"1"}}`},
	{name: "a custom object is deleted", request: "DELETE " + jobs + "/j1"},
	{name: "deleted with a finalizer", request: "DELETE " + jobs + "/f1"},
	{name: "let go", request: "PATCH " + jobs + "/f1?fieldManager=us", as: merges, accept: partial, body: `{"metadata":{"finalizers":[]}}`},
	{name: "gone", request: "GET " + jobs + "/f1"},
}

// What is watched has happened before, so that the answers do not depend on when they are asked.
var watches = []step{
	{name: "the first page", request: "GET " + configs + "?limit=1", remember: map[string]string{"next": "metadata.continue", "list": "metadata.resourceVersion"}},
	{name: "the next page", request: "GET " + configs + "?limit=2&continue=<next>"},
	{name: "a page that is none", request: "GET " + configs + "?limit=1&continue=x"},
	{name: "a page of what is selected", request: "GET " + configs + "?limit=1&labelSelector=set"},
	{name: "equal", request: "GET " + configs + "?labelSelector=set%3Dx"},
	{name: "not equal", request: "GET " + configs + "?labelSelector=set!%3Dx", accept: parts},
	{name: "in", request: "GET " + configs + "?labelSelector=set%20in%20(x,y)"},
	{name: "not there", request: "GET " + configs + "?labelSelector=!set"},
	{name: "by name in all namespaces", request: "GET /api/v1/configmaps?fieldSelector=metadata.name%3Dm2"},
	{name: "seen by its metadata", request: "GET " + dcs, accept: parts},
	{name: "one changes", request: "PATCH " + configs + "/m1?fieldManager=us", as: merges, body: `{"data":{"e":"5"}}`},
	{name: "one leaves the selection", request: "PATCH " + configs + "/m2?fieldManager=us", as: merges, body: `{"metadata":{"labels":{"set":"z"}}}`},
	{name: "one comes", request: "POST " + configs + "?fieldManager=us", body: configMap(`"name":"m3","labels":{"set":"y"}`, "1")},
	{name: "one goes", request: "DELETE " + configs + "/m3"},
	{name: "watched from there on", request: "GET " + configs + "?watch=true&timeoutSeconds=1&resourceVersion=<list>"},
	{name: "watched by labels", request: "GET " + configs + "?watch=true&timeoutSeconds=1&resourceVersion=<list>&labelSelector=set%3Dy"},
	{name: "watched by metadata", request: "GET " + configs + "?watch=true&timeoutSeconds=1&resourceVersion=<list>", accept: partial},
	{name: "watched from now on", request: "GET " + configs + "?watch=true&timeoutSeconds=1"},
	{name: "streamed", request: "GET " + configs + "?watch=true&timeoutSeconds=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"},
	{name: "streamed from no version", request: "GET " + configs + "?watch=true&timeoutSeconds=1&sendInitialEvents=true&allowWatchBookmarks=true"},
	{name: "watched from no number", request: "GET " + configs + "?watch=true&timeoutSeconds=1&resourceVersion=x"},
	{name: "all of a kind deleted", request: "DELETE " + configs + "?labelSelector=set"},
}

package sim

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"
)

// longest is how long a body may be, as an API server has it.
const longest = 3 << 20

// open are the paths that need no token.
var open = map[string]bool{"/version": true, "/healthz": true, "/livez": true, "/readyz": true}

// ServeHTTP is one data plane's API server.
func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, isResource := parse(r.URL.Path)
	asked := verb(r.Method, t, r.URL.Query())
	if isResource {
		name := t.resource().String()
		if t.part != "" {
			name += "/" + t.part
		}
		p.counters.request(asked + " " + name)
	} else {
		p.counters.request(strings.ToLower(r.Method) + " " + r.URL.Path)
	}
	w = &counted{ResponseWriter: w, counters: &p.counters}
	// It is read first: until then, nobody would notice that a client is gone.
	body, tooLong := readBody(r)
	w, goesOn := p.faults.meet(w, r, p)
	if !goesOn {
		return
	}
	begin(w)
	if tooLong != nil {
		refuse(w, tooLong)
		return
	}
	who := r.Header.Get("Authorization")
	switch {
	case who == "" && open[r.URL.Path]:
	case who == "":
		refuse(w, newForbidden(asked, t))
		return
	case subtle.ConstantTimeCompare([]byte(who), []byte("Bearer "+p.token)) != 1:
		refuse(w, apierrors.NewUnauthorized("Unauthorized"))
		return
	}
	shown, aggregated, ok := acceptable(r.Header.Get("Accept"))
	if !ok {
		refuse(w, newNotAcceptable())
		return
	}
	if !isResource {
		p.kinds.describe(w, r, aggregated)
		return
	}
	if review(w, r, t, body) {
		return
	}
	k := p.kinds.find(t.group, t.version, t.plural)
	if k == nil && scheme.Scheme.IsVersionRegistered(schema.GroupVersion{Group: t.group, Version: t.version}) {
		refuse(w, newNoSuchPath())
		return
	}
	if k == nil {
		notFound(w)
		return
	}
	verbs := k.verbs(t)
	switch {
	case slices.Contains(verbs, asked) && (k.custom != nil || r.Method != http.MethodHead):
		err := serving[asked](request{plane: p, kind: k, target: t, shown: shown, w: w, r: r, body: body})
		if err != nil {
			refuse(w, err)
		}
	case k.custom == nil && verbs == nil:
		refuse(w, newNoSuchPath())
	case k.custom == nil:
		refuse(w, newMethodNotAllowed())
	case k.namespaced != (t.namespace != ""):
		notFound(w)
	case verbs == nil:
		refuse(w, apierrors.NewNotFound(k.resource(), t.name))
	default:
		refuse(w, apierrors.NewMethodNotSupported(k.resource(), asked))
	}
}

// readBody reads all of a body, which must not be longer than an API server takes.
func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, longest+1))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(body) > longest {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", longest))
	}
	return body, nil
}

// asJSON is a body, which is JSON or YAML, as JSON.
func asJSON(r *http.Request, body []byte) ([]byte, error) {
	switch contentType(r) {
	case "", "application/json":
		return body, nil
	case "application/yaml":
		text, err := yaml.YAMLToJSON(body)
		if err != nil {
			return nil, apierrors.NewBadRequest(fmt.Sprintf("error decoding YAML: %v", err))
		}
		return text, nil
	}
	return nil, newUnsupportedMediaType("application/json", "application/yaml")
}

func contentType(r *http.Request) string {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return media
}

// request is one request about objects.
type request struct {
	plane  *plane
	kind   *kind
	target target
	shown  form
	w      http.ResponseWriter
	r      *http.Request
	body   []byte
}

var serving = map[string]func(request) error{
	"get": request.get, "list": request.list, "watch": request.watch, "create": request.create, "update": request.update,
	"patch": request.patch, "delete": request.delete, "deletecollection": request.deleteAll,
}

func (q request) get() error {
	found, err := q.plane.store.get(q.kind, q.target.namespace, q.target.name)
	if err != nil {
		return err
	}
	q.show(http.StatusOK, q.plane.faults.disguise(q.kind, found))
	return nil
}

func (q request) show(code int, o *object) {
	send(q.w, code, append(o.write(nil, q.kind, q.shown, false), '\n'))
}

func (q request) write() (write, error) {
	query := q.r.URL.Query()
	w := write{manager: manager(q.r), force: isTrue(query, "force"), status: q.target.part == "status"}
	for _, word := range query["dryRun"] {
		if word != "All" {
			return w, apierrors.NewBadRequest(fmt.Sprintf("dryRun: Unsupported value: %q: supported values: \"All\"", word))
		}
		w.dryRun = true
	}
	return w, nil
}

// object reads the object that was sent, and how it is to be written.
func (q request) object() (*unstructured.Unstructured, write, error) {
	w, err := q.write()
	if err != nil {
		return nil, w, err
	}
	text, err := asJSON(q.r, q.body)
	if err != nil {
		return nil, w, err
	}
	u, err := readObject(text)
	return u, w, err
}

func (q request) create() error {
	u, w, err := q.object()
	if err != nil {
		return err
	}
	made, err := q.plane.store.create(q.kind, q.target.namespace, u, w)
	if err != nil {
		return err
	}
	q.show(http.StatusCreated, made)
	return nil
}

func (q request) update() error {
	u, w, err := q.object()
	if err != nil {
		return err
	}
	if err := fits(q.kind, q.target.namespace, u); err != nil {
		return err
	}
	if u.GetResourceVersion() == "" && !q.kind.unconditional {
		return newVersionMissing(q.kind, u.GetName())
	}
	return q.change(q.kind.put(u, w), w)
}

func (q request) patch() error {
	w, err := q.write()
	if err != nil {
		return err
	}
	as := types.PatchType(contentType(q.r))
	if as == types.ApplyPatchType && q.r.URL.Query().Get("fieldManager") == "" {
		return newManagerMissing()
	}
	change, err := q.kind.patch(q.target.namespace, q.target.name, as, q.body, w)
	if err != nil {
		return err
	}
	return q.change(change, w)
}

func (q request) change(change change, w write) error {
	written, isNew, err := q.plane.store.update(q.kind, q.target.namespace, q.target.name, change, w)
	if err != nil {
		return err
	}
	code := http.StatusOK
	if isNew {
		code = http.StatusCreated
	}
	q.show(code, written)
	return nil
}

func (q request) deletion() (metav1.DeleteOptions, error) {
	var options metav1.DeleteOptions
	if len(q.body) > 0 {
		text, err := asJSON(q.r, q.body)
		if err != nil {
			return options, err
		}
		if err := json.Unmarshal(text, &options); err != nil {
			return options, apierrors.NewBadRequest(err.Error())
		}
	}
	w, err := q.write()
	if w.dryRun {
		options.DryRun = []string{metav1.DryRunAll}
	}
	return options, err
}

func (q request) delete() error {
	options, err := q.deletion()
	if err != nil {
		return err
	}
	last, isGone, err := q.plane.store.delete(q.kind, q.target.namespace, q.target.name, options)
	if err != nil {
		return err
	}
	if !isGone || q.kind.returned {
		q.show(http.StatusOK, last)
		return nil
	}
	sendJSON(q.w, http.StatusOK, metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess,
		Details:  &metav1.StatusDetails{Name: last.name, Group: q.kind.Group, Kind: q.kind.plural, UID: last.uid},
	})
	return nil
}

func (q request) deleteAll() error {
	options, err := q.deletion()
	if err != nil {
		return err
	}
	which, err := selected(q.target, q.r.URL.Query())
	if err != nil {
		return err
	}
	doomed := q.plane.store.list(q.kind, which, nil, 0)
	for _, o := range doomed.objects {
		if _, _, err := q.plane.store.delete(q.kind, o.namespace, o.name, options); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return q.showList(doomed)
}

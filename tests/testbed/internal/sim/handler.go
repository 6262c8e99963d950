package sim

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// longest is how long a body may be, as an API server has it.
const longest = 3 << 20

// open are the paths that everybody may read.
var open = map[string]bool{"/version": true, "/healthz": true, "/livez": true, "/readyz": true}

// ServeHTTP is one data plane's API server.
func (p *plane) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, isResource := parse(r.URL.Path)
	query := r.URL.Query()
	asked := verb(r.Method, t, query)
	if isResource {
		name := t.plural
		if t.group != "" {
			name += "." + t.group
		}
		if t.part != "" {
			name += "/" + t.part
		}
		p.counters.request(asked + " " + name)
	} else {
		p.counters.request(strings.ToLower(r.Method) + " " + r.URL.Path)
	}
	w = &counted{ResponseWriter: w, counters: &p.counters}
	w, goesOn := p.faults.meet(w, r, p)
	if !goesOn {
		return
	}
	begin(w)
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
	if review(w, r, t) {
		return
	}
	k := p.kinds.find(t.group, t.version, t.plural)
	if k == nil || (t.part != "" && (t.part != "status" || !k.status)) || (t.namespace != "" && !k.namespaced) {
		notFound(w)
		return
	}
	request{plane: p, kind: k, target: t, shown: shown, w: w, r: r}.serve(asked)
}

// request is one request about objects.
type request struct {
	plane  *plane
	kind   *kind
	target target
	shown  form
	w      http.ResponseWriter
	r      *http.Request
}

func (q request) serve(asked string) {
	needsName := asked != "list" && asked != "watch" && asked != "create" && asked != "deletecollection"
	isWrite := asked == "create" || needsName && asked != "get"
	switch {
	case needsName && q.target.name == "", asked == "create" && q.target.name != "",
		isWrite && q.kind.namespaced && q.target.namespace == "":
		refuse(q.w, newMethodNotAllowed())
		return
	}
	var err error
	switch asked {
	case "get":
		var found *object
		if found, err = q.plane.store.get(q.kind, q.target.namespace, q.target.name); err == nil {
			q.show(http.StatusOK, q.plane.faults.disguise(q.kind, found))
		}
	case "list":
		err = q.list()
	case "watch":
		err = q.watch()
	case "create":
		err = q.create()
	case "update":
		err = q.update()
	case "patch":
		err = q.patch()
	case "delete":
		err = q.delete()
	case "deletecollection":
		err = q.deleteAll()
	default:
		err = newMethodNotAllowed()
	}
	if err != nil {
		refuse(q.w, err)
	}
}

func (q request) show(code int, o *object) {
	send(q.w, code, append(o.write(nil, q.kind, q.shown, false), '\n'))
}

func (q request) write() (write, error) {
	query := q.r.URL.Query()
	w := write{manager: manager(q.r), force: isTrue(query.Get("force")), status: q.target.part == "status"}
	for _, word := range query["dryRun"] {
		if word != "All" {
			return w, apierrors.NewBadRequest(fmt.Sprintf("dryRun: Unsupported value: %q: supported values: \"All\"", word))
		}
		w.dryRun = true
	}
	return w, nil
}

func (q request) body() ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(q.r.Body, longest+1))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	if len(body) > longest {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", longest))
	}
	return body, nil
}

func (q request) create() error {
	w, err := q.write()
	if err != nil {
		return err
	}
	body, err := q.body()
	if err != nil {
		return err
	}
	u, err := readObject(body)
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
	w, err := q.write()
	if err != nil {
		return err
	}
	body, err := q.body()
	if err != nil {
		return err
	}
	u, err := readObject(body)
	if err != nil {
		return err
	}
	if err := fits(q.kind, q.target.namespace, u); err != nil {
		return err
	}
	if u.GetResourceVersion() == "" && !q.kind.unconditional {
		return newVersionMissing(q.kind, u.GetName())
	}
	written, _, err := q.plane.store.update(q.kind, q.target.namespace, q.target.name, q.kind.put(u, w), w)
	if err != nil {
		return err
	}
	q.show(http.StatusOK, written)
	return nil
}

func (q request) patch() error {
	w, err := q.write()
	if err != nil {
		return err
	}
	body, err := q.body()
	if err != nil {
		return err
	}
	media, _, _ := mime.ParseMediaType(q.r.Header.Get("Content-Type"))
	as := types.PatchType(media)
	if as == types.ApplyPatchType && q.r.URL.Query().Get("fieldManager") == "" {
		return newManagerMissing()
	}
	change, err := q.kind.patch(q.target.namespace, q.target.name, as, body, w)
	if err != nil {
		return err
	}
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
	body, err := q.body()
	if err != nil {
		return options, err
	}
	if len(body) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
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

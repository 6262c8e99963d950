package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// begin sets the headers that an API server puts on all that it answers.
func begin(w http.ResponseWriter) {
	w.Header().Set("Audit-Id", string(uuid.NewUUID()))
	w.Header().Set("Cache-Control", "no-cache, private")
}

func send(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func sendJSON(w http.ResponseWriter, code int, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	send(w, code, append(body, '\n'))
}

// refuse answers with an error, as a Status.
func refuse(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if status.Details != nil && status.Details.RetryAfterSeconds > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(status.Details.RetryAfterSeconds)))
	}
	sendJSON(w, int(status.Code), status)
}

func statusOf(err error) *metav1.Status {
	status := metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: err.Error()}
	var known apierrors.APIStatus
	if errors.As(err, &known) {
		status = known.Status()
	}
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return &status
}

func notFound(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusNotFound)
	_, _ = w.Write([]byte("404 page not found\n"))
}

func newStatusError(code int, reason metav1.StatusReason, message string) *apierrors.StatusError {
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message, Details: &metav1.StatusDetails{},
	}}
}

func newUnsupportedMediaType(known ...string) *apierrors.StatusError {
	err := newStatusError(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType,
		"the body of the request was in an unknown format - accepted media types include: "+strings.Join(known, ", "))
	err.ErrStatus.Details = nil
	return err
}

func newNotAcceptable() error {
	return newStatusError(http.StatusNotAcceptable, metav1.StatusReasonNotAcceptable,
		"only the following media types are accepted: application/json")
}

func newNoSuchPath() error {
	return newStatusError(http.StatusNotFound, metav1.StatusReasonNotFound, "the server could not find the requested resource")
}

func newMethodNotAllowed() error {
	return newStatusError(http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed,
		"the server does not allow this method on the requested resource")
}

// newForbidden is what anonymous requests get.
func newForbidden(verb string, t target) error {
	group := metav1.StatusDetails{Group: t.group, Kind: t.plural, Name: t.name}
	scope := "at the cluster scope"
	if t.namespace != "" {
		scope = fmt.Sprintf("in the namespace %q", t.namespace)
	}
	name := ""
	if t.name != "" {
		name = fmt.Sprintf(" %q", t.name)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Details: &group,
		Message: fmt.Sprintf("%s%s is forbidden: User \"system:anonymous\" cannot %s resource %q in API group %q %s",
			t.resource(), name, verb, t.plural, t.group, scope),
	}}
}

func newVersionMissing(k *kind, name string) error {
	return apierrors.NewInvalid(schema.GroupKind{Group: k.Group, Kind: k.plural}, name, field.ErrorList{field.Invalid(
		field.NewPath("metadata", "resourceVersion"), "0x0", "must be specified for an update")})
}

func newManagerMissing() error {
	return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "PatchOptions"}, "", field.ErrorList{
		field.Required(field.NewPath("fieldManager"), "is required for apply patch")})
}

func newMatchMissing() error {
	return apierrors.NewInvalid(schema.GroupKind{Group: "meta.k8s.io", Kind: "ListOptions"}, "", field.ErrorList{
		field.Forbidden(field.NewPath("resourceVersionMatch"),
			"sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")})
}

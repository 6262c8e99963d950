package sim

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// token says where a list goes on.
type token struct {
	Format  string `json:"v"`
	Version uint64 `json:"rv"`
	Start   string `json:"start"`
}

const tokenFormat = "meta.k8s.io/v1"

func (t token) String() string {
	text, _ := json.Marshal(t)
	return base64.RawURLEncoding.EncodeToString(text)
}

func readToken(text string) (token, *object, error) {
	var t token
	decoded, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(decoded, &t)
	}
	namespace, name, ok := strings.Cut(t.Start, "/")
	if err != nil || !ok || t.Format != tokenFormat {
		return t, nil, apierrors.NewBadRequest("continue key is not valid")
	}
	return t, &object{namespace: namespace, name: name}, nil
}

func (q request) list() error {
	query := q.r.URL.Query()
	which, err := selected(q.target, query)
	if err != nil {
		return err
	}
	limit, err := number(query, "limit")
	if err != nil {
		return err
	}
	if _, err := number(query, "resourceVersion"); err != nil {
		return err
	}
	var begun token
	var after *object
	if text := query.Get("continue"); text != "" {
		if query.Get("resourceVersion") != "" && query.Get("resourceVersion") != "0" {
			return apierrors.NewBadRequest("specifying resource version is not allowed when using continue")
		}
		if begun, after, err = readToken(text); err != nil {
			return err
		}
		if _, _, tooOld := q.plane.store.since(q.kind, begun.Version); tooOld || q.plane.faults.forgets() {
			return apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
				"You must start a new list without the continue parameter.")
		}
	}
	found := q.plane.store.list(q.kind, which, after, int(limit))
	if after != nil {
		found.version = begun.Version
	}
	if !which.everything() {
		found.left = 0
	}
	return q.showList(found)
}

// showList answers with a list.
func (q request) showList(found page) error {
	head := q.kind.head
	if q.shown == onlyMetadata {
		head = partialHead
	}
	body := append(make([]byte, 0, 512+1024*len(found.objects)), head+`"metadata":{"resourceVersion":"`...)
	body = strconv.AppendUint(body, found.version, 10)
	body = append(body, '"')
	if found.next == nil && q.kind.custom != nil && q.shown == whole {
		body = append(body, `,"continue":""`...)
	}
	if found.next != nil {
		next := token{tokenFormat, found.version, found.next.namespace + "/" + found.next.name}
		body = append(body, `,"continue":"`+next.String()+`"`...)
		if found.left > 0 {
			body = append(body, `,"remainingItemCount":`...)
			body = strconv.AppendInt(body, int64(found.left), 10)
		}
	}
	body = append(body, `},"items":[`...)
	for i, o := range found.objects {
		if i > 0 {
			body = append(body, ',')
		}
		body = q.plane.faults.disguise(q.kind, o).write(body, q.kind, q.shown, true)
	}
	send(q.w, http.StatusOK, append(body, "]}\n"...))
	return nil
}

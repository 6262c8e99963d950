package sim

import (
	"encoding/json"
	"net/http"

	authorization "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// review answers that an account may do everything here, and says whether that was asked.
func review(w http.ResponseWriter, r *http.Request, t target, body []byte) bool {
	if t.group != reviews.Group || t.version != reviews.Version || t.name != "" || t.namespace != "" {
		return false
	}
	var asked any
	access, rules := authorization.SelfSubjectAccessReview{}, authorization.SelfSubjectRulesReview{}
	switch t.plural {
	case "selfsubjectaccessreviews":
		asked = &access
	case "selfsubjectrulesreviews":
		asked = &rules
	default:
		return false
	}
	if r.Method != http.MethodPost {
		refuse(w, newMethodNotAllowed())
		return true
	}
	text, err := asJSON(r, body)
	if err != nil {
		refuse(w, err)
		return true
	}
	if err := json.Unmarshal(text, asked); err != nil {
		refuse(w, apierrors.NewBadRequest(err.Error()))
		return true
	}
	access.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectAccessReview", APIVersion: reviews.String()}
	access.Status = authorization.SubjectAccessReviewStatus{Allowed: true}
	all := []string{"*"}
	rules.TypeMeta = metav1.TypeMeta{Kind: "SelfSubjectRulesReview", APIVersion: reviews.String()}
	rules.Status = authorization.SubjectRulesReviewStatus{
		ResourceRules:    []authorization.ResourceRule{{Verbs: all, APIGroups: all, Resources: all}},
		NonResourceRules: []authorization.NonResourceRule{{Verbs: all, NonResourceURLs: all}},
	}
	sendJSON(w, http.StatusCreated, asked)
	return true
}

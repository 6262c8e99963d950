package podrunner

import (
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	kubetesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/kubelet/token"
)

func TestAPodsAccountIsProjectedAsAKubeletDoes(t *testing.T) {
	client := fake.NewClientset()
	var asked []authenticationv1.TokenRequestSpec
	client.PrependReactor("create", "serviceaccounts", func(action kubetesting.Action) (bool, runtime.Object, error) {
		request := action.(kubetesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
		asked = append(asked, request.Spec)
		request.Status = authenticationv1.TokenRequestStatus{
			Token: "text", ExpirationTimestamp: metav1.NewTime(time.Now().Add(time.Hour)),
		}
		return true, request, nil
	})
	configMaps := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc})
	_ = configMaps.Add(&corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fleet", Name: "kube-root-ca.crt"},
		Data:       map[string]string{"ca.crt": "certificate", "other": "left out"},
	})
	runner := &Runner{tokens: token.NewManager(client), configMaps: listers.NewConfigMapLister(configMaps)}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "fleet", Name: "pod", UID: "uid"},
		Spec:       corev1.PodSpec{ServiceAccountName: "account"},
	}
	w := &worker{runner: runner, pod: pod}
	seconds := int64(3607)
	// What the API server's admission plugin writes into pods.
	source := &corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{ExpirationSeconds: &seconds, Path: "token"}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
			Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
		}}},
	}}}
	for range 2 {
		content, err := w.content(pod, source)
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{"token": "text", "ca.crt": "certificate", "namespace": "fleet"}
		if len(content) != len(want) {
			t.Errorf("%v", content)
		}
		for path, text := range want {
			if string(content[path]) != text {
				t.Errorf("%s is %q", path, content[path])
			}
		}
	}
	if len(asked) != 1 || asked[0].BoundObjectRef == nil || asked[0].BoundObjectRef.UID != "uid" {
		t.Errorf("one token that ends with the pod, not %+v", asked)
	}
}

func TestAVariableMayReferToThoseBeforeIt(t *testing.T) {
	w := &worker{runner: &Runner{}, address: "127.20.3.9", pod: &corev1.Pod{}}
	got, err := w.environment(&corev1.Container{Env: []corev1.EnvVar{
		{Name: "EARLY", Value: "$(LATE)"},
		{Name: "ADDRESS", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "LATE", Value: "$(ADDRESS):$(SERVICE) $$(ADDRESS)"},
	}}, map[string]string{"SERVICE": "443"})
	if err != nil || got["EARLY"] != "$(LATE)" || got["LATE"] != "127.20.3.9:443 $(ADDRESS)" || got["SERVICE"] != "443" {
		t.Errorf("%v, %v", got, err)
	}
}

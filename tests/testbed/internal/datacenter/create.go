package datacenter

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/install"
	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
)

// Request asks for a datacenter as its user would have declared it, with Medusa configured as k8ssandra-operator does.
type Request struct {
	Namespace, Cluster, Name string
	Size                     int
	Racks                    []string
	Labels                   map[string]string
	// Medusa, if set, adds the Medusa container.
	Medusa *Medusa
}

// Medusa says which Medusa runs, and where backups go.
type Medusa struct {
	// Image is one that has a recipe.
	Image string
	// Secret is the bucket Secret, in the datacenter's namespace, with key `credentials`. Pods wait until it is there.
	Secret                   string
	Endpoint, Bucket, Prefix string
}

// Create makes the namespace, Medusa's ConfigMap and the CassandraDatacenter.
func Create(ctx context.Context, config *rest.Config, request Request) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: request.Namespace}}
	_, err = client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace: %w", err)
	}
	if request.Medusa != nil {
		configMap, err := request.configMap()
		if err != nil {
			return err
		}
		_, err = client.CoreV1().ConfigMaps(request.Namespace).Create(ctx, configMap, metav1.CreateOptions{})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create ConfigMap: %w", err)
		}
	}
	object, err := request.object()
	if err != nil {
		return err
	}
	_, err = untyped.Resource(Resource).Namespace(request.Namespace).Create(ctx, object, metav1.CreateOptions{})
	return err
}

// AwaitReady waits until a datacenter's Ready condition holds.
func AwaitReady(ctx context.Context, config *rest.Config, namespace, name string, timeout time.Duration) error {
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	err = wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, timeout, true, func(ctx context.Context) (bool, error) {
		object, err := client.Resource(Resource).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, nil //nolint:nilerr // polled
		}
		status, _, _ := unstructured.NestedMap(object.Object, "status")
		return conditionStatus(status, readyCondition) == string(corev1.ConditionTrue), nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("datacenter %s/%s is not ready after %s", namespace, name, timeout)
	}
	return err
}

func (r Request) medusaName() string { return strings.ToLower(r.Cluster) + "-medusa" }

func (r Request) configMap() (*corev1.ConfigMap, error) {
	endpoint, err := url.Parse(r.Medusa.Endpoint)
	if err != nil || endpoint.Port() == "" {
		return nil, fmt.Errorf("S3 endpoint %q is no URL with a port", r.Medusa.Endpoint)
	}
	ini := strings.Join([]string{
		"[cassandra]", "use_sudo = false", "",
		"[storage]", "use_sudo_for_restore = false", "storage_provider = s3_compatible",
		"bucket_name = " + r.Medusa.Bucket, "key_file = /etc/medusa-secrets/credentials", "prefix = " + r.Medusa.Prefix,
		"max_backup_age = 0", "max_backup_count = 0", "region = us-east-1",
		"host = " + endpoint.Hostname(), "port = " + endpoint.Port(), "secure = False", "ssl_verify = False",
		"concurrent_transfers = 1", "",
		"[grpc]", "enabled = 1", "",
		"[logging]", "level = DEBUG", "",
		"[kubernetes]", "use_mgmt_api = 1", "enabled = 1",
		"cassandra_url = http://127.0.0.1:8080/api/v0/ops/node/snapshots", "",
	}, "\n")
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: r.medusaName(), Namespace: r.Namespace},
		Data:       map[string]string{"medusa.ini": ini},
	}, nil
}

func (r Request) object() (*unstructured.Unstructured, error) {
	template, err := runtime.DefaultUnstructuredConverter.ToUnstructured(r.template())
	if err != nil {
		return nil, err
	}
	spec := map[string]any{
		"clusterName": r.Cluster, "serverType": "cassandra", "serverVersion": install.CassandraVersion,
		"size": int64(r.Size), "podTemplateSpec": template,
		"storageConfig": map[string]any{"cassandraDataVolumeClaimSpec": map[string]any{
			"accessModes": []any{"ReadWriteOnce"},
			"resources":   map[string]any{"requests": map[string]any{"storage": "1Gi"}},
		}},
	}
	var racks []any
	for _, name := range r.Racks {
		racks = append(racks, map[string]any{"name": name})
	}
	if racks != nil {
		spec["racks"] = racks
	}
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetAPIVersion(Resource.GroupVersion().String())
	object.SetKind("CassandraDatacenter")
	object.SetNamespace(r.Namespace)
	object.SetName(r.Name)
	object.SetLabels(r.Labels)
	return object, nil
}

// template is the part of the pods that comes from the datacenter's owner.
func (r Request) template() *corev1.PodTemplateSpec {
	template := &corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: CassandraContainer, Image: recipes.CassandraImage}},
	}}
	if r.Medusa == nil {
		return template
	}
	const temporaryVolume, infoVolume = "medusa-tmp", "podinfo"
	container := corev1.Container{
		Name:  "medusa",
		Image: r.Medusa.Image,
		Env: []corev1.EnvVar{
			{Name: "MEDUSA_MODE", Value: "GRPC"},
			{Name: "MEDUSA_TMP_DIR", Value: recipes.DataPath},
			{Name: "POD_NAME", ValueFrom: &corev1.EnvVarSource{
				FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"},
			}},
		},
		Ports: []corev1.ContainerPort{{Name: "grpc", ContainerPort: 50051, Protocol: corev1.ProtocolTCP}},
		VolumeMounts: []corev1.VolumeMount{
			{Name: ConfigVolume, MountPath: recipes.ConfigPath},
			{Name: DataVolume, MountPath: recipes.DataPath},
			{Name: r.medusaName(), MountPath: "/etc/medusa"},
			{Name: infoVolume, MountPath: "/etc/podinfo"},
			{Name: temporaryVolume, MountPath: "/tmp"},
			{Name: r.Medusa.Secret, MountPath: "/etc/medusa-secrets"},
		},
	}
	restore := *container.DeepCopy()
	restore.Name, restore.Ports = "medusa-restore", nil
	restore.Env[0].Value = "RESTORE"
	template.Spec.Containers = append(template.Spec.Containers, container)
	// Named here so that it keeps its place before medusa-restore; cass-operator fills it in.
	template.Spec.InitContainers = []corev1.Container{{Name: ConfigContainer, Image: recipes.ConfigImage}, restore}
	template.Spec.Volumes = []corev1.Volume{
		{Name: ConfigVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: r.medusaName(), VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: r.medusaName()},
		}}},
		{Name: infoVolume, VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
			Items: []corev1.DownwardAPIVolumeFile{{
				Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"},
			}},
		}}},
		{Name: temporaryVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: r.Medusa.Secret, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: r.Medusa.Secret,
		}}},
	}
	return template
}

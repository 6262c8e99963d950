package datacenter

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/k8ssandra/medusa-fleet/tests/testbed/internal/recipes"
)

// Labels that cass-operator puts on what belongs to a datacenter.
const (
	ClusterLabel    = "cassandra.datastax.com/cluster"
	DatacenterLabel = "cassandra.datastax.com/datacenter"
	RackLabel       = "cassandra.datastax.com/rack"
)

// Names inside a cass-operator pod.
const (
	CassandraContainer = "cassandra"
	ConfigContainer    = "server-config-init"
	ConfigVolume       = "server-config"
	DataVolume         = "server-data"
	LogVolume          = "server-logs"
)

const defaultRack = "default"

// spec holds the fields of a CassandraDatacenter that the stand-in acts on.
type spec struct {
	ClusterName     string                 `json:"clusterName"`
	DatacenterName  string                 `json:"datacenterName"`
	Size            int32                  `json:"size"`
	Stopped         bool                   `json:"stopped"`
	Racks           []rackSpec             `json:"racks"`
	PodTemplateSpec corev1.PodTemplateSpec `json:"podTemplateSpec"`
}

type rackSpec struct {
	Name string `json:"name"`
}

type datacenter struct {
	spec

	namespace, name string
	generation      int64
	owner           metav1.OwnerReference
}

type rack struct {
	name     string
	replicas int32
}

func parse(object *unstructured.Unstructured) (*datacenter, error) {
	dc := &datacenter{namespace: object.GetNamespace(), name: object.GetName(), generation: object.GetGeneration()}
	fields, _, err := unstructured.NestedMap(object.Object, "spec")
	if err != nil {
		return nil, err
	}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(fields, &dc.spec); err != nil {
		return nil, fmt.Errorf("spec: %w", err)
	}
	dc.owner = *metav1.NewControllerRef(object, object.GroupVersionKind())
	return dc, nil
}

// racks splits the nodes evenly; the first racks get what is left over.
func (dc *datacenter) racks() []rack {
	names := []string{defaultRack}
	if len(dc.Racks) > 0 {
		names = nil
		for _, declared := range dc.Racks {
			names = append(names, declared.Name)
		}
	}
	racks := make([]rack, len(names))
	for i, name := range names {
		racks[i] = rack{name: name, replicas: dc.Size / int32(len(names))}
		if int32(i) < dc.Size%int32(len(names)) {
			racks[i].replicas++
		}
	}
	return racks
}

func (dc *datacenter) labels() map[string]string {
	return map[string]string{ClusterLabel: dc.ClusterName, DatacenterLabel: dc.name}
}

// setName is cass-operator's name of a rack's StatefulSet.
func (dc *datacenter) setName(rack string) string {
	clean := func(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "-") }
	return fmt.Sprintf("%s-%s-%s-sts", clean(dc.ClusterName), clean(dc.name), clean(rack))
}

func (dc *datacenter) serviceName() string {
	return fmt.Sprintf("%s-%s-all-pods-service", strings.ToLower(dc.ClusterName), dc.name)
}

func (dc *datacenter) statefulSet(rack rack) *appsv1.StatefulSet {
	selector := dc.labels()
	selector[RackLabel] = rack.name
	replicas := rack.replicas
	if dc.Stopped {
		replicas = 0
	}
	return &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: dc.setName(rack.name), Namespace: dc.namespace, Labels: selector,
			OwnerReferences: []metav1.OwnerReference{dc.owner},
		},
		Spec: appsv1.StatefulSetSpec{
			Replicas:            &replicas,
			ServiceName:         dc.serviceName(),
			PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector:            &metav1.LabelSelector{MatchLabels: selector},
			Template:            dc.template(rack.name, selector),
			VolumeClaimTemplates: []corev1.PersistentVolumeClaim{{
				ObjectMeta: metav1.ObjectMeta{Name: DataVolume},
				Spec: corev1.PersistentVolumeClaimSpec{
					AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
					Resources: corev1.VolumeResourceRequirements{
						Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")},
					},
				},
			}},
		},
	}
}

// template adds Cassandra's own containers and volumes to the datacenter's pod template, which may already have
// containers beside them (Medusa) and settings for them.
func (dc *datacenter) template(rackName string, podLabels map[string]string) corev1.PodTemplateSpec {
	template := *dc.PodTemplateSpec.DeepCopy()
	labels := map[string]string{}
	for _, source := range []map[string]string{template.Labels, podLabels} {
		for name, value := range source {
			labels[name] = value
		}
	}
	template.Labels = labels
	pod := &template.Spec
	for _, name := range []string{ConfigVolume, LogVolume} {
		if !slices.ContainsFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == name }) {
			pod.Volumes = append(pod.Volumes, corev1.Volume{
				Name: name, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
			})
		}
	}
	seed := corev1.EnvVar{Name: recipes.SeedVariable, Value: dc.setName(dc.racks()[0].name) + "-0"}
	config := named(&pod.InitContainers, ConfigContainer, true)
	config.Image = recipes.ConfigImage
	config.Env = append(config.Env,
		corev1.EnvVar{Name: recipes.ClusterVariable, Value: dc.ClusterName},
		corev1.EnvVar{Name: recipes.DatacenterVariable, Value: dc.cassandraName()},
		corev1.EnvVar{Name: recipes.RackVariable, Value: rackName},
		seed,
	)
	mount(config, ConfigVolume, recipes.ConfigPath)
	cassandra := named(&pod.Containers, CassandraContainer, false)
	cassandra.Env = append(cassandra.Env, seed)
	if cassandra.Image == "" {
		cassandra.Image = recipes.CassandraImage
	}
	mount(cassandra, ConfigVolume, recipes.ConfigPath)
	mount(cassandra, DataVolume, recipes.DataPath)
	mount(cassandra, LogVolume, recipes.LogPath)
	return template
}

// cassandraName is the datacenter's name inside Cassandra.
func (dc *datacenter) cassandraName() string {
	if dc.DatacenterName != "" {
		return dc.DatacenterName
	}
	return dc.name
}

// named finds a container or adds it: first, where the others depend on it.
func named(containers *[]corev1.Container, name string, first bool) *corev1.Container {
	for i := range *containers {
		if (*containers)[i].Name == name {
			return &(*containers)[i]
		}
	}
	if first {
		*containers = append([]corev1.Container{{Name: name}}, *containers...)
		return &(*containers)[0]
	}
	*containers = append(*containers, corev1.Container{Name: name})
	return &(*containers)[len(*containers)-1]
}

func mount(container *corev1.Container, volume, path string) {
	for _, existing := range container.VolumeMounts {
		if existing.MountPath == path {
			return
		}
	}
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: volume, MountPath: path})
}

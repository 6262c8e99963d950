package podrunner

import (
	"fmt"
	"maps"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/kubernetes/third_party/forked/golang/expansion"
)

// environment resolves what a container's env asks for; a value may refer to variables before it, and to those of the
// cluster's services.
func (w *worker) environment(spec *corev1.Container, services map[string]string) (map[string]string, error) {
	if len(spec.EnvFrom) > 0 {
		return nil, fmt.Errorf("container %s: the testbed supports env, not envFrom", spec.Name)
	}
	environment := maps.Clone(services)
	if environment == nil {
		environment = map[string]string{}
	}
	for _, variable := range spec.Env {
		if variable.ValueFrom == nil {
			environment[variable.Name] = expansion.Expand(variable.Value, expansion.MappingFuncFor(environment))
			continue
		}
		value, found, err := w.reference(variable.ValueFrom)
		if err != nil {
			return nil, fmt.Errorf("env %s: %w", variable.Name, err)
		}
		if found {
			environment[variable.Name] = value
		}
	}
	return environment, nil
}

func (w *worker) reference(source *corev1.EnvVarSource) (value string, found bool, err error) {
	switch {
	case source.FieldRef != nil:
		value, err = field(w.pod, w.address, source.FieldRef.FieldPath)
		return value, err == nil, err
	case source.SecretKeyRef != nil:
		reference := source.SecretKeyRef
		secret, err := w.runner.secrets.Secrets(w.pod.Namespace).Get(reference.Name)
		if err != nil {
			return missing(err, reference.Optional)
		}
		data, ok := secret.Data[reference.Key]
		return key(string(data), ok, "secret", reference.Name, reference.Key, reference.Optional)
	case source.ConfigMapKeyRef != nil:
		reference := source.ConfigMapKeyRef
		configMap, err := w.runner.configMaps.ConfigMaps(w.pod.Namespace).Get(reference.Name)
		if err != nil {
			return missing(err, reference.Optional)
		}
		data, ok := configMap.Data[reference.Key]
		return key(data, ok, "configmap", reference.Name, reference.Key, reference.Optional)
	default:
		return "", false, fmt.Errorf("the testbed supports fieldRef, secretKeyRef and configMapKeyRef")
	}
}

func missing(err error, optional *bool) (string, bool, error) {
	if apierrors.IsNotFound(err) && optional != nil && *optional {
		return "", false, nil
	}
	return "", false, err
}

func key(value string, ok bool, kind, name, key string, optional *bool) (string, bool, error) {
	if ok || optional != nil && *optional {
		return value, ok, nil
	}
	return "", false, fmt.Errorf("couldn't find key %s in %s %s", key, kind, name)
}

// field is the value of a downward API field.
func field(pod *corev1.Pod, address, path string) (string, error) {
	switch path {
	case "metadata.name":
		return pod.Name, nil
	case "metadata.namespace":
		return pod.Namespace, nil
	case "metadata.uid":
		return string(pod.UID), nil
	case "metadata.labels":
		return lines(pod.Labels), nil
	case "metadata.annotations":
		return lines(pod.Annotations), nil
	case "spec.nodeName":
		return pod.Spec.NodeName, nil
	case "spec.serviceAccountName":
		return pod.Spec.ServiceAccountName, nil
	case "status.podIP", "status.hostIP":
		return address, nil
	}
	for prefix, values := range map[string]map[string]string{
		"metadata.labels['": pod.Labels, "metadata.annotations['": pod.Annotations,
	} {
		if rest, ok := strings.CutPrefix(path, prefix); ok {
			return values[strings.TrimSuffix(rest, "']")], nil
		}
	}
	return "", fmt.Errorf("the testbed knows no field %s", path)
}

func lines(values map[string]string) string {
	var text []string
	for name, value := range values {
		text = append(text, fmt.Sprintf("%s=%q\n", name, value))
	}
	sort.Strings(text)
	return strings.Join(text, "")
}

package podrunner

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// volumes makes the directories of a pod's volumes and brings those made of ConfigMaps, Secrets and the pod itself up
// to date. It fails while something they need is missing, and is called again then, as it is while the pod runs.
func (w *worker) volumes(pod *corev1.Pod) error {
	for i := range pod.Spec.Volumes {
		volume := &pod.Spec.Volumes[i]
		directory := filepath.Join(w.dir, "volumes", volume.Name)
		if volume.PersistentVolumeClaim != nil {
			claim, err := w.runner.ensureClaim(pod.Namespace, volume.PersistentVolumeClaim.ClaimName)
			if err != nil {
				return err
			}
			w.directories[volume.Name] = claim
			continue
		}
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
		w.directories[volume.Name] = directory
		content, err := w.content(pod, &volume.VolumeSource)
		if err != nil {
			return fmt.Errorf("MountVolume.SetUp failed for volume %q: %w", volume.Name, err)
		}
		if content == nil {
			// Whoever the containers run as may write to it.
			if err := os.Chmod(directory, 0o777); err != nil {
				return err
			}
			continue
		}
		if err := project(directory, mode(&volume.VolumeSource), content); err != nil {
			return fmt.Errorf("write volume %q: %w", volume.Name, err)
		}
	}
	return nil
}

// content is what a projected volume holds; nil for one that belongs to the containers.
func (w *worker) content(pod *corev1.Pod, source *corev1.VolumeSource) (map[string][]byte, error) {
	switch {
	case source.EmptyDir != nil:
		return nil, nil
	case source.ConfigMap != nil:
		configMap, err := w.runner.configMaps.ConfigMaps(pod.Namespace).Get(source.ConfigMap.Name)
		if err != nil {
			return optional(err, source.ConfigMap.Optional)
		}
		data := map[string][]byte{}
		for key, value := range configMap.Data {
			data[key] = []byte(value)
		}
		for key, value := range configMap.BinaryData {
			data[key] = value
		}
		return pick(data, source.ConfigMap.Items)
	case source.Secret != nil:
		secret, err := w.runner.secrets.Secrets(pod.Namespace).Get(source.Secret.SecretName)
		if err != nil {
			return optional(err, source.Secret.Optional)
		}
		return pick(secret.Data, source.Secret.Items)
	case source.DownwardAPI != nil:
		return w.downward(pod, source.DownwardAPI.Items)
	case source.Projected != nil:
		data := map[string][]byte{}
		for i := range source.Projected.Sources {
			part, err := w.projected(pod, &source.Projected.Sources[i])
			if err != nil {
				return nil, err
			}
			maps.Copy(data, part)
		}
		return data, nil
	default:
		return nil, errors.New(
			"the testbed supports emptyDir, configMap, secret, downwardAPI, projected and persistentVolumeClaim")
	}
}

func (w *worker) downward(pod *corev1.Pod, items []corev1.DownwardAPIVolumeFile) (map[string][]byte, error) {
	data := map[string][]byte{}
	for _, item := range items {
		if item.FieldRef == nil {
			return nil, fmt.Errorf("downward API item %s: only fieldRef is supported", item.Path)
		}
		value, err := field(pod, w.address, item.FieldRef.FieldPath)
		if err != nil {
			return nil, err
		}
		data[item.Path] = []byte(value)
	}
	return data, nil
}

// projected is what one source of a projected volume holds.
func (w *worker) projected(pod *corev1.Pod, source *corev1.VolumeProjection) (map[string][]byte, error) {
	switch {
	case source.ServiceAccountToken != nil:
		return w.token(pod, source.ServiceAccountToken)
	case source.ConfigMap != nil:
		return w.content(pod, &corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: source.ConfigMap.LocalObjectReference,
			Items:                source.ConfigMap.Items, Optional: source.ConfigMap.Optional,
		}})
	case source.Secret != nil:
		return w.content(pod, &corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: source.Secret.Name, Items: source.Secret.Items, Optional: source.Secret.Optional,
		}})
	case source.DownwardAPI != nil:
		return w.downward(pod, source.DownwardAPI.Items)
	default:
		return nil, errors.New("the testbed projects serviceAccountToken, configMap, secret and downwardAPI")
	}
}

// token is one of the pod's account, which ends with the pod. The kubelet's own manager renews it in time.
func (w *worker) token(pod *corev1.Pod, source *corev1.ServiceAccountTokenProjection) (map[string][]byte, error) {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: source.ExpirationSeconds,
		BoundObjectRef: &authenticationv1.BoundObjectReference{
			APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID,
		},
	}}
	if source.Audience != "" {
		request.Spec.Audiences = []string{source.Audience}
	}
	answer, err := w.runner.tokens.GetServiceAccountToken(pod.Namespace, pod.Spec.ServiceAccountName, request)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{source.Path: []byte(answer.Status.Token)}, nil
}

// mode is that of a volume's files: the API server has written the default into the pod.
func mode(source *corev1.VolumeSource) os.FileMode {
	var mode *int32
	switch {
	case source.ConfigMap != nil:
		mode = source.ConfigMap.DefaultMode
	case source.Secret != nil:
		mode = source.Secret.DefaultMode
	case source.DownwardAPI != nil:
		mode = source.DownwardAPI.DefaultMode
	case source.Projected != nil:
		mode = source.Projected.DefaultMode
	}
	if mode == nil {
		return 0o644
	}
	return os.FileMode(*mode)
}

func optional(err error, flag *bool) (map[string][]byte, error) {
	if apierrors.IsNotFound(err) && flag != nil && *flag {
		return map[string][]byte{}, nil
	}
	return nil, err
}

func pick(data map[string][]byte, items []corev1.KeyToPath) (map[string][]byte, error) {
	if len(items) == 0 {
		return data, nil
	}
	picked := map[string][]byte{}
	for _, item := range items {
		value, ok := data[item.Key]
		if !ok {
			return nil, fmt.Errorf("references non-existent key: %s", item.Key)
		}
		picked[item.Path] = value
	}
	return picked, nil
}

// project writes files so that readers see the old content or the new, never half: `..data` names the current
// directory, and each file is a link through it. This is the kubelet's own layout.
func project(directory string, mode os.FileMode, content map[string][]byte) error {
	current := filepath.Join(directory, "..data")
	previous, _ := os.Readlink(current)
	if previous != "" && same(filepath.Join(directory, previous), content) {
		return nil
	}
	name := "..1"
	if number, err := strconv.Atoi(strings.TrimPrefix(previous, "..")); err == nil {
		name = fmt.Sprintf("..%d", number+1)
	}
	if err := os.RemoveAll(filepath.Join(directory, name)); err != nil {
		return err
	}
	for path, data := range content {
		file := filepath.Join(directory, name, path)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, data, mode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(directory, name), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(name, current+".new"); err != nil && !os.IsExist(err) {
		return err
	}
	if err := os.Rename(current+".new", current); err != nil {
		return err
	}
	return link(directory, previous, content)
}

// link makes a link per top-level name and takes away those that are gone.
func link(directory, previous string, content map[string][]byte) error {
	wanted := map[string]bool{}
	for path := range content {
		top, _, _ := strings.Cut(path, "/")
		wanted[top] = true
	}
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if name := entry.Name(); !strings.HasPrefix(name, "..") && !wanted[name] {
			if err := os.Remove(filepath.Join(directory, name)); err != nil {
				return err
			}
		}
	}
	for name := range wanted {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(directory, name)); err != nil && !os.IsExist(err) {
			return err
		}
	}
	if previous == "" {
		return nil
	}
	return os.RemoveAll(filepath.Join(directory, previous))
}

func same(directory string, content map[string][]byte) bool {
	var found []string
	err := filepath.WalkDir(directory, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			relative, _ := filepath.Rel(directory, path)
			found = append(found, relative)
		}
		return err
	})
	var wanted []string
	for path := range content {
		wanted = append(wanted, path)
	}
	sort.Strings(found)
	sort.Strings(wanted)
	if err != nil || strings.Join(found, "\n") != strings.Join(wanted, "\n") {
		return false
	}
	for path, data := range content {
		if existing, err := os.ReadFile(filepath.Join(directory, path)); err != nil || !bytes.Equal(existing, data) {
			return false
		}
	}
	return true
}

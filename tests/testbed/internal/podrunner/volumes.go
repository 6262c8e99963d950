package podrunner

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

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
			continue
		}
		if err := project(directory, content); err != nil {
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
		data := map[string][]byte{}
		for _, item := range source.DownwardAPI.Items {
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
	default:
		return nil, fmt.Errorf("the testbed supports emptyDir, configMap, secret, downwardAPI and persistentVolumeClaim")
	}
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
func project(directory string, content map[string][]byte) error {
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
		if err := os.WriteFile(file, data, 0o600); err != nil {
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

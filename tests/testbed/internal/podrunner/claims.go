package podrunner

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ensureClaim gives a PersistentVolumeClaim its directory and binds the claim to a PersistentVolume that names it, as a
// provisioner and the binder would. A claim that was deleted and made again is another one, with an empty directory.
func (r *Runner) ensureClaim(namespace, name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	claims := r.client.CoreV1().PersistentVolumeClaims(namespace)
	claim, err := claims.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	directory, err := r.claimDir(claim)
	if err != nil {
		return "", err
	}
	if claim.Status.Phase == corev1.ClaimBound {
		return directory, nil
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "pvc-" + string(claim.UID)},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: directory}},
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name, UID: claim.UID,
			},
		},
	}
	volumes := r.client.CoreV1().PersistentVolumes()
	if _, err := volumes.Create(ctx, volume, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return "", fmt.Errorf("create PersistentVolume: %w", err)
	}
	if claim.Spec.VolumeName == "" {
		claim.Spec.VolumeName = volume.Name
		if claim, err = claims.Update(ctx, claim, metav1.UpdateOptions{}); err != nil {
			return "", fmt.Errorf("bind claim %s: %w", name, err)
		}
	}
	claim.Status = corev1.PersistentVolumeClaimStatus{
		Phase: corev1.ClaimBound, AccessModes: volume.Spec.AccessModes, Capacity: volume.Spec.Capacity,
	}
	if _, err := claims.UpdateStatus(ctx, claim, metav1.UpdateOptions{}); err != nil {
		return "", fmt.Errorf("bind claim %s: %w", name, err)
	}
	return directory, nil
}

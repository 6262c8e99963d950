// Package datacenter stands in for cass-operator in test clusters: it makes the StatefulSets of CassandraDatacenters and
// reports their status as the real one does, as far as a fleet's backups and restores depend on it.
//
// Not there: Services, the superuser, rolling restarts in rack order, draining before a stop, decommissioning.
package datacenter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	appslisters "k8s.io/client-go/listers/apps/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Resource is the CassandraDatacenter resource.
var Resource = schema.GroupVersionResource{
	Group: "cassandra.datastax.com", Version: "v1beta1", Resource: "cassandradatacenters",
}

// specAnnotation keeps what a StatefulSet was made from, so that defaults the API server adds are no difference.
const specAnnotation = "testbed.medusa-fleet.test/spec"

// resyncInterval bounds how late a lost or failed pass is repeated.
const resyncInterval = 2 * time.Second

type operator struct {
	client      kubernetes.Interface
	dynamic     dynamic.Interface
	datacenters cache.GenericLister
	sets        appslisters.StatefulSetLister
	pods        corelisters.PodLister
	log         func(format string, arguments ...any)
}

// Run reconciles the CassandraDatacenters of a cluster until the context ends.
func Run(ctx context.Context, config *rest.Config, log func(format string, arguments ...any)) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	untyped, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	typedFactory := informers.NewSharedInformerFactory(client, 0)
	untypedFactory := dynamicinformer.NewDynamicSharedInformerFactory(untyped, 0)
	datacenters := untypedFactory.ForResource(Resource)
	sets, pods := typedFactory.Apps().V1().StatefulSets(), typedFactory.Core().V1().Pods()
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { notify() }, UpdateFunc: func(_, _ any) { notify() }, DeleteFunc: func(any) { notify() },
	}
	for _, informer := range []cache.SharedIndexInformer{datacenters.Informer(), sets.Informer(), pods.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	o := &operator{
		client: client, dynamic: untyped, log: log,
		datacenters: datacenters.Lister(), sets: sets.Lister(), pods: pods.Lister(),
	}
	typedFactory.Start(ctx.Done())
	untypedFactory.Start(ctx.Done())
	typedFactory.WaitForCacheSync(ctx.Done())
	untypedFactory.WaitForCacheSync(ctx.Done())
	for ctx.Err() == nil {
		o.pass(ctx)
		select {
		case <-changed:
		case <-time.After(resyncInterval):
		case <-ctx.Done():
		}
	}
	return nil
}

func (o *operator) pass(ctx context.Context) {
	objects, err := o.datacenters.List(labels.Everything())
	if err != nil {
		o.log("list datacenters: %v", err)
		return
	}
	for _, object := range objects {
		dc, ok := object.(*unstructured.Unstructured)
		if !ok || dc.GetDeletionTimestamp() != nil {
			continue
		}
		// A conflict means that a newer object is on its way here.
		if err := o.reconcile(ctx, dc); err != nil && !apierrors.IsConflict(err) && ctx.Err() == nil {
			o.log("datacenter %s/%s: %v", dc.GetNamespace(), dc.GetName(), err)
		}
	}
}

func (o *operator) reconcile(ctx context.Context, object *unstructured.Unstructured) error {
	dc, err := parse(object)
	if err != nil {
		return err
	}
	var current []*appsv1.StatefulSet
	for _, rack := range dc.racks() {
		set, err := o.ensure(ctx, dc.statefulSet(rack))
		if err != nil {
			return fmt.Errorf("rack %s: %w", rack.name, err)
		}
		current = append(current, set)
	}
	pods, err := o.pods.Pods(dc.namespace).List(labels.SelectorFromSet(dc.labels()))
	if err != nil {
		return err
	}
	return o.publish(ctx, object, dc, current, pods)
}

// ensure creates a StatefulSet, or updates it where what it is made from has changed.
func (o *operator) ensure(ctx context.Context, desired *appsv1.StatefulSet) (*appsv1.StatefulSet, error) {
	source, err := json.Marshal(desired.Spec)
	if err != nil {
		return nil, err
	}
	desired.Annotations = map[string]string{specAnnotation: string(source)}
	sets := o.client.AppsV1().StatefulSets(desired.Namespace)
	current, err := o.sets.StatefulSets(desired.Namespace).Get(desired.Name)
	if apierrors.IsNotFound(err) {
		return sets.Create(ctx, desired, metav1.CreateOptions{})
	}
	if err != nil {
		return nil, err
	}
	if current.Annotations[specAnnotation] == desired.Annotations[specAnnotation] {
		return current, nil
	}
	update := current.DeepCopy()
	update.Annotations = desired.Annotations
	update.Spec.Replicas, update.Spec.Template = desired.Spec.Replicas, desired.Spec.Template
	return sets.Update(ctx, update, metav1.UpdateOptions{})
}

func (o *operator) publish(
	ctx context.Context, object *unstructured.Unstructured, dc *datacenter, sets []*appsv1.StatefulSet, pods []*corev1.Pod,
) error {
	old, _, _ := unstructured.NestedMap(object.Object, "status")
	status := dc.status(old, sets, pods)
	if equality.Semantic.DeepEqual(old, status) {
		return nil
	}
	update := object.DeepCopy()
	update.Object["status"] = status
	_, err := o.dynamic.Resource(Resource).Namespace(dc.namespace).UpdateStatus(ctx, update, metav1.UpdateOptions{})
	return err
}

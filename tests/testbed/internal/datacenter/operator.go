// Package datacenter stands in for cass-operator in test clusters: it makes the StatefulSets of CassandraDatacenters and
// reports their status as the real one does, as far as a fleet's backups and restores depend on it.
//
// Not there: Services, the superuser and other users, rolling restarts in rack order, draining before a stop, scaling
// down, and cass-operator's pauses between its steps.
package datacenter

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
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

const templateAnnotation = "testbed.medusa-fleet.test/template"

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

// reconcile takes one step, and tells of it before it takes it, as cass-operator does. What it writes brings the next
// pass.
func (o *operator) reconcile(ctx context.Context, object *unstructured.Unstructured) error {
	dc, err := parse(object)
	if err != nil {
		return err
	}
	racks := make([]rackSets, 0, len(dc.racks()))
	for _, rack := range dc.racks() {
		desired, err := stamp(dc.statefulSet(rack))
		if err != nil {
			return err
		}
		current, err := o.sets.StatefulSets(dc.namespace).Get(desired.Name)
		if apierrors.IsNotFound(err) {
			current, err = o.client.AppsV1().StatefulSets(dc.namespace).Create(ctx, desired, metav1.CreateOptions{})
		}
		if err != nil {
			return fmt.Errorf("rack %s: %w", rack.name, err)
		}
		racks = append(racks, rackSets{current: current, desired: desired})
	}
	pods, err := o.pods.Pods(dc.namespace).List(labels.SelectorFromSet(dc.labels()))
	if err != nil {
		return err
	}
	old, _, _ := unstructured.NestedMap(object.Object, "status")
	step := dc.next(old, racks)
	if err := o.publish(ctx, object, dc.status(old, step, racks, pods)); err != nil {
		return err
	}
	for _, rack := range racks {
		if update := rack.advance(step); update != nil {
			if _, err := o.client.AppsV1().StatefulSets(dc.namespace).Update(ctx, update, metav1.UpdateOptions{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// stamp keeps with a StatefulSet what its pods are made from, so that defaults the API server adds are no difference.
func stamp(set *appsv1.StatefulSet) (*appsv1.StatefulSet, error) {
	source, err := json.Marshal(set.Spec.Template)
	if err != nil {
		return nil, err
	}
	set.Annotations = map[string]string{templateAnnotation: string(source)}
	return set, nil
}

func (o *operator) publish(ctx context.Context, object *unstructured.Unstructured, status map[string]any) error {
	if old, _, _ := unstructured.NestedMap(object.Object, "status"); equality.Semantic.DeepEqual(old, status) {
		return nil
	}
	update := object.DeepCopy()
	update.Object["status"] = status
	_, err := o.dynamic.Resource(Resource).Namespace(object.GetNamespace()).UpdateStatus(ctx, update, metav1.UpdateOptions{})
	return err
}

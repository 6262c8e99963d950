// Package sim simulates many data planes in one process: API servers that keep their objects in memory, for measuring what a
// control plane of 100 to 1,000 data planes costs. It speaks what medusa-fleet asks of a data plane, and is no place to
// test what Kubernetes itself does; a test compares it with a real API server.
//
// Each data plane has a port of its own on 127.0.0.1 (TLS, HTTP/1.1 and HTTP/2), a bearer token, a kubeconfig, and a
// kube-system namespace with a uid of its own. They share a CA.
//
// Of the API there is: get, list in pages, watch with bookmarks, resumption and streamed lists; create, update, apply, merge
// and strategic merge patches, delete with preconditions and finalizers; dry runs; the status subresource; label selectors, and
// field selectors by name and namespace; objects reduced to their metadata; discovery, OpenAPI v3 of custom resources, and
// reviews of access, which grant everything. Fields have managers, custom resources are pruned, defaulted and validated, all
// by Kubernetes' own code. A watch from a version older than five minutes, or than the newest 1,000 changes of its kind, is
// answered with 410.
//
// Who is at work there is simulated, too: a Lease says that Medusa's controller runs, and is renewed; a MedusaBackupJob
// starts when it is made, and has its MedusaBackup and its end some time later; so do MedusaTasks and MedusaRestoreJobs, which
// change nothing; a purge is followed by its sync. One whose datacenter is not there stays as it is.
//
// What is not simulated: roles, quotas, admission and webhooks; validation and defaults of Kubernetes' own kinds; other
// controllers, so that nothing is collected with its owner, schedules make no runs; tables, protobuf, CBOR and compression; JSON patches, scale, logs, tokens of ServiceAccounts; the definitions of custom resources
// as objects; OpenAPI v2. Nothing is kept when the program ends.
//
// Smaller differences to a real API server:
//   - Pages of a list that go on show objects as they are by then, under the version of the first page.
//   - A namespace is gone as soon as it is deleted, or its last finalizer removed; its phase is never Terminating. What is
//     in it goes with it, without regard to finalizers. There is no subresource finalize.
//   - Of the options of a deletion, only preconditions and dryRun count; propagation and grace periods are ignored.
//   - Reads ignore resourceVersion and resourceVersionMatch, except where watches begin: none waits for a version that is
//     yet to come.
//   - fieldValidation is ignored, and there are no warnings. Other field selectors than names and namespaces are refused.
//   - A negative limit is refused.
//   - PUT creates nothing; a real server creates Leases and Events by it.
//   - A custom resource's POST under a name, and PUT and PATCH without one, are answered with 405; with a real server, the
//     first creates the object of the body, and the others are answered with 400.
//
// Faults are set, and counters read, through the admin port (see [Fleet.Admin]).
package sim

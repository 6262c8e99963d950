// Package crds embeds the CustomResourceDefinitions that test clusters need and that belong to somebody else.
package crds

import _ "embed"

// CassandraDatacenter is a small stand-in for cass-operator's CRD of that name.
//
//go:embed cassandradatacenter.yaml
var CassandraDatacenter []byte

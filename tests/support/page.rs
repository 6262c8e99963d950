//! The manifests of K8ssandra's documentation page on backup and restore that more than one program of tests applies, as
//! they stand there.

use serde_json::Value;

/// A cluster with storage settings of its own.
pub const CLUSTER: &str = "
apiVersion: k8ssandra.io/v1alpha1
kind: K8ssandraCluster
metadata:
  name: demo
spec:
  cassandra:
    ...
    ...
  medusa:
    storageProperties:
      # Can be either of google_storage, azure_blobs, s3, s3_compatible, s3_rgw or ibm_storage 
      storageProvider: s3_compatible
      # Name of the secret containing the credentials file to access the backup storage backend
      storageSecretRef:
        name: medusa-bucket-key
      # Name of the storage bucket
      bucketName: k8ssandra-medusa
      # Prefix for this cluster in the storage bucket directory structure, used for multitenancy
      prefix: test
      # Host to connect to the storage backend (Omitted for GCS, S3, Azure and local).
      host: minio.minio.svc.cluster.local
      # Port to connect to the storage backend (Omitted for GCS, S3, Azure and local).
      port: 9000
      # Region of the storage bucket
      # region: us-east-1
      
      # Whether or not to use SSL to connect to the storage backend
      secure: false 
";

/// What stands there as comments, taken at its word: `local` storage cannot be asked for beside another provider.
pub const OPTIONS: &str = "
      region: us-east-1
      maxBackupAge: 0
      maxBackupCount: 0
      apiProfile: backups
      transferMaxBandwidth: 50MB/s
      concurrentTransfers: 1
      multiPartUploadThreshold: 104857600
      backupGracePeriodInDays: 10
      podStorage:
        storageClassName: standard
        accessModes:
          - ReadWriteOnce
        size: 100Mi
";

/// The bucket's Secret.
pub const SECRET: &str = "
apiVersion: v1
kind: Secret
metadata:
 name: medusa-bucket-key
type: Opaque
stringData:
 # Note that this currently has to be set to credentials!
 credentials: |-
   [default]
   aws_access_key_id = minio_key
   aws_secret_access_key = minio_secret
";

/// Settings that clusters share.
pub const CONFIGURATION: &str = "
apiVersion: medusa.k8ssandra.io/v1alpha1
kind: MedusaConfiguration
metadata:
  name: medusaconfiguration-s3
spec:
  storageProperties:
    storageProvider: s3
    region: us-west-2
    bucketName: k8ssandra-medusa
    storageSecretRef:
      name: medusa-bucket-key
";

/// A cluster that uses them.
pub const SHARED: &str = "
apiVersion: k8ssandra.io/v1alpha1
kind: K8ssandraCluster
metadata:
  name: demo
spec:
  cassandra:
    ...
  medusa:
    medusaConfigurationRef:
      name: medusaconfiguration-s3
    storageProperties:
      prefix: demo
    ...
";

/// The same, with credentials by role.
pub const ROLE: &str = "
apiVersion: k8ssandra.io/v1alpha1
kind: K8ssandraCluster
metadata:
  name: demo
spec:
  cassandra:
    ...
  medusa:
    medusaConfigurationRef:
      name: medusaconfiguration-s3
    storageProperties:
      prefix: demo
      credentialsType: role-based
      storageSecretRef:
        name: \"\"
    ...
";

/// The page's last manifest: a part of one.
pub const NO_PURGE: &str = "
apiVersion: k8ssandra.io/v1alpha1
kind: K8ssandraCluster
spec:
  medusa:
    purgeBackups: false
";

/// What a user writes in the place of the dots below `cassandra`.
const DATACENTERS: &str =
    "    datacenters:\n      - metadata:\n          name: dc1\n        k8sContext: dp-1\n        size: 3\n";

/// The manifest with the lines the page leaves out.
pub fn filled(block: &str) -> Value {
    let mut text = String::new();
    let mut dots = 0;
    for line in block.lines() {
        if line.trim() != "..." {
            text.push_str(line);
            text.push('\n');
        } else if dots == 0 {
            text.push_str(DATACENTERS);
            dots += 1;
        }
    }
    serde_saphyr::from_str(&text).unwrap()
}

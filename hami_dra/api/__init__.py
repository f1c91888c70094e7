"""Names, Kubernetes object types and the versions of the opaque configuration; no behaviour."""

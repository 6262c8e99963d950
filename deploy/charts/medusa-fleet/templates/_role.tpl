{{/* What differs between the roles. */}}
{{- define "component" -}}control-plane{{- end }}

{{- define "args" -}}
{{- if .Values.leaderElection }}
- --leader-elect
{{- end }}
{{- with .Values.fleetName }}
- --fleet-name={{ . }}
{{- end }}
{{- with .Values.sourceNamespaces }}
- --source-namespaces={{ join "," . }}
{{- end }}
{{- with .Values.clientConfigNamespaces }}
- --client-config-namespaces={{ join "," . }}
{{- end }}
{{- with .Values.allowUnsafeKubeconfig }}
- --allow-unsafe-kubeconfig={{ join "," . }}
{{- end }}
{{- with .Values.recoveryPointObjective }}
- --recovery-point-objective={{ . }}
{{- end }}
{{- with .Values.medusaImage }}
- --medusa-image={{ . }}
{{- end }}
{{- end }}

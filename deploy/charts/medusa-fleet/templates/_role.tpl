{{/* What differs between the roles. */}}
{{- define "component" -}}control-plane{{- end }}

{{- define "args" -}}
{{- if .Values.leaderElection }}
- --leader-elect
{{- end }}
{{- with .Values.shards }}
- --shards={{ . }}
{{- end }}
{{- with .Values.fleetName }}
- --fleet-name={{ . }}
{{- end }}
{{- with include "followed" (dict "root" . "named" .Values.sourceNamespaces "value" "sourceNamespaces") }}
- --source-namespaces={{ . }}
{{- end }}
{{- with include "followed" (dict "root" . "named" .Values.clientConfigNamespaces "value" "clientConfigNamespaces") }}
- --client-config-namespaces={{ . }}
{{- end }}
{{- with .Values.rbac.namespaces }}
- --local-namespaces={{ join "," . }}
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

{{/* Namespaces in which objects are followed, by commas: those that are named, else those with rights. */}}
{{- define "followed" -}}
{{- $within := .root.Values.rbac.namespaces -}}
{{- with $within }}{{ $within = append . $.root.Release.Namespace | uniq }}{{ end -}}
{{- range .named -}}
{{- if and $within (not (has . $within)) -}}
{{- fail (printf "%s has %s, in which rbac.namespaces grants no rights" $.value .) -}}
{{- end -}}
{{- end -}}
{{- join "," (.named | default $within) -}}
{{- end }}

{{/* What differs between the roles. */}}
{{- define "component" -}}data-plane{{- end }}

{{- define "args" -}}
{{- if .Values.leaderElection }}
- --leader-elect
{{- end }}
{{- with .Values.watchNamespaces }}
- --watch-namespace={{ join "," . }}
{{- end }}
{{- if .Values.takeOver }}
- --take-over
{{- end }}
{{- end }}

{{/*
What both charts say alike. It is edited in charts/medusa-fleet; `make manifests` copies it to the other chart.
Each chart defines `component` by itself: `control-plane` or `data-plane`.
*/}}

{{/* Name of everything in the release's namespace, such as medusa-fleet-control-plane. */}}
{{- define "name" -}}
{{- $component := include "component" . -}}
{{- $base := .Values.fullnameOverride | default (contains "medusa-fleet" .Release.Name | ternary .Release.Name (printf "%s-medusa-fleet" .Release.Name)) -}}
{{- $base = trimSuffix (printf "-%s" $component) $base -}}
{{- printf "%s-%s" ($base | trunc (sub 62 (len $component) | int) | trimSuffix "-") $component -}}
{{- end }}

{{/* Name of what belongs to the whole cluster: another release may have the same name in another namespace. */}}
{{- define "clusterName" -}}
{{- printf "%s:%s" (include "name" .) .Release.Namespace -}}
{{- end }}

{{- define "serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "name" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "selectorLabels" -}}
app.kubernetes.io/name: medusa-fleet
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: {{ include "component" . }}
{{- end }}

{{- define "labels" -}}
{{ include "selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Metadata of an object in the release's namespace. */}}
{{- define "metadata" -}}
name: {{ include "name" . }}
namespace: {{ .Release.Namespace | quote }}
labels:
  {{- include "labels" . | nindent 2 }}
{{- end }}

{{/* Metadata of an object of the whole cluster. */}}
{{- define "clusterMetadata" -}}
name: {{ include "clusterName" . }}
labels:
  {{- include "labels" . | nindent 2 }}
{{- end }}

{{/* The controller's account, as the subject of a binding. */}}
{{- define "subjects" -}}
- kind: ServiceAccount
  name: {{ include "serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end }}

{{- define "image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
  labels:
    {{- include "labels" . | nindent 4 }}
  {{- with .Values.serviceAccount.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{/* The pods' template. What differs by role is in `args` and `env`, which each chart defines. */}}
{{- define "podTemplate" -}}
metadata:
  labels:
    {{- include "labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "serviceAccountName" . | quote }}
  automountServiceAccountToken: true
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    {{- toYaml .Values.podSecurityContext | nindent 4 }}
  containers:
    - name: {{ include "component" . }}
      image: {{ include "image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - {{ include "component" . }}
        - --log-format={{ .Values.logFormat }}
        {{- with .Values.logFilter }}
        - --log-filter={{ . }}
        {{- end }}
        {{- include "args" . | trim | nindent 8 }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: MEDUSA_FLEET_NAMESPACE
          valueFrom:
            fieldRef:
              fieldPath: metadata.namespace
        # One heap for all threads takes less memory, and is no slower.
        - name: MALLOC_ARENA_MAX
          value: "1"
        {{- range $name, $value := dict "HTTPS_PROXY" .Values.proxy.https "HTTP_PROXY" .Values.proxy.http "NO_PROXY" .Values.proxy.none }}
        {{- if $value }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8080
      livenessProbe:
        httpGet:
          path: /livez
          port: http
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet:
          path: /readyz
          port: http
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range .Values.topologySpreadConstraints }}
    - {{ toYaml . | nindent 6 | trim }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "selectorLabels" $ | nindent 10 }}
      {{- end }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* The Service that Prometheus asks, and the ServiceMonitor that tells it so. */}}
{{- define "metrics" -}}
{{- if .Values.metrics.service.enabled }}
apiVersion: v1
kind: Service
metadata:
  {{- include "metadata" . | nindent 2 }}
  {{- with .Values.metrics.service.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  # Every replica has its own figures: Prometheus asks each pod, not one of them.
  clusterIP: None
  selector:
    {{- include "selectorLabels" . | nindent 4 }}
  ports:
    - name: http
      port: 8080
      targetPort: http
{{- end }}
{{- if .Values.metrics.serviceMonitor.enabled }}
{{- if not .Values.metrics.service.enabled }}
{{- fail "metrics.serviceMonitor.enabled needs metrics.service.enabled: a ServiceMonitor finds pods by their Service" }}
{{- end }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  {{- include "metadata" . | nindent 2 }}
    {{- with .Values.metrics.serviceMonitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "selectorLabels" . | nindent 6 }}
  endpoints:
    - port: http
      path: /metrics
      interval: {{ .Values.metrics.serviceMonitor.interval }}
{{- end }}
{{- end }}

{{/* Two replicas are not to go at once when a node is drained. */}}
{{- define "podDisruptionBudget" -}}
{{- if and .Values.podDisruptionBudget.enabled (gt (int .Values.replicas) 1) }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "metadata" . | nindent 2 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "selectorLabels" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* Nothing may reach the pods but probes and metrics. What the pods reach, API servers anywhere, is not limited here. */}}
{{- define "networkPolicy" -}}
{{- if .Values.networkPolicy.enabled }}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "metadata" . | nindent 2 }}
spec:
  podSelector:
    matchLabels:
      {{- include "selectorLabels" . | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    - ports:
        - port: http
      {{- with .Values.networkPolicy.metricsFrom }}
      from:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
{{- end }}

{{/*
The definitions whose files match `pattern`, but for those that somebody else brought: k8ssandra-operator, another
release, a person. Where there is no cluster to ask, as in `helm template`, all of them.
*/}}
{{- define "definitions" -}}
{{- $release := .root.Release }}
{{- range $path, $bytes := .root.Files.Glob .pattern }}
{{- $text := toString $bytes }}
{{- $name := regexFind "(?m)^  name: .*$" $text | trimPrefix "  name: " }}
{{- $there := lookup "apiextensions.k8s.io/v1" "CustomResourceDefinition" "" $name }}
{{- $annotations := dig "metadata" "annotations" (dict) $there }}
{{- $ours := and (eq (get $annotations "meta.helm.sh/release-name") $release.Name) (eq (get $annotations "meta.helm.sh/release-namespace") $release.Namespace) }}
{{- if or (not $there) $ours }}
---
{{ $text | replace "\nmetadata:\n" "\nmetadata:\n  annotations:\n    # With a definition go all its objects: it stays when the release is uninstalled.\n    helm.sh/resource-policy: keep\n" }}
{{- end }}
{{- end }}
{{- end }}

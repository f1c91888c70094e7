{{- define "hami-dra.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "hami-dra.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "hami-dra.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "hami-dra.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "hami-dra.nodeName" -}}{{ include "hami-dra.fullname" . }}-node{{- end -}}
{{- define "hami-dra.configMap" -}}{{ default (include "hami-dra.nodeName" .) .Values.node.config.configMap }}{{- end -}}
{{- define "hami-dra.controllerName" -}}{{ include "hami-dra.fullname" . }}-controller{{- end -}}

{{- define "hami-dra.labels" -}}
app.kubernetes.io/name: {{ include "hami-dra.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: hami-dra
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/* Selectors are immutable: they use only what never changes.  Call with (dict "root" . "component" "node"). */}}
{{- define "hami-dra.selectorLabels" -}}
app.kubernetes.io/name: {{ include "hami-dra.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "hami-dra.image" -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}

{{/* Annotations of a pod template.  Call with (dict "root" . "annotations" .Values.node.podAnnotations). */}}
{{- define "hami-dra.podAnnotations" -}}
{{- $scrape := dict -}}
{{- if .root.Values.metrics.scrapeAnnotations -}}
{{- $scrape = dict "prometheus.io/scrape" "true" "prometheus.io/port" "8080" "prometheus.io/path" "/metrics" -}}
{{- end -}}
{{- with merge (dict) .annotations $scrape -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

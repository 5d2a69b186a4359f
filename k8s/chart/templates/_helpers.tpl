{{- define "realpod.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "realpod.fullname" -}}
{{- default (include "realpod.name" .) .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "realpod.selector" -}}
app.kubernetes.io/name: {{ include "realpod.name" .root }}-{{ .component }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end -}}

{{- define "realpod.labels" -}}
{{ include "realpod.selector" . }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/part-of: realpod
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version | replace "+" "_" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "realpod.account" -}}
{{- default (printf "%s-helper" (include "realpod.fullname" .)) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "realpod.image" -}}
{{ .image.repository }}:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}

{{- define "realpod.environment" -}}
{{- range $name, $value := . }}
- name: REALPOD_{{ $name | upper | replace "-" "_" }}
  value: {{ $value | toString | quote }}
{{- end -}}
{{- end -}}

{{/*
What the templates share: the services and their ports, who calls whom, names and labels.
*/}}

{{/* Every service and its port. */}}
{{- define "weir.ports" -}}
gateway: 8000
realtime: 8001
router: 8002
orchestrator: 8003
analytics: 8004
billing: 8005
ingestion: 8006
control: 8007
{{- end }}

{{/*
Who calls whom, and who uses which server. Peers' addresses, secrets and NetworkPolicies all come from here, so a
service can reach what it is told of, and nothing else.
*/}}
{{- define "weir.edges" -}}
calls:
  gateway: [realtime, router, orchestrator, analytics, billing, ingestion, control]
  realtime: [orchestrator, control]
  orchestrator: [router, ingestion]
postgresql: [router, orchestrator, analytics, billing, ingestion, control]
nats: [gateway, realtime, router, orchestrator, analytics, billing, ingestion, control]
redis: [realtime, orchestrator]
providers: [orchestrator]
{{- end }}

{{- define "weir.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "weir.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "weir.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "weir.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels that select pods. Never change them: selectors are immutable. Takes (dict "root" $ "component" NAME). */}}
{{- define "weir.selector" -}}
app.kubernetes.io/name: {{ include "weir.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* All labels of an object. Takes (dict "root" $ "component" NAME). */}}
{{- define "weir.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: weir
{{ include "weir.selector" . }}
{{- end }}

{{- define "weir.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (.tag | default $.Chart.AppVersion) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The fewest pods a service runs with. Takes (dict "root" $ "component" NAME). */}}
{{- define "weir.replicas" -}}
{{- $service := index .root.Values.services .component -}}
{{- $scaling := $service.autoscaling -}}
{{- if and $scaling $scaling.enabled }}{{ $scaling.minReplicas }}{{ else }}{{ $service.replicas }}{{ end -}}
{{- end }}

{{/* Seconds from SIGTERM to SIGKILL: new requests are still taken, then those under way end, then queues are flushed. */}}
{{- define "weir.gracePeriod" -}}
{{- add .Values.shutdown.lameDuckSeconds .Values.shutdown.drainSeconds .Values.shutdown.flushSeconds }}
{{- end }}

{{- define "weir.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "weir.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* What cannot work, or would lose money quietly, is refused before anything is installed. */}}
{{- define "weir.check" -}}
{{- $o := .Values.orchestrator -}}
{{- if and (eq $o.spool.volume "emptyDir") (ne $o.durability "cluster") }}
{{- fail (printf "orchestrator.durability %q keeps usage in the spool's folder, and orchestrator.spool.volume \"emptyDir\" loses it with the pod: use \"persistent\", or durability \"cluster\"" $o.durability) }}
{{- end }}
{{- if regexMatch "(?m)^\\s*\"?([a-z_]*api_key|litellm_master_key|([a-z_]*_)?token|[a-z_]*bearer_token_bedrock|[a-z_]*secret_access_key|service_account|admin_key_sha256|password)\"?\\s*=" .Values.config }}
{{- fail "config: keys do not belong into a ConfigMap; name a Secret instead (providers, secrets)" }}
{{- end }}
{{- if regexMatch "(?m)^\\s*\\[\\s*identity\\s*\\.\\s*keys|://[^/\\s\"']*:[^/\\s\"']*@" .Values.config }}
{{- fail "config: neither signing keys nor passwords in URLs belong into a ConfigMap; name a Secret instead (secrets)" }}
{{- end }}
{{- if and (not .Values.providers) (not .Values.simulator.enabled) (not (contains "orchestrator.providers" .Values.config)) }}
{{- fail "no model provider: name one under providers, or set simulator.enabled for a trial" }}
{{- end }}
{{- if and .Values.services.orchestrator.autoscaling.enabled (not .Values.keda.enabled) }}
{{- fail "services.orchestrator.autoscaling needs keda.enabled" }}
{{- end }}
{{- if and .Values.services.ingestion.autoscaling.enabled (not .Values.keda.enabled) }}
{{- fail "services.ingestion.autoscaling needs keda.enabled" }}
{{- end }}
{{- if and .Values.keda.enabled (not .Values.keda.natsMonitoring) }}
{{- fail "keda.enabled needs keda.natsMonitoring, the host:port of NATS' monitoring endpoint" }}
{{- end }}
{{- end }}

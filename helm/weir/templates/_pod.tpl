{{/*
The pod of one service. Takes (dict "root" $ "component" NAME "port" PORT).
*/}}
{{- define "weir.pod" -}}
{{- $root := .root -}}
{{- $name := .component -}}
{{- $service := index $root.Values.services $name -}}
{{- $full := include "weir.fullname" $root -}}
metadata:
  labels:
    {{- include "weir.labels" . | nindent 4 }}
    {{- if eq $name "orchestrator" }}
    {{- with $root.Values.orchestrator.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- end }}
  annotations:
    checksum/config: {{ include (print $root.Template.BasePath "/configmap.yaml") $root | sha256sum }}
    {{- with $root.Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ $full }}-{{ $name }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "weir.gracePeriod" $root }}
  securityContext:
    {{- include "weir.podSecurity" $root | nindent 4 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with $root.Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $root.Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "weir.selector" . | nindent 16 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "weir.selector" . | nindent 10 }}
  containers:
    - name: {{ $name }}
      image: {{ include "weir.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [serve, {{ $name }}, --config, /etc/weir/weir.toml, --host, 0.0.0.0, --port, {{ .port | quote }}]
      ports:
        - name: http
          containerPort: {{ .port }}
        - name: ops
          containerPort: 9100
      env:
        {{- include "weir.env" . | nindent 8 }}
      startupProbe:
        httpGet: {path: /live, port: http}
        periodSeconds: 1
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /live, port: http}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      readinessProbe:
        httpGet: {path: /ready, port: http}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      resources:
        {{- toYaml $service.resources | nindent 8 }}
      securityContext:
        {{- include "weir.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - name: config
          mountPath: /etc/weir
          readOnly: true
        {{- if eq $name "orchestrator" }}
        - name: spool
          mountPath: /var/lib/weir/spool
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ $full }}
    {{- if and (eq $name "orchestrator") (eq $root.Values.orchestrator.spool.volume "emptyDir") }}
    - name: spool
      emptyDir:
        sizeLimit: {{ $root.Values.orchestrator.spool.size }}
    {{- end }}
{{- end }}

{{/*
A service's variables: where its peers are, and the secrets it needs and no other. A setting's own variable wins over
the file.
*/}}
{{- define "weir.env" -}}
{{- $root := .root -}}
{{- $name := .component -}}
{{- $values := $root.Values -}}
{{- $ports := include "weir.ports" $root | fromYaml -}}
{{- $edges := include "weir.edges" $root | fromYaml -}}
- name: LOG_LEVEL
  value: {{ $values.logLevel | quote }}
- name: WEIR_LISTEN__OPS
  value: 0.0.0.0:9100
- name: WEIR_LISTEN__LAME_DUCK
  value: {{ printf "%vs" $values.shutdown.lameDuckSeconds }}
- name: WEIR_LISTEN__DRAIN
  value: {{ printf "%vs" $values.shutdown.drainSeconds }}
{{- if ne $name "gateway" }}
# Whoever calls is another service, with many connections from few addresses.
- name: WEIR_LISTEN__MAX_CONNECTIONS_PER_IP
  value: "0"
{{- else if $values.gateway.trustedProxies }}
- name: WEIR_LISTEN__MAX_CONNECTIONS_PER_IP
  value: "0"
- name: WEIR_LISTEN__TRUSTED_PROXIES
  value: {{ join "," $values.gateway.trustedProxies }}
{{- end }}
{{- range $peer := index $edges.calls $name }}
- name: WEIR_PEERS__{{ upper $peer }}
  value: http://{{ include "weir.fullname" $root }}-{{ $peer }}:{{ index $ports $peer }}
{{- end }}
{{ include "weir.identity" . }}
- name: NATS_URL
  {{- include "weir.fromSecret" (dict "name" $values.secrets.nats "key" $name) | nindent 2 }}
{{- with $values.nats.monitorUrl }}
- name: WEIR_NATS__MONITOR_URL
  value: {{ . }}
{{- end }}
- name: WEIR_NATS__REPLICAS
  value: {{ $values.nats.replicas | quote }}
{{- if has $name $edges.postgresql }}
- name: DATABASE_URL
  {{- include "weir.fromSecret" $values.secrets.database | nindent 2 }}
- name: WEIR_DATABASE__POOLER
  value: {{ $values.postgresql.pooler | quote }}
- name: WEIR_DATABASE__MAX_CONNECTIONS
  value: {{ $values.postgresql.maxConnections | quote }}
{{- end }}
{{- if has $name $edges.redis }}
- name: REDIS_ENABLED
  value: {{ $values.redis.enabled | quote }}
{{- if $values.redis.enabled }}
- name: REDIS_URL
  {{- include "weir.fromSecret" $values.secrets.redis | nindent 2 }}
{{- end }}
{{- end }}
{{- if and (eq $name "control") $values.secrets.adminKey.name }}
- name: WEIR_CONTROL__ADMIN_KEY_SHA256
  {{- include "weir.fromSecret" $values.secrets.adminKey | nindent 2 }}
{{- end }}
{{- if eq $name "orchestrator" }}
- name: WEIR_ORCHESTRATOR__SPOOL_DIR
  value: /var/lib/weir/spool
- name: WEIR_ORCHESTRATOR__DURABILITY
  value: {{ $values.orchestrator.durability }}
{{- if $values.simulator.enabled }}
{{- $paths := dict "openai" "/v1" "anthropic" "/v1" "gemini" "/v1beta" "mistral" "/mistral/v1" "ollama" "" }}
{{- range $dialect, $path := $paths }}
{{- $provider := eq $dialect "openai" | ternary "SIMULATOR" (printf "SIMULATOR_%s" (upper $dialect)) }}
- name: WEIR_ORCHESTRATOR__PROVIDERS__{{ $provider }}__BASE_URL
  value: http://{{ include "weir.fullname" $root }}-simulator:8099{{ $path }}
- name: WEIR_ORCHESTRATOR__PROVIDERS__{{ $provider }}__DIALECT
  value: {{ $dialect }}
{{- end }}
{{- end }}
{{- if $values.orchestrator.prices }}
- name: WEIR_ORCHESTRATOR__PRICES_FILE
  value: /etc/weir/prices.toml
{{- end }}
{{- range $provider, $settings := $values.providers }}
{{- range $key, $value := $settings }}
{{- /* The name of a setting is the value's, in snake case; what names a Secret is a credential. */}}
{{- $setting := eq $key "secret" | ternary "apiKey" $key }}
- name: WEIR_ORCHESTRATOR__PROVIDERS__{{ upper $provider }}__{{ $setting | snakecase | upper }}
  {{- if kindIs "map" $value }}
  {{- include "weir.fromSecret" $value | nindent 2 }}
  {{- else if kindIs "slice" $value }}
  value: {{ join "," $value | quote }}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- with $values.telemetry.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . }}
- name: WEIR_TELEMETRY__SAMPLE_RATIO
  value: {{ $values.telemetry.sampleRatio | quote }}
{{- end }}
{{- end }}

{{/* Its own signing key, and the public ones of those who call it. */}}
{{- define "weir.identity" -}}
{{- $name := .component -}}
{{- $secret := .root.Values.secrets.identity -}}
{{- $edges := include "weir.edges" .root | fromYaml -}}
- name: WEIR_IDENTITY__KEYS__{{ upper $name }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: WEIR_IDENTITY__KEYS__{{ upper $name }}}
{{- range $caller, $callees := $edges.calls }}
{{- if has $name $callees }}
- name: WEIR_IDENTITY__TRUSTED__{{ upper $caller }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: WEIR_IDENTITY__TRUSTED__{{ upper $caller }}}
{{- end }}
{{- end }}
{{- end }}

{{- define "weir.fromSecret" -}}
valueFrom:
  secretKeyRef: {name: {{ .name }}, key: {{ .key }}}
{{- end }}

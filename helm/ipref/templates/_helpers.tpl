{{/* Names, labels, and what several templates compute. All that begins with `ipref.` is used below, nothing else. */}}

{{- define "ipref.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end }}

{{- define "ipref.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{/* (list ROOT COMPONENT) */}}
{{- define "ipref.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ default $root.Chart.Name $root.Values.nameOverride | trunc 63 }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "ipref.labels" -}}
{{- $root := index . 0 -}}
{{ include "ipref.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: ipref
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "ipref.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- end -}}
{{- end }}

{{/* (list ROOT COMPONENT): name of its account */}}
{{- define "ipref.account" -}}
{{- $root := index . 0 -}}
{{- $account := (index $root.Values (index . 1)).serviceAccount -}}
{{- $made := printf "%s-%s" (include "ipref.fullname" $root) (index . 1) -}}
{{- ternary (default $made $account.name) (default "default" $account.name) $account.create -}}
{{- end }}

{{/* The zone server of the settings, or nothing. */}}
{{- define "ipref.zonePort" -}}
{{- with (.Values.config.publishers | default dict).zoneServer -}}
{{- $listen := default (list "0.0.0.0:5353") .listen -}}
{{- regexFind "[0-9]+$" (first $listen) -}}
{{- end -}}
{{- end }}

{{/* IP versions of gateway.bind: 4, 6, or 4,6 */}}
{{- define "ipref.tunnelVersions" -}}
{{- $versions := list -}}
{{- range .Values.gateway.bind -}}{{- $versions = append $versions (ternary "6" "4" (contains ":" .)) -}}{{- end -}}
{{- join "," (sortAlpha $versions) -}}
{{- end }}

{{- define "ipref.clusterDns" -}}
{{- $dns := .Values.config.clusterDns | default dict -}}
{{- dict "manage" (default false $dns.manage) "namespace" (default "kube-system" $dns.namespace) "configMap" (default "coredns" $dns.configMap) | toJson -}}
{{- end }}

{{/* Not empty: our block is in the cluster's DNS, or shall be. A block that is there keeps the right to take it away. */}}
{{- define "ipref.touchesDns" -}}
{{- $dns := include "ipref.clusterDns" . | fromJson -}}
{{- if $dns.manage -}}
yes
{{- else -}}
{{- $found := lookup "v1" "ConfigMap" $dns.namespace $dns.configMap -}}
{{- if contains "# BEGIN ipref" (toJson ($found | default dict)) -}}yes{{- end -}}
{{- end -}}
{{- end }}

{{/* The settings as they are rendered: with the resolvers' address where it is fixed here, and with the zone server listening where its Service leads. */}}
{{- define "ipref.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- with .Values.resolver.service.clusterIP -}}
{{- $dns := default dict $config.clusterDns -}}
{{- $_ := set $config "clusterDns" (merge (dict "resolver" (default . $dns.resolver)) $dns) -}}
{{- end -}}
{{- $zoneServer := ($config.publishers | default dict).zoneServer -}}
{{- if and $zoneServer .Values.zones.service.ipFamilyPolicy (ne .Values.zones.service.ipFamilyPolicy "SingleStack") (not ($zoneServer | default dict).listen) -}}
{{- $_ := set $zoneServer "listen" (list "0.0.0.0:5353" "[::]:5353") -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* Secrets that the settings name, as `namespace/name`, each once. */}}
{{- define "ipref.secrets" -}}
{{- $namespace := include "ipref.namespace" . -}}
{{- $found := list -}}
{{- $publishers := .Values.config.publishers | default dict -}}
{{- range $publishers.rfc2136 -}}
{{- with .keySecret -}}{{- $found = append $found (printf "%s/%s" (default $namespace .namespace) .name) -}}{{- end -}}
{{- end -}}
{{- with $publishers.zoneServer -}}
{{- range (.transfer | default dict).keySecrets -}}{{- $found = append $found (printf "%s/%s" (default $namespace .namespace) .name) -}}{{- end -}}
{{- end -}}
{{- $found | uniq | sortAlpha | join "," -}}
{{- end }}

{{- define "ipref.podSecurity" -}}
runAsNonRoot: true
{{- if not (kindIs "invalid" .Values.operator.runAsUser) }}
runAsUser: {{ int64 .Values.operator.runAsUser }}
runAsGroup: {{ int64 .Values.operator.runAsUser }}
{{- end }}
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "ipref.restricted" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Of the container that touches the node. NET_ADMIN: device, routes, nftables, VXLAN, forced socket buffers. No raw sockets, so no NET_RAW; no port below 1024. */}}
{{- define "ipref.nodeSecurity" -}}
runAsUser: 0
runAsGroup: 0
runAsNonRoot: false
readOnlyRootFilesystem: true
{{- if .Values.gateway.privileged }}
privileged: true
{{- else }}
privileged: false
allowPrivilegeEscalation: false
capabilities: { drop: [ALL], add: [NET_ADMIN] }
{{- end }}
{{- with .Values.gateway.seLinuxOptions }}
seLinuxOptions: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "ipref.nodeVolumes" -}}
- { name: tun, hostPath: { path: /dev/net/tun, type: CharDevice } }
- { name: data, hostPath: { path: {{ .Values.gateway.dataPath | quote }}, type: DirectoryOrCreate } }
- { name: run, emptyDir: { medium: Memory, sizeLimit: 16Mi } }
- { name: tmp, emptyDir: { sizeLimit: 64Mi } }
{{- end }}

{{- define "ipref.nodeMounts" -}}
- { name: tun, mountPath: /dev/net/tun }
- { name: data, mountPath: /var/lib/ipref }
- { name: run, mountPath: /run/ipref }
- { name: tmp, mountPath: /tmp }
{{- end }}

/** Values under which the chart is rendered, compared and applied (test/chart). Each row sets what the others leave. */

export interface ChartRow {
  name: string
  values: Record<string, unknown>
  /** of the cluster; absent: Helm's own */
  kubeVersion?: string
  /** false: too little of it is like the defaults */
  isCompared?: false
}

const zoneServer = { nameServers: ['ns1.example.com'], transfer: { allow: ['192.0.2.53/32'] } }

export const chartRows: readonly ChartRow[] = [
  { name: 'default', values: {} },
  {
    name: 'zones',
    values: {
      config: {
        internalZone: 'internal.example.com',
        publicZone: 'example.com',
        publishers: {
          zoneServer: {
            ...zoneServer,
            listen: ['0.0.0.0:5300'],
            transfer: { keySecrets: [{ name: 'transfer-key' }, { namespace: 'dns', name: 'other-key' }] },
          },
          rfc2136: [{ server: '192.0.2.53', keySecret: { name: 'update-key' } }],
          dnsEndpoint: { namespace: 'external-dns' },
          configMap: {},
        },
      },
      zones: { service: { type: 'LoadBalancer', annotations: { 'example.com/pool': 'dns' } } },
    },
  },
  {
    name: 'cluster-dns',
    values: {
      config: { clusterDns: { manage: true } },
      resolver: { service: { clusterIP: '10.96.0.53' } },
      zones: { service: { clusterIP: '10.96.0.54' } },
    },
  },
  { name: 'kubernetes-1.31', values: {}, kubeVersion: '1.31.0' },
  {
    name: 'two-families',
    values: {
      config: { encodingNetworks: ['10.176.0.0/12', 'fd24:1::/48'], referenceLength: 4 },
      gateway: { bind: ['0.0.0.0', '::'], port: 11045 },
      resolver: { service: { ipFamilyPolicy: 'PreferDualStack' } },
      zones: { service: { ipFamilyPolicy: 'PreferDualStack' } },
    },
  },
  {
    name: 'monitoring',
    values: {
      podMonitor: { enabled: true, labels: { release: 'prometheus' } },
      prometheusRule: {
        enabled: true,
        labels: { release: 'prometheus' },
        alertLabels: { team: 'network' },
        alerts: { packetsRefused: { enabled: false }, mappingsFull: { threshold: 0.5 } },
      },
      dashboard: { enabled: true },
    },
  },
  {
    name: 'closed',
    values: {
      operator: {
        replicas: 3,
        networkPolicy: {
          enabled: true,
          metricsFrom: [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }],
          egress: [{ ports: [{ port: 443 }] }],
        },
        podDisruptionBudget: { minAvailable: 2 },
      },
      metrics: { enabled: false },
    },
  },
  {
    name: 'openshift',
    values: { openshift: { scc: true }, operator: { runAsUser: null }, gateway: { seLinuxOptions: { type: 'spc_t' } } },
  },
  {
    name: 'bare',
    values: {
      operator: {
        replicas: 1,
        podDisruptionBudget: { enabled: false },
        serviceAccount: { create: false, name: 'op' },
      },
      gateway: { privileged: true, serviceAccount: { create: false, name: 'gw' } },
      rbac: { create: false, aggregate: false, gatewayPolicy: false },
      crds: { enabled: false },
      cleanup: { enabled: false },
      config: { publishers: { zoneServer: null } },
    },
  },
  {
    name: 'names',
    values: { fullnameOverride: 'link', namespaceOverride: 'net', commonLabels: { team: 'network' } },
    isCompared: false,
  },
  {
    name: 'others',
    values: {
      image: { repository: 'registry.example/ipref', digest: `sha256:${'0'.repeat(64)}` },
      imagePullSecrets: [{ name: 'pull' }],
      cleanup: { removeData: true },
      crds: { keep: false },
      operator: {
        extraArgs: ['-log-format=text'],
        extraEnv: [{ name: 'TZ', value: 'UTC' }],
        podAnnotations: { a: 'b' },
        podLabels: { c: 'd' },
        priorityClassName: 'system-cluster-critical',
        tolerations: [{ operator: 'Exists' }],
        topologySpreadConstraints: [
          {
            maxSkew: 1,
            topologyKey: 'topology.kubernetes.io/zone',
            whenUnsatisfiable: 'ScheduleAnyway',
            labelSelector: { matchLabels: { c: 'd' } },
          },
        ],
      },
      gateway: { extraArgs: ['-peer=192.0.2.1'], podLabels: { e: 'f' }, podAnnotations: { g: 'h' } },
      extraObjects: [
        { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'more', namespace: '{{ .Release.Namespace }}' } },
        'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: "{{ .Release.Name }}-text", namespace: ipref }\n',
      ],
    },
  },
]

/** Values that the schema refuses, and what it must name. */
export const refusedValues: readonly [Record<string, unknown>, string][] = [
  [{ operators: {} }, 'operators'],
  [{ operator: { replicas: 0 } }, '/operator/replicas'],
  [{ operator: { logLevel: 'loud' } }, '/operator/logLevel'],
  [{ gateway: { port: 70_000 } }, '/gateway/port'],
  [{ gateway: { bind: [] } }, '/gateway/bind'],
  [{ gateway: { dataPath: 'var/lib' } }, '/gateway/dataPath'],
  [{ gateway: { privilege: true } }, 'privilege'],
  [{ resolver: { upstreams: [] } }, '/resolver/upstreams'],
  [{ resolver: { service: { trafficDistribution: 'Local' } } }, '/resolver/service/trafficDistribution'],
  [{ zones: { service: { type: 'ExternalName' } } }, '/zones/service/type'],
  [{ image: { digest: 'latest' } }, '/image/digest'],
  [{ config: { encodingNetworks: ['10.1.0.0/16', '10.2.0.0/16', '10.3.0.0/16'] } }, '/config/encodingNetworks'],
  [{ config: { internalZone: 'not a zone' } }, '/config/internalZone'],
  [{ config: { inbound: { default: 'maybe' } } }, '/config/inbound/default'],
  [{ config: { publishers: { rfc2136: [{ zone: 'public' }] } } }, 'server'],
  [{ config: { encodingNetwork: '10.176.0.0/12' } }, 'encodingNetwork'],
  [{ prometheusRule: { alerts: { storeFailing: { for: 'soon' } } } }, '/prometheusRule/alerts/storeFailing/for'],
  [{ prometheusRule: { alerts: { everything: { enabled: true } } } }, 'everything'],
]

/** Values that are right one by one and cannot work together, and what is said. */
export const impossibleValues: readonly [Record<string, unknown>, RegExp][] = [
  [{ operator: { replicas: 1 } }, /no node with an operator could be drained/],
  [{ config: { clusterDns: { manage: true } } }, /config\.clusterDns\.manage needs an address/],
  [
    {
      config: { clusterDns: { resolver: '10.96.0.1' } },
      resolver: { service: { clusterIP: '10.96.0.2' } },
    },
    /config\.clusterDns\.resolver is 10\.96\.0\.1 and resolver\.service\.clusterIP is 10\.96\.0\.2/,
  ],
  [
    { config: { publishers: { zoneServer: { ...zoneServer, listen: ['0.0.0.0:53'] } } } },
    /no right to ports below 1024/,
  ],
  [{ zones: { service: { clusterIP: 'None' } } }, /zones\.service\.clusterIP is None/],
  [{ crds: { keep: false }, cleanup: { enabled: false } }, /wait for ever for objects/],
  [{ podMonitor: { enabled: true }, metrics: { enabled: false } }, /podMonitor\.enabled needs metrics\.enabled/],
  [
    { openshift: { scc: true }, gateway: { serviceAccount: { create: false } } },
    /would give its rights to the account default/,
  ],
  [{ gateway: { bind: ['192.0.2.1'] } }, /it holds for every node/],
  [
    { operator: { serviceAccount: { name: 'same' } }, gateway: { serviceAccount: { name: 'same' } } },
    /a gateway would have the operator's rights/,
  ],
]

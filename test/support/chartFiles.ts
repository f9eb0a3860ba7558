/**
 * Files of the chart that are made from others (`npm run docs` writes them, test/repo compares):
 *
 *   values.yaml and its comments ──► README.md
 *   values.yaml, `shapes` below, table of the settings ──► values.schema.json
 *   crds/ ──► templates/crds/: behind crds.enabled, kept by crds.keep
 */
import { readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { configTable } from '../../resources/configTable.ts'
import { crdPath, renderCrd } from '../../resources/schema/crd.ts'
import type { Field } from '../../resources/schema/schema.ts'
import { ownKinds } from '../../resources/schema/tables.ts'
import { readYaml } from '../../runtime/yaml.ts'

export const CHART = 'helm/ipref'
const ROOT = join(import.meta.dirname, '../..')

type Json = Record<string, unknown>

const readChart = (name: string) => readFileSync(join(ROOT, CHART, name), 'utf8')

export function chartValues(): Json {
  return readYaml(readChart('values.yaml'))[0]!.value as Json
}

// ---- what values may be, where their defaults do not say it

const labels = { type: 'object', additionalProperties: { type: 'string' } }
const any = { type: 'object' }
const anyList = { type: 'array', items: any }
const texts = { type: 'array', items: { type: 'string' } }
const integer = (minimum: number, maximum: number) => ({ type: 'integer', minimum, maximum })
const oneOf = (...values: string[]) => ({ type: 'string', enum: values })
const port = integer(1, 65535)
const logLevel = oneOf('debug', 'info', 'warn', 'error')
const duration = { type: 'string', pattern: '^([0-9]+(ms|s|m|h|d))+$' }
const address = { type: 'string', pattern: '^[0-9a-fA-F.:]*$' }
const objectName = { type: 'string', pattern: '^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$', maxLength: 253 }

/** By path; `*` stands for any one name. What is below is not looked into. */
const shapes: Readonly<Record<string, Json>> = {
  nameOverride: { ...objectName, maxLength: 50 },
  fullnameOverride: { ...objectName, maxLength: 50 },
  namespaceOverride: { ...objectName, maxLength: 63 },
  commonLabels: labels,
  imagePullSecrets: anyList,
  'image.repository': { type: 'string', minLength: 1 },
  'image.digest': { type: 'string', pattern: '^(sha256:[0-9a-f]{64})?$' },
  'image.pullPolicy': oneOf('Always', 'IfNotPresent', 'Never'),
  config: { ...schemaOf(configTable), required: ['encodingNetworks', 'internalZone'] },
  'operator.replicas': integer(1, 10),
  'operator.workers': integer(1, 64),
  'operator.runAsUser': { type: ['integer', 'null'], minimum: 1 },
  'operator.topologySpreadConstraints': anyList,
  'operator.podDisruptionBudget.minAvailable': integer(1, 9),
  'operator.networkPolicy.metricsFrom': anyList,
  'operator.networkPolicy.zonesFrom': anyList,
  'operator.networkPolicy.egress': anyList,
  'zones.service.type': oneOf('ClusterIP', 'NodePort', 'LoadBalancer'),
  'zones.service.clusterIP': { type: 'string' },
  'zones.service.loadBalancerIP': address,
  'zones.service.externalTrafficPolicy': oneOf('Local', 'Cluster'),
  'zones.service.nodePort': integer(0, 65535),
  'zones.addresses': texts,
  'gateway.port': port,
  'gateway.bind': { ...texts, minItems: 1, maxItems: 2, uniqueItems: true },
  'gateway.dataPath': { type: 'string', pattern: '^/[^:]+$' },
  'gateway.maxMappings': integer(1024, 16_000_000),
  'gateway.maxPeers': integer(16, 65_536),
  'gateway.seLinuxOptions': labels,
  'gateway.updateStrategy': any,
  'gateway.terminationGracePeriodSeconds': integer(5, 600),
  'resolver.upstreams': { ...texts, minItems: 1, maxItems: 16 },
  'resolver.cacheSize': integer(0, 4_194_304),
  'resolver.service.clusterIP': address,
  'resolver.service.ipFamilyPolicy': oneOf('', 'SingleStack', 'PreferDualStack', 'RequireDualStack'),
  'zones.service.ipFamilyPolicy': oneOf('', 'SingleStack', 'PreferDualStack', 'RequireDualStack'),
  'resolver.service.trafficDistribution': oneOf('auto', '', 'PreferSameNode', 'PreferSameZone', 'PreferClose'),
  'cleanup.timeoutSeconds': integer(30, 3600),
  'podMonitor.labels': labels,
  'podMonitor.interval': duration,
  'podMonitor.scrapeTimeout': duration,
  'podMonitor.relabelings': anyList,
  'podMonitor.metricRelabelings': anyList,
  'prometheusRule.labels': labels,
  'prometheusRule.alertLabels': labels,
  'prometheusRule.alerts.*': {
    type: 'object',
    properties: {
      enabled: { type: 'boolean' },
      severity: { type: 'string', minLength: 1 },
      for: duration,
      threshold: { type: 'number', minimum: 0 },
    },
    additionalProperties: false,
  },
  'dashboard.labels': labels,
  'dashboard.annotations': labels,
  extraObjects: { type: 'array', items: { type: ['object', 'string'] } },
  '*.extraArgs': texts,
  '*.extraEnv': anyList,
  '*.logLevel': logLevel,
  '*.resources': any,
  '*.nodeSelector': labels,
  '*.tolerations': anyList,
  '*.affinity': any,
  '*.podAnnotations': labels,
  '*.podLabels': labels,
  '*.priorityClassName': objectName,
  '*.serviceAccount.name': objectName,
  '*.serviceAccount.annotations': labels,
  '*.service.annotations': labels,
}

/** undefined: the default says it. */
export function shapeAt(path: readonly string[]): Json | undefined {
  const found = Object.entries(shapes).find(([pattern]) => {
    const steps = pattern.split('.')
    return steps.length === path.length && steps.every((step, i) => step === '*' || step === path[i])
  })
  return found?.[1]
}

function schemaOf(field: Field): Json {
  const description = { description: field.about }
  switch (field.type) {
    case 'text': {
      const { oneOf: values, pattern, least, most } = field
      if (values) return { ...description, type: 'string', enum: values }
      return {
        ...description,
        type: 'string',
        ...(pattern !== undefined && { pattern }),
        ...(least !== undefined && { minLength: least }),
        ...(most !== undefined && { maxLength: most }),
      }
    }
    case 'integer': {
      const { oneOf: values, least, most } = field
      if (values) return { ...description, type: 'integer', enum: values }
      const bounds = { ...(least !== undefined && { minimum: least }), ...(most !== undefined && { maximum: most }) }
      return { ...description, type: 'integer', ...bounds }
    }
    case 'boolean':
      return { ...description, type: 'boolean' }
    case 'list': {
      const { of, least, most, unique } = field
      const bounds = { ...(least !== undefined && { minItems: least }), maxItems: most }
      return {
        ...description,
        type: 'array',
        ...bounds,
        ...(unique === 'items' && { uniqueItems: true }),
        items: schemaOf(of),
      }
    }
    case 'map':
      return { ...description, type: 'object', maxProperties: field.most, additionalProperties: schemaOf(field.of) }
    case 'object': {
      const entries = Object.entries(field.fields)
      const required = entries.filter(([, member]) => member.required).map(([name]) => name)
      return {
        ...description,
        type: 'object',
        ...(required.length > 0 && { required }),
        properties: Object.fromEntries(entries.map(([name, member]) => [name, schemaOf(member)])),
        additionalProperties: false,
      }
    }
  }
}

function schemaAt(value: unknown, path: readonly string[]): Json {
  const shape = path.length > 0 ? shapeAt(path) : undefined
  if (shape) return shape
  if (typeof value === 'string' || typeof value === 'boolean') return { type: typeof value }
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (!isMap || Object.keys(value).length === 0) throw new Error(`values.yaml, ${path.join('.')}: say its shape`)
  const members = Object.entries(value).map(([name, one]) => [name, schemaAt(one, [...path, name])] as const)
  return { type: 'object', properties: Object.fromEntries(members), additionalProperties: false }
}

export function renderValuesSchema(): string {
  const root = schemaAt(chartValues(), [])
  const properties = { ...(root.properties as Json), global: { type: 'object' } }
  const schema = { $schema: 'http://json-schema.org/draft-07/schema#', ...root, properties }
  return `${JSON.stringify(schema, null, 1)}\n`
}

// ---- README

export interface ValueRow {
  path: string[]
  about: string
  value: unknown
}

export interface ValueSection {
  title: string
  rows: ValueRow[]
}

/** Every value that a comment stands above, in the sections of values.yaml; maps whose members have comments of their own count as titles. */
export function valueSections(): ValueSection[] {
  const sections: ValueSection[] = []
  const values = chartValues()
  let comment: string[] = []
  const path: string[] = []
  for (const line of readChart('values.yaml').split('\n').slice(1)) {
    const section = /^# ---- (.*)$/.exec(line)?.[1]
    const about = /^ *# (.*)$/.exec(line)?.[1]
    const key = /^( *)([\w-]+):/.exec(line)
    if (section !== undefined) sections.push({ title: section, rows: [] })
    else if (about !== undefined) comment.push(about)
    else if (key) {
      path.splice(key[1]!.length / 2)
      path.push(key[2]!)
      const value = path.reduce<unknown>((at, name) => (at as Json | undefined)?.[name], values)
      if (value !== undefined) sections.at(-1)!.rows.push({ path: [...path], about: comment.join(' '), value })
      comment = []
    } else if (line === '') comment = []
  }
  return sections
}

const cell = (text: string) => text.replace(/[|<*]/g, '\\$&')

function isTitle({ path, value }: ValueRow): boolean {
  const isMap = typeof value === 'object' && value !== null && !Array.isArray(value)
  return isMap && shapeAt(path) === undefined
}

/** Members of a value whose shape is Kubernetes' own are not ours to explain. */
export function explainedRows(rows: readonly ValueRow[]): ValueRow[] {
  return rows.filter(({ path }) => path.every((_, i) => i === 0 || shapeAt(path.slice(0, i)) === undefined))
}

function sectionLines({ title, rows }: ValueSection): string[] {
  const lines = ['', `### ${title[0]!.toUpperCase()}${title.slice(1)}`, '']
  const explained = explainedRows(rows)
  for (const { path, about } of explained.filter(isTitle))
    if (about !== '') lines.push(`\`${path.join('.')}\`: ${about}`, '')
  lines.push('| value | default | meaning |', '| --- | --- | --- |')
  for (const row of explained.filter(one => !isTitle(one))) {
    const shown = row.path[0] === 'config' ? row.value : (row.value ?? '')
    const text = shown === '' ? '' : `\`${JSON.stringify(shown)}\``
    lines.push(`| \`${row.path.join('.')}\` | ${text.replaceAll('|', '\\|')} | ${cell(row.about)} |`)
  }
  return lines
}

export function renderChartReadme(): string {
  const { version, kubeVersion } = readYaml(readChart('Chart.yaml'))[0]!.value as Record<string, string>
  return `${[
    '# Chart ipref',
    '',
    'Generated by `npm run docs` from [values.yaml](values.yaml). Changes: [CHANGELOG.md](CHANGELOG.md).',
    '',
    `Version ${version}, for Kubernetes ${kubeVersion!.replace('-0', '')}. An operator, a gateway with a resolver on every node, and the kinds \`IprefService\`, \`IprefPeer\`,`,
    '`IprefGateway`, `IprefReference`.',
    '',
    '```console',
    '$ npm run image                                   # builds the image ipref:VERSION; push it to your registry',
    '$ helm install ipref helm/ipref -n ipref --create-namespace --set image.repository=REGISTRY/ipref',
    '```',
    '',
    "The notes that Helm prints then say what to do next: the lines for the cluster's DNS, a first `IprefService`, the port to open. `helm uninstall ipref -n ipref`",
    "gives the cluster's DNS back, withdraws records, and leaves no device, rule or route on the nodes; kinds and objects stay unless `crds.keep` is off.",
    '',
    '## What runs with which rights',
    '',
    '| | user | capabilities | from the node | rights in the cluster |',
    '| --- | --- | --- | --- | --- |',
    "| operator | 65532, read-only root, seccomp RuntimeDefault | none | nothing | each verb in `templates/operator/rbac.yaml`; of Secrets those that `config` names; of the cluster's DNS one ConfigMap, with `clusterDns.manage` alone |",
    "| gateway | root, read-only root, seccomp RuntimeDefault, not privileged | NET_ADMIN | its network, `/dev/net/tun`, one folder | watches our kinds; writes its own node's objects (ValidatingAdmissionPolicy) |",
    "| cleanup, at `helm uninstall` | as the two above | NET_ADMIN on nodes | the same | the operator's, and to delete the operators' Deployment and the gateways' DaemonSet |",
    '',
    'Ports of each node: 1045/udp tunnel (from other networks), 1046/udp VXLAN, 1047/udp probes, 1048/tcp mappings between gateways (from nodes), 1053 resolver (from',
    'pods and nodes), 9145/tcp metrics, 9146/tcp health (loopback).',
    '',
    '## Values',
    ...valueSections().flatMap(sectionLines),
  ].join('\n')}\n`
}

// ---- CRDs

/** A definition as a template; what would be read as one in its texts is quoted. */
function crdTemplate(text: string): string {
  const quoted = text.replace(/\{\{|\}\}/g, brackets => `{{ "${brackets}" }}`)
  const keep = '  {{- if .Values.crds.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n'
  return `{{- if .Values.crds.enabled }}\n${quoted.replace(/^metadata:\n/m, found => `${found}${keep}`)}{{- end }}\n`
}

export const chartFiles: Readonly<Record<string, () => string>> = {
  [`${CHART}/README.md`]: renderChartReadme,
  [`${CHART}/values.schema.json`]: renderValuesSchema,
  ...Object.fromEntries(
    ownKinds.map(kind => [
      `${CHART}/templates/crds/${basename(crdPath(kind))}`,
      () => crdTemplate(renderCrd(kind).replace(/^#.*\n/, '')),
    ]),
  ),
}

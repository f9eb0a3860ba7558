/** The options of `ipref operator`, and its configuration as a value. */
import { hostname } from 'node:os'
import { parseAddress } from '../ipref/address.ts'
import {
  type Given,
  helpText,
  isOn,
  type Option,
  type Program,
  parseSettings,
  SettingsReader,
} from '../runtime/settings.ts'
import type { CleanupSettings } from './cleanup.ts'

const options: readonly Option[] = [
  {
    name: 'manifests',
    kind: 'text',
    value: 'FOLDER',
    help: 'no cluster: read objects from YAML files in this folder, which is watched',
  },
  {
    name: 'kubeconfig',
    kind: 'text',
    value: 'FILE',
    help: 'how to reach the cluster; default: $KUBECONFIG, ~/.kube/config, or the service account of the pod',
  },
  { name: 'context', kind: 'text', value: 'NAME', help: 'of the kubeconfig; default: its current one' },
  {
    name: 'namespace',
    kind: 'text',
    standard: 'ipref',
    value: 'NAMESPACE',
    help: "the operator's own namespace",
  },
  {
    name: 'settings',
    kind: 'text',
    standard: 'ipref-config',
    value: 'NAME',
    help: 'ConfigMap with the settings of the platform; with -manifests: the file ipref-config.yaml in the folder',
  },
  {
    name: 'leader-elect',
    kind: 'boolean',
    standard: true,
    help: 'only one of several operators acts; -leader-elect=false where there is one',
  },
  {
    name: 'identity',
    kind: 'text',
    value: 'NAME',
    help: 'tells operators apart; default: name of the host and process',
  },
  {
    name: 'zone-address',
    kind: 'text',
    many: true,
    value: 'ADDRESS:PORT',
    help: 'where gateways find the zone server: the address of its Service; default: where it listens, if that is one address',
  },
  {
    name: 'gw-ipver',
    kind: 'text',
    standard: '4,6',
    value: '4|6|4,6',
    help: 'IP versions of the tunnel, as -gateway-bind of gateways has them: an ExternalIP of a node of another is not published',
  },
  {
    name: 'workers',
    kind: 'number',
    standard: 32,
    least: 1,
    most: 64,
    value: 'NUMBER',
    help: 'objects of a kind brought in order at the same time',
  },
]

const cleaning: readonly Option[] = [
  {
    name: 'cleanup',
    kind: 'boolean',
    standard: false,
    help: 'undo what operators and gateways have made, and end: changes of the cluster DNS, records, finalizers, Leases',
  },
  {
    name: 'gateways',
    kind: 'text',
    value: 'NAME',
    help: 'with -cleanup: DaemonSet of the gateways, which is deleted',
  },
  {
    name: 'node-cleanup',
    kind: 'text',
    value: 'NAME',
    help: 'with -cleanup: DaemonSet whose pods clean their nodes, and are ready then; waited for',
  },
  {
    name: 'operators',
    kind: 'text',
    value: 'NAME',
    help: 'with -cleanup: Deployment of the operators, which is deleted at the end, when all else is undone',
  },
  {
    name: 'patience',
    kind: 'number',
    standard: 240,
    least: 1,
    most: 86400,
    value: 'SECONDS',
    help: 'with -cleanup: after which what is not done is named, and the exit code is 1',
  },
]

const running: readonly Option[] = [
  { name: 'config', kind: 'text', value: 'FILE', help: 'YAML file with these names; the command line wins' },
  {
    name: 'metrics-address',
    kind: 'text',
    standard: ':9145',
    value: 'HOST:PORT',
    help: "where /metrics is served; 'off': nowhere",
  },
  {
    name: 'health-address',
    kind: 'text',
    standard: '127.0.0.1:9146',
    value: 'HOST:PORT',
    help: "where /healthz and /readyz are served; 'off': nowhere",
  },
  {
    name: 'log-level',
    kind: 'text',
    standard: 'info',
    oneOf: ['debug', 'info', 'warn', 'error'],
    value: 'LEVEL',
    help: 'debug, info, warn or error',
  },
  {
    name: 'log-format',
    kind: 'text',
    standard: 'json',
    oneOf: ['json', 'text'],
    value: 'FORMAT',
    help: 'json or text',
  },
  { name: 'check-config', kind: 'boolean', standard: false, help: 'check the options and the settings, and exit' },
  { name: 'help', kind: 'boolean', standard: false, help: 'this' },
  { name: 'version', kind: 'boolean', standard: false, help: 'print the version' },
]

export const operatorProgram: Program = {
  command: 'ipref operator',
  groups: [
    { title: 'Objects', options },
    { title: 'Cleaning up', options: cleaning },
    { title: 'Running', options: running },
  ],
}

export const operatorIntro: readonly string[] = [
  'usage: ipref operator [OPTIONS]',
  '',
  'Publishes what IprefService objects say: allots references, tells the gateways, renders DNS records, and proves that they are there.',
]

export interface Listen {
  host: string
  port: number
}

export interface OperatorConfig {
  /** undefined: an API server */
  manifests: string | undefined
  kubeconfig: string | undefined
  context: string | undefined
  namespace: string
  settings: string
  leaderElect: boolean
  identity: string
  workers: number
  zoneAddresses: readonly string[]
  /** IP versions over which gateways of nodes talk to others */
  tunnelFamilies: readonly (4 | 6)[]
  metrics: Listen | undefined
  health: Listen | undefined
  logLevel: 'debug' | 'info' | 'warn' | 'error'
  logFormat: 'json' | 'text'
  checkOnly: boolean
  /** undefined: an operator that goes on */
  cleanup: Pick<CleanupSettings, 'gateways' | 'nodeCleanup' | 'operators' | 'patienceMs'> | undefined
}

export type ParsedOperatorConfig =
  | { config: OperatorConfig }
  | { problems: string[] }
  | { help: string }
  | { version: true }

export function parseOperatorConfig(argv: readonly string[], readFile: (path: string) => string): ParsedOperatorConfig {
  const problems: string[] = []
  const { given } = parseSettings(operatorProgram, argv, readFile, problems)
  if (isOn(given.get('help'))) return { help: helpText(operatorProgram, operatorIntro) }
  if (isOn(given.get('version'))) return { version: true }
  const config = read(given, problems)
  return problems.length > 0 ? { problems } : { config: Object.freeze(config) }
}

function read(given: Map<string, Given[]>, problems: string[]): OperatorConfig {
  const all = new Map(operatorProgram.groups.flatMap(g => g.options.map(option => [option.name, option] as const)))
  const settings = new SettingsReader(all, given, problems)
  const optional = (name: string) => settings.values(name).at(-1)?.text
  const manifests = optional('manifests')
  if (manifests !== undefined && (given.has('kubeconfig') || given.has('context')))
    problems.push('-manifests: there is no cluster then; leave -kubeconfig and -context out')
  const isCleanup = settings.boolean('cleanup')
  if (isCleanup && manifests !== undefined)
    problems.push('-cleanup: for a cluster; without one there is nothing to undo but files, so leave -manifests out')
  const patienceMs = settings.number('patience')! * 1000
  return {
    manifests,
    kubeconfig: optional('kubeconfig'),
    context: optional('context'),
    namespace: settings.text('namespace'),
    settings: settings.text('settings'),
    leaderElect: settings.boolean('leader-elect'),
    identity: optional('identity') ?? `${hostname()}_${process.pid}`,
    workers: settings.number('workers')!,
    zoneAddresses: settings.values('zone-address').flatMap(given => zoneAddress(given, problems)),
    tunnelFamilies: settings.each('gw-ipver', familiesOf, 'IP version (4, 6, or 4,6)').at(-1) ?? [],
    metrics: settings.listen('metrics-address'),
    health: settings.listen('health-address'),
    logLevel: settings.choice('log-level') as OperatorConfig['logLevel'],
    logFormat: settings.choice('log-format') as OperatorConfig['logFormat'],
    checkOnly: settings.boolean('check-config'),
    cleanup: isCleanup
      ? {
          gateways: optional('gateways'),
          nodeCleanup: optional('node-cleanup'),
          operators: optional('operators'),
          patienceMs,
        }
      : undefined,
  }
}

function familiesOf(text: string): (4 | 6)[] | undefined {
  const families = text.split(',').map(Number)
  return families.every(family => family === 4 || family === 6) ? families : undefined
}

function zoneAddress({ text, where }: Given, problems: string[]): string[] {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text)
  const isRight = match !== null && parseAddress(match[1] ?? match[2]!) !== undefined && Number(match[3]) <= 65535
  if (!isRight) problems.push(`${where}: ${text} is no ADDRESS:PORT (10.96.0.54:53, [fd00::54]:53)`)
  return isRight ? [text] : []
}

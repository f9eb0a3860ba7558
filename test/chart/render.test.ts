/** The chart as Helm renders it: compared with what was looked at and found right; read by the programs that it starts; refused where it cannot work. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseGatewayConfig } from '../../gateway/config.ts'
import { publishMetricTable } from '../../gateway/dns/publishReports.ts'
import { resolverMetricTable } from '../../gateway/dns/resolverReports.ts'
import { metricTable } from '../../gateway/metrics.ts'
import { lockFolder } from '../../gateway/sys/lock.ts'
import { formatAddress } from '../../ipref/address.ts'
import { operatorMetricTable } from '../../operator/metrics.ts'
import { parseOperatorConfig } from '../../operator/operatorOptions.ts'
import { stubDomains } from '../../operator/publish/corefileBlock.ts'
import { parseConfig } from '../../resources/config.ts'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { CHART } from '../support/chartFiles.ts'
import { type ChartRow, chartRows, impossibleValues, refusedValues } from '../support/chartMatrix.ts'
import { helmProblem, pick, type Rendered, render, runHelm, template } from '../support/helm.ts'

const ROOT = join(import.meta.dirname, '../..')
const golden = (name: string) => join(import.meta.dirname, 'golden', `${name}.yaml`)
const idOf = ({ kind, metadata }: Rendered) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`

function textOf(objects: readonly Rendered[]): string {
  return objects.map(one => writeYaml(one)).join('---\n')
}

/** Objects that are not in both, and lines of those that are. */
function differences(before: readonly Rendered[], after: readonly Rendered[]): string {
  const known = new Map(before.map(one => [idOf(one), writeYaml(one)]))
  const ids = new Set(after.map(idOf))
  const gone = before.map(idOf).filter(id => !ids.has(id))
  const parts = gone.map(id => `# not there: ${id}\n`)
  for (const one of after) {
    const text = one.metadata.name.endsWith('-dashboard')
      ? writeYaml({ ...one, data: '(files/dashboard.json)' })
      : writeYaml(one)
    const old = known.get(idOf(one))
    if (old === undefined) parts.push(`# new\n${text}`)
    else if (old !== text) parts.push(`# ${idOf(one)}\n${lineDifference(old.split('\n'), text.split('\n'))}`)
  }
  return parts.join('---\n')
}

/** The longest common lines stay unsaid. */
function lineDifference(a: readonly string[], b: readonly string[]): string {
  const common = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1))
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      common[i]![j] = a[i] === b[j] ? common[i + 1]![j + 1]! + 1 : Math.max(common[i + 1]![j]!, common[i]![j + 1]!)
  let [i, j, text] = [0, 0, '']
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) [i, j] = [i + 1, j + 1]
    else if (j >= b.length || (i < a.length && common[i + 1]![j]! >= common[i]![j + 1]!)) text += `- ${a[i++]}\n`
    else text += `+ ${b[j++]}\n`
  }
  return text
}

interface Container {
  name: string
  args?: string[]
  env?: { name: string }[]
  image: string
  securityContext: Record<string, unknown>
}
interface PodSpec {
  containers: Container[]
  initContainers?: Container[]
  [member: string]: unknown
}

const podSpecOf = (object: Rendered) => (object.spec as { template: { spec: PodSpec } }).template.spec

function renderRow({ values, kubeVersion }: ChartRow): Rendered[] {
  const objects = render(values, kubeVersion === undefined ? [] : ['--kube-version', kubeVersion])
  // crds/ has them, and a test of the repository compares those
  return objects.filter(({ kind }) => kind !== 'CustomResourceDefinition')
}

/** As the kubelet fills them in. */
function argsOf(object: Rendered, environment: Record<string, string>): string[] {
  const { args = [] } = podSpecOf(object).containers[0]!
  return args.slice(1).map(text => text.replace(/\$\((\w+)\)/g, (all, name: string) => environment[name] ?? all))
}

const noFile = () => {
  throw new Error('no file')
}
const nodes = { NODE_NAME: 'node-1', POD_NAMESPACE: 'ipref' }
const pods = { POD_NAMESPACE: 'ipref', POD_NAME: 'op-1', IPREF_ZONES_SERVICE_HOST: '10.96.7.7' }

describe.skipIf(helmProblem !== undefined)(
  `chart${helmProblem ? ` (${helmProblem})` : ''}`,
  { timeout: 120_000 },
  () => {
    const base = helmProblem ? [] : renderRow(chartRows[0]!)

    describe.each(chartRows)('$name', row => {
      const objects = helmProblem ? [] : renderRow(row)

      if (row.isCompared !== false)
        it('is as it was looked at (IPREF_GOLDEN=write writes what is new)', () => {
          const text = row.name === 'default' ? textOf(objects) : differences(base, objects)
          if (process.env.IPREF_GOLDEN === 'write') writeFileSync(golden(row.name), text)
          expect(text).toBe(readFileSync(golden(row.name), 'utf8'))
        })

      it('binds roles that are there to accounts that are there', () => {
        const ids = new Set(objects.map(idOf))
        for (const { kind, metadata, ...binding } of objects.filter(one => one.kind.endsWith('RoleBinding'))) {
          const { roleRef, subjects } = binding as unknown as {
            roleRef: { kind: string; name: string }
            subjects: { name: string; namespace: string }[]
          }
          const namespace = roleRef.kind === 'Role' ? metadata.namespace : ''
          expect(ids, `${kind} ${metadata.name}`).toContain(`${roleRef.kind} ${namespace}/${roleRef.name}`)
          for (const one of subjects) expect(ids).toContain(`ServiceAccount ${one.namespace}/${one.name}`)
        }
      })

      it('passes helm lint', () => {
        const { code, output, errors } = runHelm(['lint', CHART, '--strict'], row.values)
        expect({ code, errors: `${output}${errors}`.match(/\[(ERROR|WARNING)\].*/g) }).toEqual({
          code: 0,
          errors: null,
        })
      })

      it('has each object once, with labels by which it is found', () => {
        const ids = objects.map(idOf)
        expect(ids.filter((id, i) => ids.indexOf(id) !== i)).toEqual([])
        const plain = objects.filter(({ metadata }) => metadata.labels?.['app.kubernetes.io/part-of'] !== 'ipref')
        expect(plain.map(idOf)).toEqual(
          row.name === 'others' ? ['ConfigMap ipref/more', 'ConfigMap ipref/ipref-text'] : [],
        )
      })

      it('has settings that the operator reads', () => {
        const { data } = pick(objects, 'ConfigMap', 'ipref-config') as Rendered & { data: Record<string, string> }
        expect(parseConfig(data['config.yaml']!, 'config.yaml')).toHaveProperty('config')
      })

      it('starts programs with arguments that they take', () => {
        for (const addresses of [['192.0.2.10'], ['fd00::10'], ['192.0.2.10', 'fd00::10']]) {
          const gateway = objects.find(
            ({ kind, metadata }) => kind === 'DaemonSet' && metadata.name.endsWith('-gateway'),
          )!
          const parsed = parseGatewayConfig(argsOf(gateway, { ...nodes, HOST_IPS: addresses.join(',') }), noFile)
          if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
          expect(parsed.config.resolver!.listen.map(at => [formatAddress(at.address), at.port])).toEqual(
            addresses.map(address => [address, 1053]),
          )
          expect(parsed.config.kube).toMatchObject({ name: 'node-1', namespace: 'ipref', isAlone: false })
          expect(parsed.config.resolver!.upstreams.length).toBeGreaterThan(0)
        }
        const operator = objects.find(({ kind }) => kind === 'Deployment')!
        const parsed = parseOperatorConfig(argsOf(operator, { ...pods, LINK_ZONES_SERVICE_HOST: '10.96.7.7' }), noFile)
        if (!('config' in parsed)) throw new Error(JSON.stringify(parsed))
        expect(parsed.config).toMatchObject({ namespace: 'ipref', identity: 'op-1', manifests: undefined })
        expect(parsed.config.tunnelFamilies).toEqual(row.name === 'two-families' ? [4, 6] : [4])
        const hasZones = objects.some(({ kind, metadata }) => kind === 'Service' && metadata.name.endsWith('-zones'))
        const zones = row.name === 'cluster-dns' ? '[10.96.0.54]:53' : '[10.96.7.7]:53'
        expect(parsed.config.zoneAddresses).toEqual(hasZones ? [zones] : [])
        const cleanup = objects.find(({ kind }) => kind === 'Job')
        if (cleanup) expect(parseOperatorConfig(argsOf(cleanup, pods), noFile)).toHaveProperty('config.cleanup')
      })

      it('has pods say why a container failed', () => {
        for (const object of objects.filter(({ kind }) => ['Deployment', 'DaemonSet', 'Job'].includes(kind))) {
          const { containers, initContainers = [] } = podSpecOf(object)
          for (const container of [...containers, ...initContainers])
            expect(container, idOf(object)).toMatchObject({ terminationMessagePolicy: 'FallbackToLogsOnError' })
        }
      })

      it('gives no container more than it needs', () => {
        for (const object of objects.filter(({ kind }) => ['Deployment', 'DaemonSet', 'Job'].includes(kind))) {
          const { containers, initContainers = [], securityContext } = podSpecOf(object)
          expect(securityContext).toMatchObject({ seccompProfile: { type: 'RuntimeDefault' } })
          for (const { name, securityContext: has } of [...containers, ...initContainers]) {
            const touchesNode = name === 'gateway' || (name === 'cleanup' && object.kind === 'DaemonSet')
            const isPrivileged = touchesNode && row.name === 'bare'
            expect(has, `${idOf(object)} ${name}`).toMatchObject({
              readOnlyRootFilesystem: true,
              ...(isPrivileged
                ? { privileged: true }
                : {
                    allowPrivilegeEscalation: false,
                    capabilities: { drop: ['ALL'], ...(touchesNode && { add: ['NET_ADMIN'] }) },
                  }),
            })
            if (!touchesNode) expect((has.capabilities as { add?: string[] }).add).toBeUndefined()
          }
        }
      })
    })

    it('prints notes with the lines for CoreDNS that the operator would write', () => {
      const zones = { internalZone: 'in.example.com', publicZone: 'example.com' }
      const values = { config: zones, resolver: { service: { clusterIP: '10.96.0.53' } } }
      const { code, output } = runHelm(['install', 'ipref', CHART, '-n', 'ipref', '--dry-run=client'], values)
      expect(code).toBe(0)
      const lines = stubDomains({ domains: Object.values(zones), resolver: '10.96.0.53' })
      expect(output.replace(/^ {5}/gm, '')).toContain(`\n${lines}`)
      expect(output).toContain('WARNING: config.publishers.zoneServer.nameServers')
      const managed = { config: { clusterDns: { manage: true } }, resolver: values.resolver }
      const other = runHelm(['install', 'ipref', CHART, '-n', 'ipref', '--dry-run=client'], managed).output
      expect(other).toContain('(ConfigMap kube-system/coredns) is told of the resolvers at 10.96.0.53')
      expect(other).not.toContain('WARNING')
    })

    it('keeps the kinds behind a switch, and beyond the release', () => {
      const kinds = (values: unknown) => render(values).filter(({ kind }) => kind === 'CustomResourceDefinition')
      const policy = 'helm.sh/resource-policy'
      expect(kinds({}).map(({ metadata }) => metadata.annotations?.[policy])).toEqual(Array(4).fill('keep'))
      expect(kinds({ crds: { keep: false } }).map(({ metadata }) => metadata.annotations)).toEqual(
        Array(4).fill(undefined),
      )
      expect(kinds({ crds: { enabled: false } })).toEqual([])
    })

    it('cleans a node up when its gateway has ended, not before', () => {
      const { initContainers } = podSpecOf(pick(base, 'DaemonSet', 'ipref-cleanup-nodes'))
      const { command, args } = initContainers![0]! as Container & { command: string[] }
      const folder = mkdtempSync(join(tmpdir(), 'ipref-lock-'))
      // as in the pod, but for the folder, the patience, and what is run
      const run = () => {
        const argv = command.map(text => text.replace('/var/lib/ipref', folder).replace(/^\d+$/, '0.1'))
        return spawnSync(argv[0]!, [...argv.slice(1), 'echo', ...args!], { encoding: 'utf8' })
      }
      try {
        const gateway = lockFolder(folder)
        expect(run()).toMatchObject({ status: 1, stdout: '' })
        gateway.release()
        expect(run()).toMatchObject({ status: 0, stdout: 'ipref gateway -cleanup\n' })
      } finally {
        rmSync(folder, { recursive: true })
      }
    })

    it('starts gateways anew for the settings that they are started with, and for no others', () => {
      const spec = (config: object) => podSpecOf(pick(render({ config }), 'DaemonSet', 'ipref-gateway'))
      expect(spec({ inbound: { default: 'deny' } })).toEqual(spec({}))
      expect(spec({ encodingNetworks: ['10.200.0.0/16'] })).not.toEqual(spec({}))
    })

    it.each(refusedValues)('values %j are refused by the schema', (values, named) => {
      const { code, errors } = template(values)
      expect({ code, errors }).toEqual({
        code: 1,
        errors: expect.stringContaining("don't meet the specifications of the schema"),
      })
      expect(errors.replaceAll("'", '').replaceAll('.', '/')).toContain(named)
    })

    it.each(impossibleValues)('values %j cannot work, and are refused with the reason', (values, reason) => {
      const { code, errors } = template(values)
      expect({ code, errors }).toEqual({ code: 1, errors: expect.stringMatching(reason) })
    })

    it('is refused by a Kubernetes that is too old', () => {
      expect(template({}, ['--kube-version', '1.30.9']).errors).toMatch(/requires kubeVersion: >=1\.31\.0-0/)
    })
  },
)

describe('alerts and dashboard', () => {
  const tables = [...metricTable, ...resolverMetricTable, ...publishMetricTable, ...operatorMetricTable]
  const labels = new Map(tables.map(({ name, labels: own }) => [name, new Set<string>(own)]))
  // what a scrape adds
  const added = new Set(['namespace', 'pod'])

  const alerts = readYaml(readFileSync(join(ROOT, CHART, 'files/alerts.yaml'), 'utf8'))[0]!.value as Record<
    string,
    { expr: string; summary: string; description: string }
  >
  const dashboard = JSON.parse(readFileSync(join(ROOT, CHART, 'files/dashboard.json'), 'utf8')) as {
    panels: { title: string; targets?: { expr: string }[] }[]
  }
  const expressions = [
    ...Object.entries(alerts).map(([name, { expr }]) => [name, expr] as const),
    ...dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [title, expr] as const)),
  ]

  it('are there at all', () => expect(expressions.length).toBeGreaterThan(30))

  it.each(expressions)('%s asks for metrics and labels that exist: %s', (_name, expr) => {
    const metrics = [...expr.matchAll(/\bipref_\w+/g)].map(([name]) => name)
    expect(metrics.length).toBeGreaterThan(0)
    expect(metrics.filter(name => !labels.has(name))).toEqual([])
    const known = new Set(metrics.flatMap(name => [...labels.get(name)!]).concat(...added))
    const selected = [...expr.matchAll(/[{,]\s*(\w+)=~?"/g)].map(match => match[1]!)
    const grouped = [...expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap(match => match[1]!.split(/, */))
    expect([...selected, ...grouped].filter(label => !known.has(label))).toEqual([])
  })

  it('have a switch each, and a threshold where they use one', () => {
    const { prometheusRule } = readYaml(readFileSync(join(ROOT, CHART, 'values.yaml'), 'utf8'))[0]!.value as {
      prometheusRule: { alerts: Record<string, { threshold?: number }> }
    }
    expect(Object.keys(alerts)).toEqual(Object.keys(prometheusRule.alerts))
    const withThreshold = Object.entries(alerts).filter(([, { expr }]) => expr.includes('THRESHOLD'))
    const given = Object.entries(prometheusRule.alerts).filter(([, { threshold }]) => threshold !== undefined)
    expect(withThreshold.map(([name]) => name)).toEqual(given.map(([name]) => name))
  })
})

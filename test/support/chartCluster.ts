/**
 * The chart in a real API server: its objects as they are applied, and its accounts as programs use them. Without kubelets and controllers nothing of it runs:
 * tests run operator and gateway in their own process, with the rights that the chart gives.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { type ApiServer, kubectl, startOwnApiServer } from './apiServer.ts'
import { externalDns } from './externalDns.ts'
import { NAMESPACE, type Rendered } from './helm.ts'

/** Kinds that charts use where they are served. Their own schemas are not here: names, namespaces and labels are checked. */
const FOREIGN = [
  { group: 'monitoring.coreos.com', version: 'v1', kind: 'PodMonitor', plural: 'podmonitors', scope: 'Namespaced' },
  {
    group: 'monitoring.coreos.com',
    version: 'v1',
    kind: 'PrometheusRule',
    plural: 'prometheusrules',
    scope: 'Namespaced',
  },
  {
    group: 'security.openshift.io',
    version: 'v1',
    kind: 'SecurityContextConstraints',
    plural: 'securitycontextconstraints',
    scope: 'Cluster',
  },
] as const

function foreignKind({ group, version, kind, plural, scope }: (typeof FOREIGN)[number]) {
  const openAPIV3Schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true }
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope,
      names: { kind, plural, singular: kind.toLowerCase(), listKind: `${kind}List` },
      versions: [{ name: version, served: true, storage: true, schema: { openAPIV3Schema } }],
    },
  }
}

export class ChartCluster {
  readonly server: ApiServer
  readonly admin: KubernetesStore
  readonly #folder = mkdtempSync(join(tmpdir(), 'ipref-chart-'))

  /** `namespaces`: beside that of the release. */
  static async open(namespaces: readonly string[]): Promise<ChartCluster> {
    const server = await startOwnApiServer('chart')
    const cluster = new ChartCluster(server, await KubernetesStore.open({ kubeconfig: server.kubeconfig }))
    for (const name of [NAMESPACE, ...namespaces])
      await cluster.admin.create('Namespace', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
    await cluster.must(['apply', '-f', '-'], FOREIGN.map(foreignKind).map(writeYaml).join('---\n'))
    const external = externalDns()
    if ('missing' in external) throw new Error(external.missing)
    await cluster.must(['apply', '-f', external.crd])
    return cluster
  }

  private constructor(server: ApiServer, admin: KubernetesStore) {
    this.server = server
    this.admin = admin
  }

  async must(argv: readonly string[], input = ''): Promise<string> {
    const { code, output, errors } = await kubectl(this.server.kubeconfig, argv, input)
    if (code !== 0) throw new Error(`kubectl ${argv.join(' ')}: ${errors}`)
    return output.trim()
  }

  /** `isDry`: the server looks at them, and nothing is kept. What it warns of. */
  async apply(objects: readonly Rendered[], { isDry = false } = {}): Promise<string[]> {
    const argv = [
      'apply',
      '--server-side',
      '--force-conflicts',
      '--validate=strict',
      ...(isDry ? ['--dry-run=server'] : []),
    ]
    const text = objects.map(one => writeYaml(one)).join('---\n')
    const { code, output, errors } = await kubectl(this.server.kubeconfig, [...argv, '-f', '-'], text)
    if (code !== 0) throw new Error(errors)
    const applied = output.trim().split('\n').length
    if (applied !== objects.length) throw new Error(`${applied} of ${objects.length} objects were applied:\n${output}`)
    return errors.split('\n').filter(line => line !== '')
  }

  async node(name: string, address: string): Promise<void> {
    await this.must(['create', '-f', '-'], writeYaml({ apiVersion: 'v1', kind: 'Node', metadata: { name } }))
    const status = { addresses: [{ type: 'InternalIP', address }], conditions: [{ type: 'Ready', status: 'True' }] }
    const patch = JSON.stringify({ status })
    await this.must(['patch', 'node', name, '--subresource=status', '--type=merge', '-p', patch])
  }

  /** A kubeconfig with a token of this account; `node`: of a pod that runs there. */
  async account(name: string, node?: string): Promise<string> {
    const token = await this.must([
      '-n',
      NAMESPACE,
      'create',
      'token',
      name,
      ...(node ? await this.#podOn(node, name) : []),
    ])
    const config = readYaml(readFileSync(this.server.kubeconfig, 'utf8'))[0]!.value as {
      clusters: { cluster: unknown }[]
    }
    const file = join(this.#folder, `${name}-${node ?? 'any'}.kubeconfig`)
    writeFileSync(
      file,
      writeYaml({
        apiVersion: 'v1',
        kind: 'Config',
        'current-context': 'it',
        clusters: [{ name: 'it', cluster: config.clusters[0]!.cluster }],
        users: [{ name: 'it', user: { token } }],
        contexts: [{ name: 'it', context: { cluster: 'it', user: 'it' } }],
      }),
    )
    return file
  }

  async #podOn(node: string, account: string): Promise<string[]> {
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `${account}-${node}`, namespace: NAMESPACE },
      spec: {
        nodeName: node,
        serviceAccountName: account,
        automountServiceAccountToken: false,
        containers: [{ name: 'it', image: 'none' }],
      },
    }
    const made = await this.must(['create', '-o', 'jsonpath={.metadata.uid}', '-f', '-'], writeYaml(pod))
    return ['--bound-object-kind=Pod', `--bound-object-name=${pod.metadata.name}`, `--bound-object-uid=${made}`]
  }

  file(name: string): string {
    return join(this.#folder, name)
  }

  async close(): Promise<void> {
    await this.admin.close()
    await this.server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

/** Who a store is: the service account of a pod whose token is renewed or revoked, and rights that are missing, given and taken away, as RBAC has it. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { KubernetesStore } from '../../resources/kubernetesStore.ts'
import { readYaml, writeYaml } from '../../runtime/yaml.ts'
import { configMap, until } from '../contract/resourceStore.ts'
import { isMissing, kubectl, sharedApiServer } from '../support/apiServer.ts'
import { follow } from '../support/followed.ts'
import { makeNamespaces } from '../support/namespaces.ts'

const server = sharedApiServer()

describe.skipIf(isMissing(server))('who a store is', { timeout: 180_000 }, () => {
  let admin: KubernetesStore
  let ns: string
  let remove: () => Promise<void>
  let root: string
  let cluster: Record<string, string>
  const environment = { ...process.env }

  async function admins(...argv: string[]): Promise<string> {
    if (isMissing(server)) throw new Error(server.missing)
    const { code, output, errors } = await kubectl(server.kubeconfig, ['-n', ns, ...argv])
    if (code !== 0) throw new Error(`kubectl ${argv.join(' ')}: ${errors}`)
    return output.trim()
  }

  const tokenFile = () => join(root, 'var/run/secrets/kubernetes.io/serviceaccount/token')

  beforeAll(async () => {
    if (isMissing(server)) throw new Error(server.missing)
    admin = await KubernetesStore.open({ kubeconfig: server.kubeconfig })
    const made = await makeNamespaces(admin)
    ns = made.namespaces[0]
    remove = made.remove
    const config = readYaml(readFileSync(server.kubeconfig, 'utf8'))[0]!.value
    cluster = (config as { clusters: { cluster: Record<string, string> }[] }).clusters[0]!.cluster
    root = mkdtempSync(join(tmpdir(), 'ipref-pod-'))
    mkdirSync(join(tokenFile(), '..'), { recursive: true })
    const authority = cluster['certificate-authority-data']
    const pem = authority ? Buffer.from(authority, 'base64') : readFileSync(cluster['certificate-authority']!)
    writeFileSync(join(tokenFile(), '../ca.crt'), pem)
    writeFileSync(join(tokenFile(), '../namespace'), ns)
    const { hostname, port } = new URL(cluster.server!)
    process.env.KUBERNETES_SERVICE_HOST = hostname
    process.env.KUBERNETES_SERVICE_PORT = port
    await admins('create', 'serviceaccount', 'operator')
    await admins('create', 'role', 'reader', '--verb=get,list,watch', '--resource=configmaps')
    writeFileSync(tokenFile(), `${await admins('create', 'token', 'operator')}\n`)
  })
  afterAll(async () => {
    process.env = environment
    await remove?.()
    await admin?.close()
    if (root) rmSync(root, { recursive: true })
  })

  const open = () =>
    KubernetesStore.open({
      serviceAccountRoot: root,
      times: { firstBackoffMs: 50, lastBackoffMs: 300, leastSeconds: 2 },
    })
  const give = () => admins('create', 'rolebinding', 'reads', '--role=reader', `--serviceaccount=${ns}:operator`)
  const take = () => admins('delete', 'rolebinding', 'reads')

  it('has no right: refused at once; given: follows; taken away: says so, and follows again when it is back', async () => {
    const store = await open()
    await expect(store.watch('ConfigMap', { namespace: ns }, { onChange() {} })).rejects.toMatchObject({
      code: 'Forbidden',
      status: 403,
    })
    await give()
    const asked = async () =>
      store.list('ConfigMap', { namespace: ns }).then(
        () => true,
        () => false,
      )
    await until(asked, can => can)
    const followed = await follow(store, { namespace: ns })
    await admin.create('ConfigMap', configMap(ns, 'one'))
    await followed.converge(admin)
    await take()
    // a watch that is on goes on; the next one, seconds later, is refused
    await until(
      () => followed.troubles.join(),
      told => /\(403\)/.test(told),
    )
    await admin.create('ConfigMap', configMap(ns, 'two'))
    await give()
    await followed.converge(admin)
    // the view may be whole by a list before it is said that it follows again
    await until(
      () => followed.troubles.at(-1),
      trouble => trouble === undefined,
    )
    await expect(store.create('ConfigMap', configMap(ns, 'mine'))).rejects.toMatchObject({ code: 'Forbidden' })
    await store.close()
  })

  it('has a token that is revoked, and another one later', async () => {
    const store = await open()
    const followed = await follow(store, { namespace: ns })
    await admins('delete', 'serviceaccount', 'operator')
    await admins('create', 'serviceaccount', 'operator')
    await until(
      () => followed.troubles.join(),
      told => /\(401\)/.test(told),
    )
    await admin.create('ConfigMap', configMap(ns, 'three'))
    writeFileSync(tokenFile(), await admins('create', 'token', 'operator'))
    await followed.converge(admin)
    await store.close()
  })

  it('is told by people: a context of a kubeconfig, and what is missing there', async () => {
    const token = await admins('create', 'token', 'operator')
    const file = join(root, 'config')
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'nobody',
      clusters: [{ name: 'here', cluster }],
      users: [{ name: 'operator', user: { token } }],
      contexts: [{ name: 'operator', context: { cluster: 'here', user: 'operator' } }],
    }
    writeFileSync(file, writeYaml(config))
    const store = await KubernetesStore.open({ kubeconfig: file, context: 'operator' })
    expect((await store.list('ConfigMap', { namespace: ns })).length).toBeGreaterThan(0)
    await store.close()
    await expect(KubernetesStore.open({ kubeconfig: file })).rejects.toThrow(/no context nobody/)
    await expect(KubernetesStore.open({ kubeconfig: join(root, 'nothing') })).rejects.toThrow(/nothing/)
  })
})

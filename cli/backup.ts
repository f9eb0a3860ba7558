/**
 * `ipref backup`: the mappings of a gateway, and the references and objects of a cluster or a folder, in one file that people can read (backupFile.ts).
 *
 *   mapping store ── one moment of it, while the gateway goes on ──┐
 *   API server, or folder ── IprefReferences, objects ─────────────┴─► lines ──► FILE, whole or not at all; or standard output
 */
import type { IprefReference, KubeObject, ObjectMeta } from '../resources/kinds.ts'
import type { ResourceStore } from '../resources/store.ts'
import { type Arguments, asksForHelp, fail, parseCommand, say } from './arguments.ts'
import { BackupLines, type BackupObject, type Entry } from './backupFile.ts'
import { writeBackup } from './backupStorage.ts'
import { CLUSTER_PLACE_USAGE, type ClusterSettings, clusterSettings, openCluster, placeFlags } from './clusterStore.ts'

export const DEFAULT_DATA = '/var/lib/ipref'
/** What kubectl keeps for itself, as long as the object. */
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration'

export const USAGE = `usage: ipref backup [FILE] [-data FOLDER]
       ipref backup [FILE] -kube|-kubeconfig FILE|-manifests FOLDER [-data FOLDER]

  ipref backup FILE              the mappings of the gateway on this host, which may run
  ipref backup FILE -kube        references and objects of a cluster; with -data the mappings of a gateway too
  ipref backup                   to standard output

  -data FOLDER          where the gateway keeps its mappings; default: ${DEFAULT_DATA}
${CLUSTER_PLACE_USAGE}
  -manifests FOLDER     no cluster: the references kept below this folder

FILE is readable by its owner alone, and replaced when it is whole. ipref restore puts it back.`

export async function runBackup(argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const args = parseCommand(argv, {
    text: ['data', ...placeFlags.text],
    switches: placeFlags.switches,
  })
  if (typeof args === 'string') return fail('backup', args, 2)
  if (args.rest.length > 1) return fail('backup', USAGE, 2)
  const settings = clusterSettings(args)
  if (settings && 'problem' in settings) return fail('backup', settings.problem, 2)
  const file = args.rest[0] === '-' ? undefined : args.rest[0]
  try {
    const objects = settings ? await objectsOf(args, settings) : []
    const folder = dataFolder(args, settings)
    const counts = { reference: 0, object: 0, mapping: 0 }
    await writeBackup(file, linesOf(objects, folder === undefined ? [] : await mappingsOf(folder), counts))
    const { reference, object, mapping } = counts
    const parts = [
      ...(settings ? [`references: ${reference}`, `objects: ${object}`] : []),
      ...(folder === undefined ? [] : [`mappings: ${mapping}`]),
    ]
    process.stderr.write(`${parts.join(', ')}${file === undefined ? '' : `, in ${file}`}\n`)
    return 0
  } catch (error) {
    return fail('backup', (error as Error).message)
  }
}

/** undefined: of a cluster alone. */
export function dataFolder(args: Arguments, settings: ClusterSettings | undefined): string | undefined {
  return args.values.get('data') ?? (settings ? undefined : DEFAULT_DATA)
}

async function mappingsOf(folder: string): Promise<Iterable<Entry>> {
  const { savedMappings } = await import('../gateway/mapper/savedMappings.ts')
  return (function* () {
    for (const mapping of savedMappings(folder)) yield { what: 'mapping', mapping }
  })()
}

function* linesOf(objects: readonly Entry[], mappings: Iterable<Entry>, counts: Record<Entry['what'], number>) {
  const lines = new BackupLines()
  yield lines.header(Date.now())
  for (const entries of [objects, mappings])
    for (const entry of entries) {
      counts[entry.what]++
      yield lines.entry(entry)
    }
  yield lines.end()
}

async function objectsOf(args: Arguments, settings: ClusterSettings): Promise<Entry[]> {
  const { store } = await openCluster(args, settings)
  try {
    const claims = (await store.list('IprefReference')).sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1))
    const references = claims.map((reference): Entry => ({ what: 'reference', reference }))
    // of a folder its files say them
    if (args.values.has('manifests')) return references
    return [...references, ...(await listObjects(store, claims)).map((object): Entry => ({ what: 'object', object }))]
  } finally {
    await store.close()
  }
}

async function listObjects(store: ResourceStore, claims: readonly IprefReference[]): Promise<BackupObject[]> {
  const [peers, gateways, services] = await Promise.all([
    store.list('IprefPeer'),
    store.list('IprefGateway'),
    store.list('IprefService'),
  ])
  return [...inOrder(peers), ...inOrder(gateways), ...inOrder(services, claims)].map(asWritten)
}

/** The oldest first, and who shares a reference of another behind all who have their own: they can be made again in this order. */
function inOrder<Value extends KubeObject>(objects: Value[], claims?: readonly IprefReference[]): Value[] {
  const owners = new Set(claims?.map(({ spec }) => `${spec.namespace}/${spec.name}`))
  const rank = ({ namespace, name }: ObjectMeta) => (claims && !owners.has(`${namespace}/${name}`) ? 1 : 0)
  const key = ({ metadata }: Value) =>
    `${rank(metadata)} ${metadata.creationTimestamp ?? ''} ${metadata.namespace ?? ''}/${metadata.name}`
  return objects.sort((a, b) => (key(a) < key(b) ? -1 : 1))
}

/** Without what an API server and programs say of it. */
function asWritten(object: KubeObject & { spec?: unknown }): BackupObject {
  const { apiVersion, kind, metadata, spec } = object
  const { name, namespace, labels, annotations } = metadata
  const { [LAST_APPLIED]: _dropped, ...kept } = annotations ?? {}
  const said = {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(labels ? { labels } : {}),
    ...(Object.keys(kept).length > 0 ? { annotations: kept } : {}),
  }
  return { apiVersion, kind, metadata: said, spec } as BackupObject
}

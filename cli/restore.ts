/**
 * `ipref restore`: what `ipref backup` wrote is put back where it is missing; what is there stays, and each contradiction is named.
 *
 *   FILE ── checked to its end ──► mappings ──► the store of a gateway that does not run
 *                              ├─► references ──► API server, or folder (restoreReferences.ts)
 *                              └─► objects ──► YAML for `kubectl apply`: what was withdrawn since must not come back unasked
 */
import { referenceOf } from '../resources/claims.ts'
import type { IprefGateway } from '../resources/kinds.ts'
import { writeYaml } from '../runtime/yaml.ts'
import { type Arguments, asksForHelp, fail, parseCommand, say } from './arguments.ts'
import { DEFAULT_DATA, dataFolder } from './backup.ts'
import type { BackupContent, BackupObject } from './backupFile.ts'
import { readBackup } from './backupStorage.ts'
import { CLUSTER_PLACE_USAGE, type ClusterSettings, clusterSettings, openCluster, placeFlags } from './clusterStore.ts'
import { haveBeenSeen, ownerOf, placeOf, planReferences, readHere, restoreReferences } from './restoreReferences.ts'

const SEEN_WITHIN_S = 10
const LOOK_MS = 200
const GATEWAY_NOTE = '# the operator makes those of its nodes: needed only where fields were set by hand\n'
// whoever comes to an address first claims its reference
const SHARED_NOTE = '# has no reference of its own: where it shares that of another, apply it when that one is Ready\n'

export const USAGE = `usage: ipref restore FILE [-dry-run] [-data FOLDER]
       ipref restore FILE [-dry-run] -kube|-kubeconfig FILE|-manifests FOLDER [-data FOLDER]
       ipref restore FILE -objects

  ipref restore FILE             the mappings, for the gateway on this host, which must not run
  ipref restore FILE -kube       the references of a cluster; with -data the mappings of a gateway too
  ipref restore FILE -objects    prints IprefPeers, IprefGateways and IprefServices, for kubectl apply -f -

  -wait SECONDS         for an operator to take note of references; default: ${SEEN_WITHIN_S}
  -dry-run              says what would be done, and does nothing
  -data FOLDER          where the gateway keeps its mappings; default: ${DEFAULT_DATA}
${CLUSTER_PLACE_USAGE}
  -manifests FOLDER     no cluster: the references kept below this folder

What is there already stays as it is. What contradicts it is named, and left out: the exit code is 1 then. Doing it again changes nothing.`

export async function runRestore(argv: readonly string[]): Promise<number> {
  if (asksForHelp(argv)) return say(USAGE)
  const args = parseCommand(argv, {
    text: ['data', 'wait', ...placeFlags.text],
    switches: ['dry-run', 'objects', ...placeFlags.switches],
  })
  if (typeof args === 'string') return fail('restore', args, 2)
  const [file] = args.rest
  if (file === undefined || args.rest.length > 1) return fail('restore', USAGE, 2)
  const wait = args.values.get('wait') ?? String(SEEN_WITHIN_S)
  if (!/^\d{1,5}$/.test(wait)) return fail('restore', `-wait ${wait}: no number of seconds`, 2)
  const settings = clusterSettings(args)
  if (settings && 'problem' in settings) return fail('restore', settings.problem, 2)
  try {
    const content = await readBackup(file)
    if (args.switches.has('objects')) return say(objectsText(content).trimEnd())
    return await restore(content, args, settings)
  } catch (error) {
    return fail('restore', (error as Error).message)
  }
}

async function restore(
  content: BackupContent,
  args: Arguments,
  settings: ClusterSettings | undefined,
): Promise<number> {
  const folder = dataFolder(args, settings)
  let conflicts = 0
  // first what can be refused as a whole
  if (folder !== undefined) conflicts += await restoreMappingsOf(content, folder, args)
  if (settings) conflicts += await restoreReferencesOf(content, args, settings)
  if (folder === undefined && content.mappings.length > 0)
    say(`left out: ${content.mappings.length} mappings of a gateway; -data FOLDER restores them`)
  if (!settings && content.references.length > 0)
    say(`left out: ${content.references.length} references; -kube or -manifests FOLDER restores them`)
  if (content.objects.length > 0) say(`left out: ${content.objects.length} objects; -objects prints them`)
  return conflicts === 0 ? 0 : 1
}

// ---- mappings

async function restoreMappingsOf({ mappings }: BackupContent, folder: string, args: Arguments): Promise<number> {
  const { restoreMappings } = await import('../gateway/mapper/savedMappings.ts')
  const isDryRun = args.switches.has('dry-run')
  const report = restoreMappings(folder, mappings, { now: Math.floor(Date.now() / 1000), isDryRun })
  for (const { backup, here } of report.conflicts) say(`conflict: ${backup} contradicts ${here}, which stays`)
  const parts = [
    `${report.restored} ${isDryRun ? 'to restore' : 'restored'}`,
    `${report.renewed} ${isDryRun ? 'to renew' : 'renewed'}`,
    ...[`${report.same} there already`, `${report.expired} expired`, `${report.conflicts.length} conflicts`],
  ]
  say(`mappings: ${parts.join(', ')}`)
  return report.conflicts.length
}

// ---- references

async function restoreReferencesOf(
  { references }: BackupContent,
  args: Arguments,
  settings: ClusterSettings,
): Promise<number> {
  const { store } = await openCluster(args, settings)
  try {
    if (args.switches.has('dry-run')) {
      const plan = planReferences(references, await readHere(store))
      for (const verdict of plan) {
        const text = referenceOf(verdict.claim)
        if (verdict.do === 'create') say(`would restore: ${text} for ${placeOf(verdict.claim)}`)
        else if (verdict.do === 'conflict') say(`conflict: ${text} ${verdict.why}`)
      }
      const count = (what: string) => plan.filter(verdict => verdict.do === what).length
      say(
        `references: ${count('create')} to restore, ${count('nothing')} there already, ${count('conflict')} conflicts`,
      )
      return count('conflict')
    }
    const { created, there, conflicts } = await restoreReferences(store, references)
    for (const { claim, why } of conflicts) say(`conflict: ${referenceOf(claim)} ${why}`)
    say(`references: ${created.length} restored, ${there} there already, ${conflicts.length} conflicts`)
    if (created.length > 0)
      say(await whoKnows(() => haveBeenSeen(store, created), Number(args.values.get('wait') ?? SEEN_WITHIN_S)))
    return conflicts.length
  } finally {
    await store.close()
  }
}

/** An IprefService that an operator sees before the claim on its reference is given another one. */
async function whoKnows(isSeen: () => Promise<boolean>, withinSeconds: number): Promise<string> {
  const deadline = Date.now() + withinSeconds * 1000
  while (!(await isSeen())) {
    if (Date.now() > deadline)
      return 'no operator has taken note of them yet: one that starts now will; do not create IprefServices under one that runs'
    await new Promise(resolve => setTimeout(resolve, LOOK_MS))
  }
  return 'the operator knows them, or their IprefServices are here: those that come now get their references'
}

// ---- objects

function objectsText({ objects, references }: BackupContent): string {
  const owners = new Set(references.map(ownerOf))
  const hasOwn = ({ metadata }: BackupObject) => owners.has(`${metadata.namespace}/${metadata.name}`)
  const note = (object: BackupObject) => {
    if (object.kind === 'IprefGateway') return GATEWAY_NOTE
    return object.kind === 'IprefService' && !hasOwn(object) ? SHARED_NOTE : ''
  }
  return objects.map(object => `---\n${note(object)}${writeYaml(withoutSlices(object))}`).join('')
}

/** The operator deals them anew: those of before may be of another gateway now. */
function withoutSlices(object: BackupObject): BackupObject {
  if (object.kind !== 'IprefGateway') return object
  const { slices: _dropped, ...spec } = object.spec as IprefGateway['spec']
  return { ...object, spec }
}

/** What the publisher says of one object, out of its state: conditions, and whether its records are gone. Decides nothing, changes nothing. */
import type { Config } from '../../resources/config.ts'
import type { IprefService } from '../../resources/kinds.ts'
import { keyOf } from '../byKey.ts'
import type { Finding } from '../conditions.ts'
import type { DesiredTable, OwnedSet } from './desired.ts'
import { conditionTypes, publishFinding } from './findings.ts'
import type { OutputState } from './output.ts'
import type { ReadBack } from './readBack.ts'
import {
  isAccepted,
  kindOfName,
  type ObjectRecords,
  type PublicGateway,
  recordsOnceOf,
  recordTypes,
  setKey,
  type ZoneKind,
  zoneKinds,
  zoneNameOf,
} from './records.ts'

export interface PublishState {
  config: Config
  table: DesiredTable
  gateways: readonly PublicGateway[]
  /** undefined: nothing is read back */
  readBack: ReadBack | undefined
  outputs: readonly OutputState[]
  recordsOf(key: string): ObjectRecords | undefined
  /** version of the desired records when the sets of an object changed last */
  changedAt(key: string): number
  /** its sets changed since we lead */
  isFresh(key: string): boolean
  /** false: it was looked for servers to ask, and there are none */
  hasServers(kind: ZoneKind): boolean
}

export function findingOf(kind: ZoneKind, object: IprefService, state: PublishState): Finding {
  const { config, table, readBack } = state
  const key = keyOf(object)
  const records = state.recordsOf(key)
  const sets = records?.[kind] ?? []
  const owners = sets.map(({ name }) => table.ownerOf(kind, name))
  const entries = sets.map(set => readBack?.get(kind, setKey(set)))
  const found = publishFinding({
    kind,
    zone: zoneNameOf(kind, config),
    isAccepted: isAccepted(object),
    hasMappings: (object.status?.mappings?.length ?? 0) > 0,
    hasPublicGateway: state.gateways.length > 0,
    sets: sets.length,
    takenBy: owners.find(owner => owner !== key),
    leftOut: kind === 'public' ? (records?.leftOut ?? 0) : 0,
    outputs: outputsOf(kind, state).map(({ name, problem, appliedVersion, conflicts }) => ({
      name,
      problem,
      isApplied: appliedVersion >= state.changedAt(key),
      conflict: sets.map(set => conflicts.get(`${kind} ${set.name}`)).find(one => one !== undefined),
    })),
    read:
      config.readBack.mode === 'Off'
        ? 'off'
        : {
            isRight: sets.length > 0 && entries.every(entry => entry?.state === 'right'),
            hasServers: state.hasServers(kind),
            isDrifted: entries.some(entry => entry?.wasRight === true && entry.state === 'wrong'),
            problem: entries.find(entry => entry?.state !== 'right')?.problem,
          },
  })
  return heldBack(kind, object, found, state) ?? found
}

/** Until something is known that was not, a new leader says what the one before it said: else each start would write every object twice. */
function heldBack(
  kind: ZoneKind,
  { metadata, status }: IprefService,
  { reason }: Finding,
  { readBack, recordsOf, isFresh }: PublishState,
): Finding | undefined {
  const key = keyOf({ metadata })
  if ((reason !== 'WaitingForDns' && reason !== 'WaitingForOutput') || isFresh(key)) return undefined
  const isAsked = recordsOf(key)?.[kind].some(set => (readBack?.get(kind, setKey(set))?.tries ?? 0) > 0)
  const last = status?.conditions?.find(({ type }) => type === conditionTypes[kind])
  if (isAsked || last?.status !== 'True' || last.observedGeneration !== metadata.generation) return undefined
  return { type: last.type, status: last.status, reason: last.reason, message: last.message }
}

/** Of an object whose records are not desired any more. */
export function isWithdrawn(object: IprefService, state: PublishState): boolean {
  const key = keyOf(object)
  const { table, config, gateways } = state
  if (zoneKinds.some(kind => (state.recordsOf(key)?.[kind].length ?? 0) > 0)) return false
  const once = recordsOnceOf(object, config, gateways)
  return zoneKinds.every(kind => {
    if (outputsOf(kind, state).length === 0 || once[kind].length === 0) return true
    if (!isApplied(kind, key, state)) return false
    return !canRead(kind, state) || once[kind].every(set => !table.former(kind, setKey(set)))
  })
}

/** No record of it is left under a name that it had. */
export function isNameGone(object: IprefService, name: string, state: PublishState): boolean {
  const kind = kindOfName(name, state.config)
  if (kind === undefined || outputsOf(kind, state).length === 0) return true
  const isFormer = recordTypes[kind].some(type => state.table.former(kind, setKey({ name, type })))
  return !isFormer && isApplied(kind, keyOf(object), state)
}

/** A set that is not desired any more: every output has taken it away, and who can be asked does not have it. */
export function isSetGone(kind: ZoneKind, former: OwnedSet, state: PublishState): boolean {
  if (!isApplied(kind, former.owner, state)) return false
  return !canRead(kind, state) || state.readBack!.get(kind, setKey(former))?.state === 'right'
}

/** Every output of the zone has what the object has now, or has not any more. */
export function isApplied(kind: ZoneKind, key: string, state: PublishState): boolean {
  const version = state.changedAt(key)
  return outputsOf(kind, state).every(({ appliedVersion }) => appliedVersion >= version)
}

export function canRead(kind: ZoneKind, { readBack, hasServers }: PublishState): boolean {
  return readBack !== undefined && hasServers(kind)
}

function outputsOf(kind: ZoneKind, { outputs }: PublishState): OutputState[] {
  return outputs.filter(({ zones }) => zones.includes(kind))
}

/**
 * What a gateway says of itself in the status of its IprefGateway, and when that is worth a write (decisions.md 19). Pure.
 *
 * No counters. `observedResourceVersion` moves only when the operator waits for it; round-trip times at most once a minute and by a fifth; when a
 * peer was heard last every five minutes, unless something else is written anyway.
 */
import { isDeepStrictEqual } from 'node:util'
import { formatWords } from '../../ipref/address.ts'
import type {
  Condition,
  IprefGateway,
  IprefGatewayStatus,
  PeerObservation,
  RefusedMapping,
} from '../../resources/kinds.ts'
import { compareVersions } from '../../resources/view.ts'
import { timestamp } from '../../runtime/clock.ts'
import type { PeerStatus } from '../peers/peers.ts'

const RTT_MS = 60_000
const RTT_SHARE = 0.2
const SEEN_MS = 300_000

export interface Observation {
  version: string
  nodeAddresses: string[]
  publicAddresses: string[]
  tunMtu: number | undefined
  offloads: string[]
  peers: Omit<PeerObservation, 'gateway'>[]
  /** why the gateway does not do its whole work; empty: it does */
  unready: readonly string[]
  /** why the node network is not as it should be; undefined: not looked after */
  nodeNetwork: readonly string[] | undefined
  /** why the gateway may not work as it is configured */
  refusal: { reason: string; message: string } | undefined
}

export function observationsOf(peers: readonly PeerStatus[], now: number): Observation['peers'] {
  return peers.flatMap(({ address, verified, configured, rttMs, mtu, lastSeenAgo }) =>
    configured
      ? [
          {
            address: formatWords(address),
            verified,
            pathMtu: mtu,
            ...(rttMs === undefined ? {} : { rttMilliseconds: Math.max(1, Math.round(rttMs)) }),
            ...(lastSeenAgo === undefined ? {} : { lastSeenTime: timestamp(now - lastSeenAgo * 1000) }),
          },
        ]
      : [],
  )
}

export interface ReportInput {
  object: IprefGateway
  observation: Observation
  refused: readonly RefusedMapping[]
  /** all IprefServices up to here are in force */
  inForce: string | undefined
  /** the latest version that the operator waits for */
  awaited: string | undefined
  now: number
  /** when the last report was written */
  reportedAt: number
}

/** The status to write; undefined: nothing that is worth it. */
export function reportOf(input: ReportInput): IprefGatewayStatus | undefined {
  const { object, observation, refused, now } = input
  const before = object.status
  const generation = object.metadata.generation ?? 0
  const status: IprefGatewayStatus = {
    observedGeneration: generation,
    conditions: conditionsOf(before?.conditions, observation, generation, now),
    version: observation.version,
    nodeAddresses: observation.nodeAddresses,
    publicAddresses: observation.publicAddresses,
    offloads: observation.offloads,
    peers: observation.peers,
    ...(observation.tunMtu === undefined ? {} : { tunMtu: observation.tunMtu }),
    ...(refused.length > 0 ? { refused: [...refused] } : {}),
    ...(input.inForce === undefined ? {} : { observedResourceVersion: input.inForce }),
  }
  if (!before) return status
  const isAwaited = isBehind(before.observedResourceVersion, input.awaited, input.inForce)
  const { peers: _peers, observedResourceVersion: _version, ...rest } = status
  const { peers: _before, observedResourceVersion: _old, ...restBefore } = before
  if (isAwaited || !isDeepStrictEqual(rest, restBefore)) return status
  return arePeersNews(before.peers ?? [], status.peers ?? [], now - input.reportedAt) ? status : undefined
}

function isBehind(reported: string | undefined, awaited: string | undefined, inForce: string | undefined): boolean {
  if (awaited === undefined || inForce === undefined) return false
  return (reported === undefined || compareVersions(reported, awaited) < 0) && inForce !== reported
}

type Peer = Omit<PeerObservation, 'gateway'>

function arePeersNews(before: readonly Peer[], now: readonly Peer[], sinceMs: number): boolean {
  if (before.length !== now.length) return true
  const known = new Map(before.map(peer => [peer.address, peer]))
  return now.some(peer => {
    const old = known.get(peer.address)
    if (!old || old.verified !== peer.verified || old.pathMtu !== peer.pathMtu) return true
    if (old.lastSeenTime !== peer.lastSeenTime && (sinceMs >= SEEN_MS || old.lastSeenTime === undefined)) return true
    return sinceMs >= RTT_MS && isOtherTime(old.rttMilliseconds, peer.rttMilliseconds)
  })
}

function isOtherTime(before: number | undefined, now: number | undefined): boolean {
  if (before === undefined || now === undefined) return before !== now
  return Math.abs(now - before) > Math.max(1, before * RTT_SHARE)
}

function conditionsOf(
  before: readonly Condition[] | undefined,
  { unready, nodeNetwork, refusal }: Observation,
  generation: number,
  now: number,
): Condition[] {
  const say = (type: string, reasons: readonly string[], good: string, bad: string) => ({
    type,
    status: reasons.length === 0 ? ('True' as const) : ('False' as const),
    reason: reasons.length === 0 ? good : bad,
    message: reasons.join('; '),
  })
  const found = [
    say('Accepted', refusal ? [refusal.message] : [], 'Accepted', refusal?.reason ?? 'Refused'),
    ...(nodeNetwork ? [say('NodeNetwork', nodeNetwork, 'InPlace', 'Disturbed')] : []),
    say('Ready', [...(refusal ? [refusal.message] : []), ...unready, ...(nodeNetwork ?? [])], 'Ready', 'NotReady'),
  ]
  return found.map(finding => {
    const old = before?.find(condition => condition.type === finding.type)
    const lastTransitionTime = old?.status === finding.status ? old.lastTransitionTime : timestamp(now)
    return { ...finding, lastTransitionTime, observedGeneration: generation }
  })
}

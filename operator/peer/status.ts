/** What is said of an IprefPeer: observations of the gateways, whether it is reached, and the status as a whole. Pure. */
import type { IprefGateway, IprefPeer, IprefPeerStatus, PeerObservation } from '../../resources/kinds.ts'
import { type Finding, summary, withFindings } from '../conditions.ts'
import type { PeerPlan } from './plan.ts'

/** The probe is not answered since then. */
const PATIENCE_PROBES = 4
/** Reports of when a peer was heard last come every few minutes. */
const LEAST_PATIENCE_MS = 600_000
/** A change of round-trip times that is none (decisions.md 19). */
const RTT_SHARE = 0.2
const RTT_EVERY_MS = 60_000
const SEEN_EVERY_MS = 300_000
/** As many as a status holds. */
const MOST_OBSERVATIONS = 1024

export interface PeerStatusInput {
  object: IprefPeer
  plan: PeerPlan
  /** gateways that are alive */
  gateways: readonly IprefGateway[]
  /** since the status was written last */
  sinceMs: number
  now: number
}

export function peerStatus(input: PeerStatusInput): IprefPeerStatus {
  const { object, plan, gateways, now } = input
  const { metadata, status } = object
  const seen = observationsOf(plan.addresses, gateways)
  const isAccepted = plan.findings[0]!.status === 'True'
  const found = [...plan.findings, isAccepted ? reachableOf(object, seen, now) : NOT_ACCEPTED]
  // a peer that nobody asks is not known to be reached, which is no fault of it
  found.push(summary(found.filter(({ reason }) => reason !== 'NotProbed')))
  const generation = metadata.generation ?? 0
  const observations = steady(seen.slice(0, MOST_OBSERVATIONS), input)
  return {
    observedGeneration: generation,
    conditions: withFindings(status?.conditions, found, { generation, now }),
    ...(plan.addresses.length > 0 ? { addresses: plan.addresses } : {}),
    ...(plan.hosts.length > 0 ? { hosts: plan.hosts } : {}),
    ...(plan.gateway === undefined ? {} : { gateway: plan.gateway }),
    ...(observations.length > 0 ? { observations } : {}),
  }
}

const NOT_ACCEPTED: Finding = {
  type: 'Reachable',
  status: 'Unknown',
  reason: 'NotAccepted',
  message: 'the object is not accepted',
}

// ---- observations

function observationsOf(addresses: readonly string[], gateways: readonly IprefGateway[]): PeerObservation[] {
  return gateways
    .flatMap(({ metadata, status }) =>
      (status?.peers ?? [])
        .filter(peer => addresses.includes(peer.address))
        .map(peer => ({ gateway: metadata.name, ...peer })),
    )
    .sort((a, b) => (keyOfRow(a) < keyOfRow(b) ? -1 : 1))
}

function keyOfRow({ gateway, address }: PeerObservation): string {
  return `${gateway} ${address}`
}

/** As written before, where nothing is new that is worth a write. */
function steady(now: PeerObservation[], { object, sinceMs }: PeerStatusInput): PeerObservation[] {
  const before = object.status?.observations ?? []
  if (now.length !== before.length) return now
  const known = new Map(before.map(row => [keyOfRow(row), row]))
  return now.some(row => isNews(row, known.get(keyOfRow(row)), sinceMs)) ? now : before
}

function isNews(row: PeerObservation, before: PeerObservation | undefined, sinceMs: number): boolean {
  if (!before || row.verified !== before.verified || row.pathMtu !== before.pathMtu) return true
  const [rtt, old] = [row.rttMilliseconds, before.rttMilliseconds]
  if (rtt === undefined || old === undefined ? rtt !== old : false) return true
  if (sinceMs >= RTT_EVERY_MS && Math.abs((rtt ?? 0) - (old ?? 0)) > Math.max(1, (old ?? 0) * RTT_SHARE)) return true
  if (row.lastSeenTime === before.lastSeenTime) return false
  return before.lastSeenTime === undefined || sinceMs >= SEEN_EVERY_MS
}

// ---- is it there?

function reachableOf({ spec }: IprefPeer, observations: readonly PeerObservation[], now: number): Finding {
  const { mode = 'Enabled', intervalSeconds = 25 } = spec.probe ?? {}
  const say = (status: Finding['status'], reason: string, message = ''): Finding => ({
    type: 'Reachable',
    status,
    reason,
    message,
  })
  const patienceMs = Math.max(LEAST_PATIENCE_MS, PATIENCE_PROBES * intervalSeconds * 1000)
  const isFresh = ({ verified, lastSeenTime }: PeerObservation) =>
    verified && lastSeenTime !== undefined && now - Date.parse(lastSeenTime) < patienceMs
  if (observations.some(isFresh)) return say('True', 'Reachable')
  if (mode === 'Disabled') return say('Unknown', 'NotProbed', 'probing is disabled, and nothing was heard lately')
  if (observations.length === 0) return say('Unknown', 'NotObserved', 'no gateway reports it yet')
  const message = observations.some(one => one.lastSeenTime !== undefined)
    ? 'it was heard of once, and does not answer any more'
    : `it does not answer: is UDP port ${spec.gateway.port ?? 1045} open on both sides, and does that network know ours?`
  return say('False', 'NoAnswer', message)
}

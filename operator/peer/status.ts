/** What is said of an IprefPeer: observations of the gateways, whether it is reached, and the status as a whole. Pure. */
import type { IprefGateway, IprefPeer, IprefPeerStatus, PeerObservation } from '../../resources/kinds.ts'
import { type Finding, summary, withFindings } from '../conditions.ts'
import type { PeerPlan } from './plan.ts'

/** The probe is not answered since then. */
const PATIENCE_PROBES = 4

export interface PeerStatusInput {
  object: IprefPeer
  plan: PeerPlan
  addresses: readonly string[]
  /** gateways that are alive */
  gateways: readonly IprefGateway[]
  now: number
}

export function peerStatus({ object, plan, addresses, gateways, now }: PeerStatusInput): IprefPeerStatus {
  const { metadata, status } = object
  const observations = observationsOf(addresses, gateways)
  const isAccepted = plan.findings[0]!.status === 'True'
  const reachable = isAccepted ? reachableOf(object, observations, now) : undefined
  const found = [...plan.findings, ...(reachable ? [reachable] : [])]
  // a peer that nobody asks is not known to be reached, which is no fault of it
  found.push(summary(found.filter(({ reason }) => reason !== 'NotProbed')))
  const generation = metadata.generation ?? 0
  return {
    observedGeneration: generation,
    conditions: withFindings(status?.conditions, found, { generation, now }),
    ...(addresses.length > 0 ? { addresses: [...addresses] } : {}),
    ...(plan.hosts.length > 0 ? { hosts: plan.hosts } : {}),
    ...(plan.gateway === undefined ? {} : { gateway: plan.gateway }),
    ...(observations.length > 0 ? { observations } : {}),
  }
}

function observationsOf(addresses: readonly string[], gateways: readonly IprefGateway[]): PeerObservation[] {
  return gateways
    .flatMap(({ metadata, status }) =>
      (status?.peers ?? [])
        .filter(peer => addresses.includes(peer.address))
        .map(peer => ({ gateway: metadata.name, ...peer })),
    )
    .sort((a, b) => (`${a.gateway} ${a.address}` < `${b.gateway} ${b.address}` ? -1 : 1))
}

function reachableOf({ spec }: IprefPeer, observations: readonly PeerObservation[], now: number): Finding {
  const { mode = 'Enabled', intervalSeconds = 25 } = spec.probe ?? {}
  const say = (status: Finding['status'], reason: string, message = ''): Finding => ({
    type: 'Reachable',
    status,
    reason,
    message,
  })
  // reports of when a peer was heard last come every few minutes
  const patienceMs = Math.max(600_000, PATIENCE_PROBES * intervalSeconds * 1000)
  const isFresh = ({ verified, lastSeenTime }: PeerObservation) =>
    verified && lastSeenTime !== undefined && now - Date.parse(lastSeenTime) < patienceMs
  if (observations.some(isFresh)) return say('True', 'Reachable')
  if (mode === 'Disabled') return say('Unknown', 'NotProbed', 'probing is disabled, and nothing was heard lately')
  if (observations.length === 0) return say('Unknown', 'NotObserved', 'no gateway reports it yet')
  const message = observations.some(one => one.lastSeenTime !== undefined)
    ? 'it was heard of once, and does not answer any more'
    : 'it does not answer: is UDP port 1045 open on both sides, and does that network know ours?'
  return say('False', 'NoAnswer', message)
}

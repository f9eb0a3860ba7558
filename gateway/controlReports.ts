/** What the control sockets of gateway and resolver answer: read by `ipref status`, `ipref trace` and `ipref check`. Types only. */
import type { Step } from '../runtime/steps.ts'
import type { MappingRow } from './mapper/mapper.ts'

export interface DirectionReport {
  packetsIn: number
  bytesIn: number
  packetsOut: number
  bytesOut: number
  forwarded: number
  waiting: number
  held: number
  answered: number
  /** packets refused, by reason */
  refused: Record<string, number>
}

export interface PeerReport {
  address: string
  port: number
  verified: boolean
  configured: boolean
  mappings: number
  mtu: number
  rttMs: number | null
  lastSeenSecondsAgo: number | null
  bytesIn: number
  bytesOut: number
  packetsIn: number
  packetsOut: number
}

export interface StatusReport {
  version: string
  uptimeSeconds: number
  tun: { name: string; mtu: number } | null
  encodingNetworks: string[]
  contexts: string[]
  listening: string[]
  workers: { role: string; running: boolean; restarts: number }[]
  offloads: Record<string, boolean>
  mappings: { counts: Record<string, number>; capacity: number; rows: MappingRow[]; truncated: boolean }
  peers: PeerReport[]
  /** single uplink: who is active; null: each gateway carries its own */
  uplink: string | null
  traffic: { encap: DirectionReport; decap: DirectionReport } | null
  /** what keeps the gateway from its work, and assertions that are not in force */
  problems: string[]
}

/** What was asked for: an address, or a name. */
export interface TraceReport {
  address?: string
  name?: string
  /** in order; none: it is neither an address nor a name */
  steps: Step[]
  /** what the resolver would answer, or the address itself */
  addresses: string[]
  /** the first thing that is wrong, or what becomes of a packet; lines of text */
  verdict: string
  /** the process that was asked has no resolver: another may */
  lacksResolver?: true
}

/** What was tried: of hosts, of a peer, of the node. */
export interface CheckReport {
  /** of the node, of peers, of the way between gateways */
  steps: Step[]
  /** behind the far gateways, by encoded address */
  hosts: { address: string; steps: Step[] }[]
  /** of hosts: addresses of the gateway's own host that its connections to them may come from */
  sources: string[]
}

/** Encoded addresses of a host that is named by context and reference; or why there is none. */
export type EncodeReport = { addresses: string[] } | { refused: string }

/**
 * What the main thread and the packet workers say to each other.
 *
 *   main ──workerData──► worker        everything it needs, once (WorkerSetup)
 *   worker ──miss ring──► main         packets that need a mapping; what was seen of peers      (MissKind)
 *   main ──return ring──► worker       the same packets, after the mapping was made
 *   main ──control words──► worker     stop, new settings; the eventfd wakes the worker
 *   worker ──message──► main           'ready', 'ring' (drain the miss ring), 'offload-off'; never one for each packet
 */
import type { ForwardSettings } from '../forward/environment.ts'

export type WorkerRole = 'encap' | 'decap'

/** Int32 words that each message of a ring carries. */
export const RING_WORDS = 16

export const MissKind = {
  /** [0..3] native address · [8] gsoType · [9] gsoSize · [10] needsChecksum; the packet as the TUN device gave it */
  native: 1,
  /** [0..3] context · [4..7] reference · [8] family · [9] source port · [10] tos · [11..14] source address; the datagram */
  remote: 2,
  /** [0] peer number · [1] port; no packet */
  candidate: 3,
  /** [9] source port · [11..14] source address; packet = the 16 bytes of the nonce */
  probeAnswer: 4,
  /** [0] peer number; the kernel said EMSGSIZE for a datagram of [1] bytes (UDP payload) */
  tooBig: 5,
  /** [0] source port · [1] bytes · [2] packets · [11..14] source address: valid datagrams from nobody we know */
  stranger: 6,
  /** [0] MTU of the path · [11..14] address of the peer: a router on the way said so */
  pathMtu: 7,
} as const

/** Control words of one worker. */
export const Control = { stop: 0, settings: 1 } as const
export const CONTROL_WORDS = 16

export interface Offloads {
  /** TUN: vnet header with checksum and TCP segmentation offload (super-packets both ways) */
  tunTso4: boolean
  tunTso6: boolean
  /** the same for UDP (Linux 6.2) */
  tunUso4: boolean
  tunUso6: boolean
  /** UDP_SEGMENT on sending, UDP_GRO on receiving */
  udpSegment: boolean
  udpGro: boolean
}

export interface TunnelSocket {
  family: 4 | 6
  fd: number
}

export interface WorkerSetup {
  role: WorkerRole
  tunFd: number
  sockets: TunnelSocket[]
  wakeFd: number
  settings: ForwardSettings
  offloads: Offloads
  mappings: SharedArrayBuffer[]
  peers: { buffer: SharedArrayBuffer; capacity: number }
  policy: SharedArrayBuffer
  missRing: SharedArrayBuffer
  returnRing: SharedArrayBuffer
  stats: SharedArrayBuffer
  control: SharedArrayBuffer
}

export type WorkerMessage =
  | { what: 'ready' }
  | { what: 'ring' }
  | { what: 'offload-off'; offload: keyof Offloads; errno: number }

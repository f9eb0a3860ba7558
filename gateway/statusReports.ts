/** Parts of what `ipref status` shows, made from counters that exist anyway. Pure. */
import { formatWords } from '../ipref/address.ts'
import { faultNames } from '../ipref/faults.ts'
import type { DirectionReport, PeerReport } from './controlReports.ts'
import type { PeerStatus } from './peers/peers.ts'
import type { WorkerStats } from './plane/stats.ts'

/** `late`: packets refused after they had waited for a mapping, by fault. */
export function directionReport(stats: WorkerStats, late: Float64Array): DirectionReport {
  const refused: Record<string, number> = {}
  let [answered, missed] = [0, 0]
  for (const [fault, name] of faultNames.entries()) {
    const dropped = stats.droppedBy(fault) + late[fault]!
    missed += late[fault]!
    if (dropped > 0) refused[name] = dropped
    answered += stats.answeredBy(fault)
  }
  return {
    packetsIn: stats.get('packetsIn'),
    bytesIn: stats.get('bytesIn'),
    packetsOut: stats.get('packetsOut'),
    bytesOut: stats.get('bytesOut'),
    forwarded: stats.get('forwarded'),
    held: stats.get('held'),
    waiting: stats.get('missed') - missed,
    answered,
    refused,
  }
}

export function peerReport({ lastSeenAgo, rttMs, address, ...rest }: PeerStatus): PeerReport {
  return { ...rest, address: formatWords(address), rttMs: rttMs ?? null, lastSeenSecondsAgo: lastSeenAgo ?? null }
}

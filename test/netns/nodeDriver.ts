/**
 * The network of one node, as a program for tests: `nodeDriver.ts WANTED REPORT`.
 *
 * Puts in force what the file WANTED (JSON) says whenever it changes, checks in between, and writes what came of it to REPORT: the version of
 * WANTED, how often it was looked at since, the last report, and all changes made since the start.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { NodeNetwork, type NodeNetworkReport } from '../../gateway/kube/nodeNetwork.ts'
import type { NodeNetworkWanted } from '../../gateway/kube/nodeTypes.ts'

export interface DriverOrder {
  version: number
  wanted: NodeNetworkWanted
}

export interface DriverReport extends NodeNetworkReport {
  version: number
  allChanges: string[]
}

const EVERY_MS = 250

async function main(wantedFile: string, reportFile: string): Promise<never> {
  const network = new NodeNetwork({ surveyEveryMs: 1000 })
  const allChanges: string[] = []
  let version = -1
  for (;;) {
    const order = JSON.parse(readFileSync(wantedFile, 'utf8')) as DriverOrder
    const report = order.version === version ? await network.check() : await network.apply(order.wanted)
    version = order.version
    allChanges.push(...report.changes)
    writeFileSync(`${reportFile}.new`, JSON.stringify({ ...report, version, allChanges } satisfies DriverReport))
    renameSync(`${reportFile}.new`, reportFile)
    await new Promise(resolve => setTimeout(resolve, EVERY_MS))
  }
}

if (import.meta.main) await main(process.argv[2]!, process.argv[3]!)

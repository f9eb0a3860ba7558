/** `ipref ref TEXT…`: what a reference, a prefix, an IPREF address or an AA record means, and how it is written. */

import { parseAaRecord } from '../ipref/aaRecord.ts'
import { formatAddress } from '../ipref/address.ts'
import { formatIprefAddress, parseIprefAddress } from '../ipref/iprefAddress.ts'
import { isStaticReference } from '../ipref/lifetimes.ts'
import {
  encodeReferences,
  formatReference,
  formatReferencePrefix,
  parseReference,
  parseReferencePrefix,
} from '../ipref/reference.ts'
import { fail } from './arguments.ts'

const USAGE = `usage: ipref ref TEXT…

  ipref ref 2466              a reference in decimal, or 0-9a2, 8000--1
  ipref ref 8000--/1          a prefix of references
  ipref ref '198.51.100.1 + 11'
  ipref ref 'AA gw.example.com + 11'`

export function runRef(argv: readonly string[]): number {
  if (argv.length === 0) return fail('ref', USAGE.slice('usage: '.length), 2)
  let code = 0
  for (const text of argv) {
    const meaning = meaningOf(text)
    if (meaning === undefined) code = fail('ref', `${text}: no reference, prefix, IPREF address or AA record`)
    else process.stdout.write(`${meaning}\n`)
  }
  return code
}

function meaningOf(text: string): string | undefined {
  const aa = parseAaRecord(text)
  if (typeof aa === 'string') return undefined
  if (aa)
    return `AA record: ${'name' in aa ? `${aa.name} (a name, to be resolved)` : formatAddress(aa.context)} + ${describe(aa.reference)}`
  const prefix = parseReferencePrefix(text)
  if (prefix)
    return `prefix ${formatReferencePrefix(prefix)}: references of which the top ${prefix.bits} bits are those of ${formatReference(prefix.value)}`
  const address = parseIprefAddress(text)
  if (address) return `IPREF address ${formatIprefAddress(address)}: ${describe(address.reference)}`
  const reference = parseReference(text)
  return reference === undefined ? undefined : `reference ${describe(reference)}`
}

function describe(reference: bigint): string {
  const { length } = encodeReferences(reference, 0n)
  const kind =
    reference === 0n
      ? 'no reference'
      : reference === 1n
        ? 'by convention the gateway itself'
        : isStaticReference(reference)
          ? 'may be static'
          : 'for dynamic mappings only'
  return `${formatReference(reference)} (decimal ${reference}, hex 0x${reference.toString(16)}; ${length} bytes in a packet; ${kind})`
}

/** `ipref ref TEXT…`: what a reference, a prefix, an IPREF address or an AA record means, and how it is written. */

import { type AaJudgement, judgeString } from '../dns/aaText.ts'
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
import { asksForHelp, fail, say } from './arguments.ts'

export const USAGE = `usage: ipref ref TEXT…

  ipref ref 2466                       a reference, in decimal or in groups (0-9a2, 8000--1)
  ipref ref 8000--/1                   a prefix of references
  ipref ref '198.51.100.1 + 11'        an IPREF address
  ipref ref 'AA gw.example.com + 11'   an AA record, and what is wrong with it

Says what each text means, and how it is written. Exit code 1: one of them means nothing.`

export function runRef(argv: readonly string[]): number {
  if (asksForHelp(argv)) return say(USAGE)
  if (argv.length === 0) return fail('ref', USAGE, 2)
  let code = 0
  for (const text of argv) {
    const meaning = meaningOf(text)
    if (meaning === undefined) code = fail('ref', `${text}: no reference, prefix, IPREF address or AA record`)
    else if ('wrong' in meaning) code = fail('ref', meaning.wrong)
    else say(meaning.right)
  }
  return code
}

type Meaning = { right: string } | { wrong: string } | undefined

function meaningOf(text: string): Meaning {
  const aa = /^\s*"?aa/i.test(text) ? judgeString(text) : undefined
  if (aa) return meaningOfAa(aa)
  const prefix = parseReferencePrefix(text)
  if (prefix) {
    const top = `references of which the top ${prefix.bits} bits are those of ${formatReference(prefix.value)}`
    return { right: `prefix ${formatReferencePrefix(prefix)}: ${top}` }
  }
  const address = parseIprefAddress(text)
  if (address) return { right: `IPREF address ${formatIprefAddress(address)}: ${describe(address.reference)}` }
  const reference = parseReference(text)
  return reference === undefined ? undefined : { right: `reference ${describe(reference)}` }
}

function meaningOfAa({ record, findings }: AaJudgement): Meaning {
  const told = findings.map(({ what, right }) => `${what}; right would be ${right}`)
  if (!record || findings.some(({ severity }) => severity === 'error')) return { wrong: told.join('; ') }
  const where = 'name' in record ? `${record.name} (a name, to be resolved)` : formatAddress(record.context)
  const warnings = told.map(text => `\n  but ${text}`).join('')
  return { right: `AA record: ${where} + ${describe(record.reference)}${warnings}` }
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

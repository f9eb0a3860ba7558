/** Drives references, prefixes, IPREF addresses and hosts files with the vectors of refs.json. */
import { formatAddress } from '../../ipref/address.ts'
import { parseHostsFile } from '../../ipref/hostsFile.ts'
import { formatIprefAddress, parseIprefAddress } from '../../ipref/iprefAddress.ts'
import {
  decodeReference,
  encodeReferences,
  formatPrefixValue,
  formatReference,
  formatReferencePrefix,
  parseReference,
  parseReferencePrefix,
} from '../../ipref/reference.ts'
import { hex, type Outcome, unhex, type Vector } from './vectors.ts'

const rejected = { outcome: 'rejected' }
const text16 = (value: bigint) => value.toString(16).padStart(32, '0')

function result(vector: Vector): Record<string, unknown> {
  const { input } = vector
  switch (vector.class) {
    case 'text': {
      const value = parseReference(input.text)
      return value === undefined
        ? rejected
        : { outcome: 'accepted', value: text16(value), printed: formatReference(value) }
    }
    case 'prefix': {
      const prefix = parseReferencePrefix(input.text)
      if (!prefix) return rejected
      return {
        outcome: 'accepted',
        value: text16(prefix.value),
        printed: formatReferencePrefix(prefix),
        bits: prefix.bits,
      }
    }
    case 'print': {
      const value = BigInt(`0x${input.value}`)
      return { outcome: 'accepted', printed: formatReference(value), printed_in_prefix: formatPrefixValue(value) }
    }
    case 'encode': {
      const e = encodeReferences(BigInt(`0x${input.source_value}`), BigInt(`0x${input.destination_value}`))
      return {
        outcome: 'accepted',
        length: e.length,
        code: e.code,
        source: hex(e.source),
        destination: hex(e.destination),
      }
    }
    case 'decode':
      return { outcome: 'accepted', value: text16(decodeReference(unhex(input.bytes))) }
    case 'address-text': {
      const address = parseIprefAddress(input.text)
      if (!address) return rejected
      return {
        outcome: 'accepted',
        value: text16(address.reference),
        printed: formatIprefAddress(address),
        address: formatAddress(address.context),
      }
    }
    default:
      return hostsResult(input.text)
  }
}

function hostsResult(text: string): Record<string, unknown> {
  const { records, errors } = parseHostsFile(text)
  const shown = records.map(r => ({
    address: formatAddress(r.address),
    kind: r.kind,
    context: r.context ? formatAddress(r.context) : null,
    value: text16(r.reference),
  }))
  return { outcome: 'accepted', records: shown, errors: errors.length }
}

const GATEWAY = '198.51.100.1'

export function runRefsVector(vector: Vector): Outcome {
  const expected = vector.do_better && vector.better ? vector.better : vector.expect
  const seen = result(vector)
  for (const [key, wanted] of Object.entries(expected)) {
    if (key === 'note') continue
    // null and the gateway's own address are the same context
    const plain = (value: unknown) => JSON.stringify(value)?.replaceAll(`"${GATEWAY}"`, 'null')
    if (plain(seen[key]) !== plain(wanted)) {
      return { vector, kind: 'failed', why: `${key}: ${JSON.stringify(seen[key])}, expected ${JSON.stringify(wanted)}` }
    }
  }
  return { vector, kind: 'passed' }
}

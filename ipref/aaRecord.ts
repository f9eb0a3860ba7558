/**
 * AA records: one string of a TXT record, `AA <address-or-name> + <reference>` (wire.md section 1, AA records).
 */
import { parseAddress } from './address.ts'
import { parseReference } from './reference.ts'

export type AaRecord = { context: Uint8Array; reference: bigint } | { name: string; reference: bigint }
export type AaFault = 'no_plus' | 'several_plus' | 'context_invalid' | 'reference_invalid'

const NAME =
  /^(?=.{1,254}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$/

/** undefined: the string is not meant as one. */
export function parseAaRecord(text: string): AaRecord | AaFault | undefined {
  if (!text.startsWith('AA ')) return undefined
  const parts = text.slice(3).split('+')
  if (parts.length === 1) return 'no_plus'
  if (parts.length > 2) return 'several_plus'
  const reference = parseReference(parts[1]!.trim())
  if (reference === undefined) return 'reference_invalid'
  const where = parts[0]!.trim()
  const context = parseAddress(where)
  if (context) return { context, reference }
  return NAME.test(where) && !/^[\d.]+$/.test(where) ? { name: where, reference } : 'context_invalid'
}

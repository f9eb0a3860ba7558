/** IPREF addresses as text: `198.51.100.1 + 11`, white space around the plus optional (wire.md section 1). */
import { formatAddress, parseAddress } from './address.ts'
import { formatReference, parseReference } from './reference.ts'

export interface IprefAddress {
  context: Uint8Array
  reference: bigint
}

export function parseIprefAddress(text: string): IprefAddress | undefined {
  const parts = text.split('+')
  if (parts.length !== 2) return undefined
  const context = parseAddress(parts[0]!.trim())
  const reference = parseReference(parts[1]!.trim())
  return context && reference !== undefined ? { context, reference } : undefined
}

export function formatIprefAddress(address: IprefAddress): string {
  return `${formatAddress(address.context)} + ${formatReference(address.reference)}`
}

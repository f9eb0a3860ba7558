/** An IprefReference is named by the reference that it claims, in hexadecimal: the name of one, and the reference of one. Pure. */
import { formatReference } from '../ipref/reference.ts'
import type { IprefReference } from './kinds.ts'

export function nameOfClaim(reference: bigint): string {
  return reference.toString(16)
}

export function referenceOf(claim: IprefReference): string {
  return formatReference(BigInt(`0x${claim.metadata.name}`))
}

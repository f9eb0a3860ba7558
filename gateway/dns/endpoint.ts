/** Where something listens, or is asked: an address with a port, as people write it. */
import { parseAddress } from '../../ipref/address.ts'

export interface Endpoint {
  address: Uint8Array
  port: number
}

/** ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT. */
export function parseEndpoint(text: string, standardPort: number): Endpoint | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+))(?::(\d+))?$/.exec(text)
  const address = parseAddress(match?.[1] ?? match?.[2] ?? text)
  const port = match?.[3] === undefined ? standardPort : Number(match[3])
  return address && port <= 65535 ? { address, port } : undefined
}

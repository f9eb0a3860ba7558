/** Servers as the configuration names them: ADDRESS, ADDRESS:PORT, [ADDRESS]:PORT. Pure. */
import { formatHostPort } from '../../ipref/address.ts'

export interface Server {
  host: string
  port: number
  /** the name server of which this is one address, where it has several */
  name?: string
}

/** The text was checked by the configuration. */
export function serverOf(text: string, standardPort = 53): Server {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d+)$/.exec(text)
  return match
    ? { host: match[1] ?? match[2]!, port: Number(match[3]) }
    : { host: text.replace(/[[\]]/g, ''), port: standardPort }
}

export function showServer({ host, port }: Server): string {
  return formatHostPort(host, port)
}

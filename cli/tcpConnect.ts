/** TCP connections for `ipref check`: is there somebody at this port, and what does the silence or the refusal mean? */
import { connect, isIPv6 } from 'node:net'
import { roundMs, type Step } from '../runtime/steps.ts'

const PATIENCE_MS = 4000

export type Connected = { ms: number } | { failed: string }

/** `from`: address of this host; what goes out by the tunnel needs one that answers come back to. */
export function connectTo(to: { address: string; port: number; from: string | undefined }): Promise<Connected> {
  const begun = performance.now()
  const { address: host, port, from } = to
  return new Promise(resolve => {
    const end = (result: Connected) => {
      socket.destroy()
      resolve(result)
    }
    const socket = connect({ host, port, ...(from === undefined ? {} : { localAddress: from }) })
    socket.setTimeout(PATIENCE_MS, () => end({ failed: 'ETIMEDOUT' }))
    socket.on('connect', () => end({ ms: roundMs(performance.now() - begun) }))
    socket.on('error', (error: NodeJS.ErrnoException) => end({ failed: error.code ?? error.message }))
  })
}

export function stepOfConnection(to: { address: string; port: number }, result: Connected): Step {
  const what = `TCP ${to.port}`
  if ('ms' in result) return { what, ok: true, detail: `${to.address} accepts connections`, ms: result.ms }
  const told = meaningOf(result.failed, to.port)
  return { what, ok: false, detail: `${to.address}: ${told.what}`, fix: told.fix }
}

function meaningOf(failed: string, port: number): { what: string; fix: string } {
  if (failed === 'ECONNREFUSED')
    return { what: 'refused: nothing listens at that port', fix: `start what shall listen at TCP port ${port} there` }
  if (failed === 'ETIMEDOUT')
    return {
      what: 'no answer',
      fix: `where the ping is answered, a firewall there drops TCP port ${port}, or it is not among the published ports (spec.ports)`,
    }
  if (failed === 'EHOSTUNREACH' || failed === 'ENETUNREACH')
    return { what: `not reachable (${failed})`, fix: 'look at the routes here, and whether the host there runs' }
  if (failed === 'ECONNRESET')
    return { what: 'the connection is reset at once', fix: `look at what listens at TCP port ${port} there` }
  return { what: failed, fix: 'look at the routes of this host' }
}

/** The source for a destination. `lacking`: connections from here would get no answers. */
export function sourceFor(address: string, sources: readonly string[]): string | undefined {
  return sources.find(source => isIPv6(source) === isIPv6(address))
}

/** `80,443` → numbers; undefined: it is no list of ports. */
export function parsePorts(text: string): number[] | undefined {
  const ports = text.split(',').map(part => (/^\d{1,5}$/.test(part) ? Number(part) : 0))
  return ports.every(port => port > 0 && port <= 65535) ? [...new Set(ports)] : undefined
}

/** Addresses of a name, as the resolvers of this host know them: both families, with the least TTL. */
import { Resolver } from 'node:dns/promises'
import type { Answer } from './resolved.ts'

const TIMEOUT_MS = 3000
const TRIES = 2
/** There is no such name, or no record of that type. */
const NOTHING = new Set(['ENODATA', 'ENOTFOUND'])

export function systemResolve(servers?: readonly string[]): (name: string) => Promise<Answer> {
  const resolver = new Resolver({ timeout: TIMEOUT_MS, tries: TRIES })
  if (servers && servers.length > 0) resolver.setServers([...servers])
  return async name => {
    const found = await Promise.allSettled([
      resolver.resolve4(name, { ttl: true }),
      resolver.resolve6(name, { ttl: true }),
    ])
    const records = found.flatMap(one => (one.status === 'fulfilled' ? one.value : []))
    const failure = found.find(one => one.status === 'rejected' && !NOTHING.has((one.reason as { code: string }).code))
    // one family that cannot be asked for is no reason to leave what the other has
    if (records.length === 0 && failure?.status === 'rejected')
      return { failed: `the resolvers of this host say ${(failure.reason as { code: string }).code}` }
    const ttlSeconds = Math.min(...records.map(record => record.ttl), 300)
    return { addresses: [...new Set(records.map(record => record.address))], ttlSeconds }
  }
}

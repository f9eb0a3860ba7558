/** What external-dns does with DNSEndpoint objects, as a program of its own packages, and its CRD (test/cluster/external-dns); nothing is built here. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'

const SCRIPT = join(import.meta.dirname, '../cluster/external-dns')

export function externalDns(): { program: string; crd: string } | { missing: string } {
  const env = { ...process.env, IPREF_NO_BUILD: '1', IPREF_NO_INSTALL: '1' }
  const { status, stdout, stderr } = spawnSync('bash', [SCRIPT], { env, encoding: 'utf8' })
  const folder = stdout.trim()
  if (status === 0) return { program: join(folder, 'external-dns-apply'), crd: join(folder, 'dnsendpoints.yaml') }
  const last = stderr.trim().split('\n').at(-1) ?? ''
  return { missing: `${last.replace(/^\S* ?error: /, '')}; npm run setup:cluster sees to it` }
}

/** `npm test` where KUBECONFIG is set: a cluster that somebody else may work with is not touched unasked. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { writeYaml } from '../../runtime/yaml.ts'
import { ALLOW, refusalOfGiven } from '../support/givenServer.ts'

const folder = mkdtempSync(join(tmpdir(), 'ipref-given-'))
const file = join(folder, 'kubeconfig')
afterAll(() => rmSync(folder, { recursive: true }))

const other = { name: 'other', cluster: { server: 'https://127.0.0.1:1' } }

function refusal(server: string, env: NodeJS.ProcessEnv = {}): string | undefined {
  const config = {
    'current-context': 'now',
    contexts: [
      { name: 'before', context: { cluster: 'other' } },
      { name: 'now', context: { cluster: 'this' } },
    ],
    clusters: [other, { name: 'this', cluster: { server } }],
  }
  writeFileSync(file, writeYaml(config))
  return refusalOfGiven(file, env)
}

describe('a server of KUBECONFIG', () => {
  it.each(['https://127.0.0.1:6443', 'https://127.9.9.9', 'https://localhost:6443', 'https://[::1]:6443'])(
    'at %s is used',
    server => expect(refusal(server)).toBeUndefined(),
  )

  it.each([
    'https://192.0.2.1:6443',
    'https://[2001:db8::1]',
    'https://api.example.com',
    'https://127.0.0.1.example.com',
  ])('at %s is not, unless that is allowed', server => {
    expect(refusal(server)).toMatch(/is not on this machine.*IPREF_TEST_KUBECONFIG_OK=1 allows it/)
    expect(refusal(server, { [ALLOW]: '1' })).toBeUndefined()
  })

  it('that nobody can tell is not', () => {
    expect(refusal('not an address')).toMatch(/KUBECONFIG: /)
    writeFileSync(file, 'clusters: [')
    expect(refusalOfGiven(file, {})).toMatch(/KUBECONFIG: /)
    writeFileSync(file, '{}')
    expect(refusalOfGiven(file, {})).toContain('names no server')
    expect(refusalOfGiven(join(folder, 'none'), {})).toMatch(/KUBECONFIG: /)
  })
})

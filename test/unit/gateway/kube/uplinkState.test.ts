/** Who holds the uplink: the Lease, what its holder says, and what a restart remembers. */
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { UplinkState } from '../../../../gateway/kube/uplinkState.ts'
import type { Lease } from '../../../../resources/kinds.ts'

let folder: string
let file: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ipref-state-'))
  file = join(folder, 'uplink.json')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const lease = (holderIdentity: string, leaseTransitions: number): Lease => ({
  apiVersion: 'coordination.k8s.io/v1',
  kind: 'Lease',
  metadata: { name: 'ipref-uplink' },
  spec: { holderIdentity, leaseTransitions },
})

describe('the holder', () => {
  it('is whom the Lease names, also when nobody renews it, and the last one when it was given back', () => {
    const state = new UplinkState(file)
    expect([state.holder, state.see(lease('a', 0)), state.see(lease('a', 0))]).toEqual([undefined, true, false])
    expect([state.see(lease('', 0)), state.holder?.name]).toEqual([false, 'a'])
    expect([state.see(lease('b', 1)), state.holder]).toEqual([true, { name: 'b', transitions: 1 }])
  })

  it('is not whom a watch names that lags behind', () => {
    const state = new UplinkState(file)
    state.see(lease('b', 4))
    expect([state.see(lease('a', 3)), state.holder?.name]).toEqual([false, 'b'])
    // a Lease that was deleted begins anew
    state.see(undefined)
    expect([state.holder?.name, state.see(lease('a', 0))]).toEqual(['b', true])
  })

  it('is who says so with a later claim, until the Lease moves', () => {
    const state = new UplinkState(file)
    state.see(lease('a', 3))
    expect([state.tell({ name: 'c', transitions: 3 }), state.holder?.name]).toEqual([false, 'a'])
    expect([state.tell({ name: 'b', transitions: 4 }), state.see(lease('a', 3)), state.holder?.name]).toEqual([
      true,
      false,
      'b',
    ])
    expect([state.see(lease('d', 5)), state.holder?.name]).toEqual([true, 'd'])
  })

  it('is known after a restart without the cluster, and so is the key', () => {
    const state = new UplinkState(file)
    state.see(lease('a', 3))
    state.setKey(new Uint8Array([1, 2, 3]))
    const again = new UplinkState(file)
    expect([again.holder, again.key]).toEqual([{ name: 'a', transitions: 3 }, new Uint8Array([1, 2, 3])])
    expect(statSync(file).mode & 0o777).toBe(0o600)
    // the Lease counts, whatever was remembered
    expect([again.see(lease('b', 0)), again.holder?.name]).toEqual([true, 'b'])
  })

  it.each(['', 'null', '[]', '{"holder":7,"key":8}', '{"holder":{"name":"a"}}'])('a file of %j is none', text => {
    writeFileSync(file, text)
    const state = new UplinkState(file)
    expect([state.holder, state.key]).toEqual([undefined, undefined])
    state.see(lease('a', 1))
    expect(readFileSync(file, 'utf8')).toContain('"a"')
  })
})

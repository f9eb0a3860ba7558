/**
 * Single uplink: two gateways (processes, without packets) in one folder of objects; the active one is killed, and the other goes on with the same encoded
 * addresses. How long that took is printed; test/api/uplink.test.ts does the same with an API server.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { DirectoryStore } from '../../resources/directoryStore.ts'
import {
  GATEWAYS,
  type Name,
  networkOfTwo,
  OTHER,
  PATIENCE_MS,
  UplinkGateways,
  until,
} from '../support/uplinkGateways.ts'

let gateways: UplinkGateways
let operator: DirectoryStore

beforeEach(async () => {
  gateways = await UplinkGateways.open()
  mkdirSync(join(gateways.folder, 'objects'))
  operator = await DirectoryStore.open(join(gateways.folder, 'objects'))
  await operator.apply('ConfigMap', networkOfTwo())
})
afterEach(async () => {
  await operator.close()
  await gateways.close()
}, PATIENCE_MS)

const start = (name: Name) => gateways.start(name, ['-manifests', join(gateways.folder, 'objects')])
const isActive = async (name: Name) => (await gateways.uplinkOf(name)).startsWith('active')

describe('a single uplink', { timeout: 4 * PATIENCE_MS }, () => {
  it('one of two is active, names asked at either have one address, and survive kill -9 of the active one, twice', async () => {
    for (const name of GATEWAYS) start(name)
    const first = await gateways.active()
    const hosts = Array.from({ length: 40 }, (_, i) => `host${i}`)
    const given = [
      ...(await gateways.addresses(first, hosts.slice(0, 20))),
      ...(await gateways.addresses(OTHER[first], hosts.slice(20))),
    ]
    expect(new Set(given).size).toBe(40)
    expect(await gateways.addresses(OTHER[first], hosts)).toEqual(given)

    const killed = performance.now()
    await gateways.end(first, 'SIGKILL')
    const second = OTHER[first]
    const fresh = await until('an address for a new name', () => gateways.addressAt(second, 'host100'))
    console.log(`the standby gave a new address ${((performance.now() - killed) / 1000).toFixed(1)} s after kill -9`)
    expect(await gateways.addresses(second, hosts)).toEqual(given)

    // back again, it stands by, and has everything when its turn comes
    start(first)
    expect(await gateways.active()).toBe(second)
    await gateways.end(second, 'SIGKILL')
    await until('the first one is active again', () => isActive(first))
    expect([await gateways.addresses(first, hosts), await gateways.addressAt(first, 'host100')]).toEqual([given, fresh])
  })

  it('an ordered end hands over at once, and a restart goes on as active while nobody else took it', async () => {
    for (const name of GATEWAYS) start(name)
    const first = await gateways.active()
    const [given] = await gateways.addresses(first, ['host1'])
    await gateways.end(first, 'SIGTERM')
    const second = OTHER[first]
    expect(await gateways.addresses(second, ['host1'])).toEqual([given])
    // nobody else is there: the same one, from its own store
    await gateways.end(second, 'SIGKILL')
    start(second)
    await until('it is active', () => isActive(second))
    expect(await gateways.addresses(second, ['host1'])).toEqual([given])
  })
})

/** What the operator takes for inside, as nodes and service networks come and go: in a store of files. */
import { afterEach, beforeEach, expect, it } from 'vitest'
import { formatPrefix } from '../../../ipref/address.ts'
import { Cluster } from '../../../operator/cluster.ts'
import { insideOf } from '../../../operator/surroundings.ts'
import type { ServiceCidr } from '../../../resources/kinds.ts'
import { node, settings } from '../../support/operatorObjects.ts'
import { ServiceWorld } from '../../support/serviceWorld.ts'
import { silentLog } from '../../support/silentLog.ts'

let world: ServiceWorld
let cluster: Cluster
let inside: () => string[]

beforeEach(async () => {
  world = await ServiceWorld.open()
  cluster = new Cluster(world.store, settings(), silentLog)
  const prefixes = insideOf(cluster)
  inside = () => prefixes().map(formatPrefix).sort()
  await cluster.start()
})
afterEach(async () => {
  cluster.stop()
  await world.close()
})

const serviceCidr = (name: string, cidr: string): ServiceCidr => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'ServiceCIDR',
  metadata: { name },
  spec: { cidrs: [cidr] },
})

it('nodes, their pods, and services are inside, as long as they are there', async () => {
  const before = inside()
  await world.put(node('one', ['198.51.100.7', '2001:db8::7'], ['203.0.113.0/26']))
  await world.put(serviceCidr('more', '192.0.2.0/24'))
  const added = ['198.51.100.7/32', '2001:db8::7/128', '203.0.113.0/26', '192.0.2.0/24']
  await expect.poll(inside).toEqual([...before, ...added].sort())
  await world.put(node('one', ['198.51.100.8'], ['203.0.113.0/26']))
  await expect.poll(inside).toEqual([...before, '198.51.100.8/32', '203.0.113.0/26', '192.0.2.0/24'].sort())
})

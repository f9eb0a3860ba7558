/** An object that goes: its mapping outlives its record by one TTL, to the millisecond, though times in objects have seconds. */
import { expect, it } from 'vitest'
import { iprefService, pod, service, slice } from '../../../support/operatorObjects.ts'
import { ServiceWorld } from '../../../support/serviceWorld.ts'

it.each([0, 1, 700, 999])('is there for a whole TTL when records are seen gone %i ms past a second', async past => {
  const world = await ServiceWorld.open()
  try {
    await world.put(pod('a', ['10.244.0.1']), service(), slice(['10.244.0.1']))
    const operator = await world.start()
    await world.put(iprefService({ ttlSeconds: 5 }))
    await operator.settle()
    expect(await world.mapped('web')).toHaveLength(1)
    await operator.advance(1000 - (world.clock.now() % 1000) + past)
    await world.remove('IprefService', 'web')
    await operator.settle()
    expect((await world.object('web'))!.status!.withdrawnAt).toBeDefined()
    await operator.advance(4999)
    expect(await world.object('web')).toBeDefined()
    await operator.advance(3001, 500)
    expect(await world.object('web')).toBeUndefined()
    await operator.stop()
  } finally {
    await world.close()
  }
})

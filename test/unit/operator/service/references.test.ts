import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { isStaticReference } from '../../../../ipref/lifetimes.ts'
import { encodeReferences, parseReference } from '../../../../ipref/reference.ts'

import { ReferenceBook } from '../../../../operator/service/references.ts'
import { LAST_HOLDER, lastHolderText } from '../../../../operator/service/slots.ts'
import type { IprefReference } from '../../../../resources/kinds.ts'
import type { ResourceStore } from '../../../../resources/store.ts'
import { iprefService } from '../../../support/operatorObjects.ts'
import { ServiceWorld } from '../../../support/serviceWorld.ts'
import { RefusingStore } from '../../../support/storeWrappers.ts'

let world: ServiceWorld
beforeEach(async () => {
  world = await ServiceWorld.open()
})
afterEach(() => world.close())

const web = iprefService({}, { uid: 'uid-1' })
const NOW = Date.UTC(2030, 0, 1)
const at = { slot: 0, family: 'IPv4' as const }

/** A book that follows the store. */
async function bookOf(store: ResourceStore = world.store, length: 4 | 8 = 8): Promise<ReferenceBook> {
  const book = new ReferenceBook(store, () => length)
  await store.watch('IprefReference', {}, { onChange: change => void book.change(change) })
  return book
}
const claims = () => world.store.list('IprefReference')
const only = async (): Promise<IprefReference> => (await claims())[0]!

describe('a claim', () => {
  it.each([4, 8] as const)('of %i bytes is of that length, static, and never twice the same', async length => {
    const book = await bookOf(world.store, length)
    const seen = new Set<string>()
    for (let i = 0; i < 100; i++) {
      const text = await book.apply({ do: 'claim', ...at }, web, NOW)
      const value = parseReference(text)!
      expect(isStaticReference(value) && value >= 256n).toBe(true)
      expect(encodeReferences(1n, value).length).toBeLessThanOrEqual(length)
      seen.add(text)
    }
    expect(seen.size).toBe(100)
  })

  it('that somebody was faster with is made with another reference; a given one is not', async () => {
    let refusals = 3
    const { create } = world.store
    const store = new RefusingStore(world.store, () => undefined)
    store.create = async (kind, object) => {
      // another program claims the very reference
      if (refusals-- > 0) await create.call(world.store, kind, object)
      return create.call(world.store, kind, object) as never
    }
    const book = await bookOf(store)
    const text = await book.apply({ do: 'claim', ...at }, web, NOW)
    expect(await claims()).toHaveLength(4)
    expect(book.find(text)?.spec.uid).toBe('uid-1')
    refusals = 1
    await expect(book.apply({ do: 'claim', ...at, reference: '2466' }, web, NOW)).rejects.toMatchObject({
      code: 'AlreadyExists',
    })
  })

  it('is known at once, before the watch shows it', async () => {
    const book = new ReferenceBook(world.store, () => 8)
    const text = await book.apply({ do: 'claim', ...at }, web, NOW)
    expect(book.ofOwner('shop/web')).toHaveLength(1)
    // the watch is behind, and shows it as it was
    const first = await only()
    await book.apply({ do: 'leave', claim: first }, web, NOW)
    book.change({ before: undefined, now: first })
    expect(book.find(text)!.spec.releasedAt).toBeDefined()
  })
})

describe('a claim that is let go', () => {
  it('says who had it, and is taken up by its object again', async () => {
    const book = await bookOf()
    await book.apply({ do: 'claim', ...at }, web, NOW)
    await book.apply({ do: 'leave', claim: await only(), holder: '10.0.0.1' }, web, NOW)
    const left = await only()
    expect(left.spec.releasedAt).toBe('2030-01-01T00:00:00Z')
    expect(left.metadata.annotations).toEqual({ [LAST_HOLDER]: lastHolderText('10.0.0.1', '2030-01-01T00:00:00Z') })
    await book.apply({ do: 'adopt', claim: left, ...at, slot: 3 }, web, NOW)
    const again = await only()
    expect([again.spec.releasedAt, again.spec.slot, again.metadata.annotations]).toEqual([
      undefined,
      3,
      left.metadata.annotations,
    ])
  })

  it('by another object is taken up as new, in two steps where it was in use', async () => {
    const book = await bookOf()
    await book.apply({ do: 'claim', ...at }, web, NOW)
    await book.apply({ do: 'leave', claim: await only(), holder: '10.0.0.1' }, web, NOW)
    const other = iprefService({}, { name: 'other', uid: 'uid-2' })
    await book.apply({ do: 'adopt', claim: await only(), ...at }, other, NOW)
    const taken = await only()
    expect(taken.spec).toEqual({ namespace: 'shop', name: 'other', uid: 'uid-2', ...at })
    expect(taken.metadata.annotations).toBeUndefined()
    expect([book.ofOwner('shop/web').length, book.ofOwner('shop/other').length]).toEqual([0, 1])
    await book.apply({ do: 'adopt', claim: taken, ...at }, web, NOW)
    expect((await only()).spec).toEqual({ namespace: 'shop', name: 'web', uid: 'uid-1', ...at })
  })

  it('is not taken up on a view that is behind', async () => {
    const book = await bookOf()
    await book.apply({ do: 'claim', ...at }, web, NOW)
    const stale = await only()
    await book.apply({ do: 'leave', claim: stale }, web, NOW)
    const conflict = { code: 'Conflict' }
    await expect(book.apply({ do: 'adopt', claim: stale, ...at }, web, NOW)).rejects.toMatchObject(conflict)
    await expect(book.apply({ do: 'forget', claim: stale }, web, NOW)).rejects.toMatchObject(conflict)
    await expect(book.release(stale, NOW)).rejects.toMatchObject(conflict)
  })

  it('is forgotten, and may be claimed again', async () => {
    const book = await bookOf()
    await book.apply({ do: 'claim', ...at, reference: '2466' }, web, NOW)
    await book.apply({ do: 'leave', claim: await only() }, web, NOW)
    await book.apply({ do: 'forget', claim: await only() }, web, NOW)
    expect([await claims(), book.size, book.find('2466')]).toEqual([[], 0, undefined])
    expect(await book.apply({ do: 'claim', ...at, reference: '2466' }, web, NOW)).toBe('2466')
  })
})

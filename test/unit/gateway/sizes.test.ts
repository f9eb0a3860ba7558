/** Which sizes pass: found for every limit, whatever single packets are lost besides. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { findSizes, type Tried } from '../../../gateway/sizes.ts'

const RANGE = { from: 64, to: 1500 }

/** Passes up to `limit`, and remembers what was tried. */
function limited(limit: number, over: Tried = 'lost'): { attempt(size: number): Promise<Tried>; tried: number[] } {
  const tried: number[] = []
  return {
    tried,
    attempt: async size => {
      tried.push(size)
      return size <= limit ? 1 : over
    },
  }
}

describe('sizes that pass', () => {
  it('all: the largest is tried, and nothing else', async () => {
    const { attempt, tried } = limited(9000)
    expect(await findSizes(attempt, RANGE)).toEqual({ passes: 1500, fails: undefined, isRefused: false })
    expect(tried).toEqual([1500])
  })

  it('none: not even the smallest', async () => {
    expect(await findSizes(limited(10).attempt, RANGE)).toBeUndefined()
  })

  it('up to any limit, told to within four bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 64, max: 1499 }), async limit => {
        const found = await findSizes(limited(limit).attempt, RANGE)
        expect(found!.passes).toBeLessThanOrEqual(limit)
        expect(found!.fails).toBeGreaterThan(limit)
        expect(found!.fails! - found!.passes).toBeLessThanOrEqual(4)
      }),
    )
  })

  it('with few tries: each lost size three times', async () => {
    const { attempt, tried } = limited(1380)
    await findSizes(attempt, RANGE)
    expect(tried.length).toBeLessThanOrEqual(3 * 11)
  })

  it('two packets in a row may be lost for another reason', async () => {
    let number = 0
    const attempt = async (size: number): Promise<Tried> => (size <= 1400 && ++number % 3 === 0 ? 1 : 'lost')
    const found = await findSizes(attempt, RANGE)
    expect(found!.passes).toBeGreaterThan(1400 - 4)
  })

  it('what our own kernel refuses is not tried again, and is told apart from what is lost', async () => {
    const { attempt, tried } = limited(1380, 'refused')
    expect((await findSizes(attempt, RANGE))!.isRefused).toBe(true)
    expect(new Set(tried).size).toBe(tried.length)
  })
})

/** Lines out of bytes that are cut anywhere. */
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readLines } from '../../../resources/jsonLines.ts'
import { compareVersions } from '../../../resources/view.ts'

async function read(chunks: readonly Buffer[]): Promise<string[]> {
  async function* source() {
    yield* chunks
  }
  const lines: string[] = []
  for await (const line of readLines(source(), () => {})) lines.push(line)
  return lines
}

it('finds the same lines wherever the bytes are cut', async () => {
  const values = fc.array(fc.json({ stringUnit: 'grapheme' }), { maxLength: 8 })
  await fc.assert(
    fc.asyncProperty(values, fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1 }), async (lines, sizes) => {
      const bytes = Buffer.from(`${lines.join('\n')}\n{"cut`)
      const chunks: Buffer[] = []
      for (let from = 0, i = 0; from < bytes.length; i++) {
        const size = sizes[i % sizes.length]!
        chunks.push(bytes.subarray(from, from + size))
        from += size
      }
      expect(await read(chunks)).toEqual(lines)
    }),
  )
})

it('ends a line that has no end', async () => {
  const chunks = Array.from({ length: 33 }, () => Buffer.alloc(1 << 20, 'x'))
  await expect(read(chunks)).rejects.toThrow(/more than/)
})

it('compares resourceVersions as the numbers that they are', () => {
  const number = fc.bigInt({ min: 1n, max: 10n ** 30n })
  fc.assert(
    fc.property(number, number, (a, b) => {
      expect(Math.sign(compareVersions(String(a), String(b)))).toBe(a < b ? -1 : a > b ? 1 : 0)
    }),
  )
})

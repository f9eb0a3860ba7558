/** The worst for a reader of names: pointers that lead to pointers. */

/** A message whose first record holds a chain of pointers; the others are named by its end. */
export function chainOfPointers(links: number, link: readonly number[], named: number): Uint8Array {
  const step = link.length + 2
  const length = 1 + links * step
  const bytes = new Uint8Array(23 + length + 12 * named)
  bytes.set([1, 2, 0x80, 0, 0, 0, (named + 1) >> 8, (named + 1) & 255, 0, 0, 0, 0, 0, 0, 255, 0, 1, 0, 0, 0, 0])
  bytes.set([length >> 8, length & 255], 21)
  let last = 23
  for (let at = 24; at < 23 + length; at += step) {
    bytes.set(link, at)
    bytes.set(pointerTo(last), at + link.length)
    last = at
  }
  for (let at = 23 + length; at < bytes.length; at += 12) {
    bytes.set([...pointerTo(last), 0, 255, 0, 1], at)
  }
  return bytes
}

function pointerTo(at: number): readonly [number, number] {
  return [0xc0 | ((at >> 8) & 63), at & 255]
}

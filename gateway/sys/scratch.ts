/**
 * A small arena for calls that are not on the path of packets: one per thread, made when first used. What is written here is
 * valid until the next call of `scratch`.
 */
import { Arena } from './arena.ts'

const SIZE = 1 << 20
let arena: Arena | undefined

export function scratch(): Arena {
  arena ??= new Arena(SIZE)
  return arena
}

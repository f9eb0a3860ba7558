/**
 * What each remote network may reach here: peer × reference, in shared memory.
 *
 *   context address ──► rule: allow or deny, and which list of exceptions ──► is the reference one of them? then the other way round
 *   no rule for it  ──► the rule for everybody else
 *
 * It speaks of published references alone: towards other hosts only replies pass (hostFilter.ts). The main thread writes the whole policy into the
 * half that nobody reads, then turns over; a reader that was overtaken twice during one look-up looks again. Lists are small (one entry for each
 * context and for each exception), so writing it anew is cheaper than changing it in place.
 */
import type { AddressWords } from '../../ipref/address.ts'

export interface PolicyRule {
  allow: boolean
  /** references for which the opposite holds */
  except: readonly AddressWords[]
}

export interface Policy {
  /** for contexts without a rule of their own */
  others: PolicyRule
  peers: readonly { context: AddressWords; rule: PolicyRule }[]
}

const OPEN: Policy = { others: { allow: true, except: [] }, peers: [] }

/** Words before the entries: number of the policy, and the rule for others. */
const HEAD = 4
const at = { turns: 0, others: 1 } as const
/** Four words of context or reference, then what it says (0: empty). */
const ENTRY = 5
/** A rule in one word: bit 0 there, bit 1 deny, bits 2… the list of exceptions (0: none). */
const PRESENT = 1
const DENY = 2
const LIST_SHIFT = 2
const TRIES = 4

export class PolicyTable {
  readonly #words: Int32Array
  readonly #half: number

  /** `entries`: contexts and exceptions together. */
  static allocate(entries: number): SharedArrayBuffer {
    let places = 64
    while (places < entries * 2) places *= 2
    return new SharedArrayBuffer(4 * 2 * (HEAD + places * ENTRY))
  }

  constructor(buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer)
    this.#half = this.#words.length / 2
  }

  /** May this peer reach this published reference? */
  mayReach(c0: number, c1: number, c2: number, c3: number, r0: number, r1: number, r2: number, r3: number): boolean {
    for (let tries = 0; tries < TRIES; tries++) {
      const turns = Atomics.load(this.#words, at.turns)
      const base = (turns & 1) * this.#half
      const own = this.#find(base, 0, c0, c1, c2, c3)
      const rule = own === 0 ? this.#words[base + at.others]! : own
      const list = rule >> LIST_SHIFT
      const isException = list !== 0 && this.#find(base, list, r0, r1, r2, r3) !== 0
      const denies = (rule & DENY) !== 0
      if (Atomics.load(this.#words, at.turns) - turns < 2) return denies === isException
    }
    // changed under us again and again, which no writer does: refused rather than guessed
    return false
  }

  // entries of one list share the table: the list is part of the key
  #find(base: number, list: number, w0: number, w1: number, w2: number, w3: number): number {
    const words = this.#words
    const places = (this.#half - HEAD) / ENTRY
    for (let place = hash(list, w0, w1, w2, w3) & (places - 1), steps = 0; steps < places; steps++) {
      const i = base + HEAD + place * ENTRY
      const says = words[i + 4]!
      if (says === 0) return 0
      const isOfList = list === 0 ? (says & PRESENT) !== 0 : says === -list
      if (isOfList && words[i] === w0 && words[i + 1] === w1 && words[i + 2] === w2 && words[i + 3] === w3) return says
      place = (place + 1) & (places - 1)
    }
    return 0
  }

  /** Main thread: puts a policy in force as a whole. False: it has more entries than there is room for; the one in force stays. */
  write(policy: Policy = OPEN): boolean {
    const words = this.#words
    const turns = Atomics.load(words, at.turns)
    const base = ((turns + 1) & 1) * this.#half
    const rules = [policy.others, ...policy.peers.map(peer => peer.rule)]
    const size = rules.reduce((sum, rule) => sum + rule.except.length, policy.peers.length)
    if (size * 2 > (this.#half - HEAD) / ENTRY) return false
    words.fill(0, base + HEAD, base + this.#half)
    let lists = 0
    const wordOf = (rule: PolicyRule): number => {
      const list = rule.except.length === 0 ? 0 : ++lists
      for (const reference of rule.except) this.#put(base, list, reference, -list)
      return PRESENT | (rule.allow ? 0 : DENY) | (list << LIST_SHIFT)
    }
    words[base + at.others] = wordOf(policy.others)
    for (const { context, rule } of policy.peers) this.#put(base, 0, context, wordOf(rule))
    Atomics.store(words, at.turns, turns + 1)
    return true
  }

  #put(base: number, list: number, key: AddressWords, says: number): void {
    if (this.#find(base, list, ...key) !== 0) return
    const places = (this.#half - HEAD) / ENTRY
    let place = hash(list, ...key) & (places - 1)
    while (this.#words[base + HEAD + place * ENTRY + 4] !== 0) place = (place + 1) & (places - 1)
    this.#words.set([...key, says], base + HEAD + place * ENTRY)
  }
}

// what is hashed comes from our own configuration, and what is looked up cannot lengthen a chain
function hash(list: number, w0: number, w1: number, w2: number, w3: number): number {
  let h = Math.imul(list ^ w0 ^ Math.imul(w1, 0x9e3779b1), 0x85ebca6b)
  h = Math.imul(h ^ w2 ^ (h >>> 15), 0xc2b2ae35)
  h = Math.imul(h ^ w3 ^ (h >>> 13), 0x27d4eb2f)
  return h ^ (h >>> 16)
}

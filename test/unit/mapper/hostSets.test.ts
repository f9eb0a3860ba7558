/** Sets of hosts that a DNS agent hands over: in force whole or not at all, whatever becomes of the agent. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { Assertion } from '../../../gateway/mapper/assertions.ts'
import { MapperMessages } from '../../../gateway/mapper/mapperSocket.ts'
import { formatAddress, parseAddress } from '../../../ipref/address.ts'
import { compareHosts, type HostRecord, hashHosts } from '../../../ipref/hostSetHash.ts'
import { decodeHeader, encodeHostData, encodeHostDataHash, Mode, readHostAnswer } from '../../../ipref/mapperMessage.ts'

const NAMES = { local: 'internal', public: 'example.com' }
const AGENT = { name: 'a connection' }
const OTHER = { name: 'another one' }

interface Set {
  records: HostRecord[]
  hash: bigint
  tunnelFamily: 4 | 6
}

function setOf(hosts: readonly number[], context = '198.51.100.1'): Set {
  const records = hosts.map(i => ({
    native: parseAddress(`10.1.0.${i}`)!,
    context: parseAddress(context)!,
    reference: BigInt(i),
  }))
  records.sort(compareHosts)
  return { records, hash: hashHosts(records), tunnelFamily: context.includes(':') ? 6 : 4 }
}

class Lab {
  /** what was put in force, by source: `1 2 3` */
  readonly inForce: string[] = []
  readonly messages = new MapperMessages({
    encodedFor: () => ({ refused: 'not asked' }),
    setSource: (owner, assertions) => {
      this.inForce.push(`${owner} ${assertions.map(shown).join(' ')}`.trim())
      return Promise.resolve()
    },
    encodedFamilies: [4],
    tunnelFamilies: [4, 6],
  })
  #batch = 0

  async data(set: Set, at = 0, count = set.records.length, from: object | undefined = AGENT, names = NAMES) {
    const header = { id: 1, encodedFamily: 4, tunnelFamily: set.tunnelFamily } as const
    const head = { batch: ++this.#batch, hash: set.hash, ...names }
    const answer = await this.messages.handle(encodeHostData(header, head, set.records.slice(at, at + count)), from)
    expect(answer && readHostAnswer(answer)).toMatchObject({ mode: Mode.ack, number: this.#batch, ...names })
  }

  async hash(set: Set, count = set.records.length): Promise<'ack' | 'nack'> {
    const header = { id: 1, encodedFamily: 4, tunnelFamily: set.tunnelFamily } as const
    const answer = await this.messages.handle(encodeHostDataHash(header, { count, hash: set.hash, ...NAMES }))
    const decoded = decodeHeader(answer!)
    return typeof decoded === 'object' && decoded.mode === Mode.ack ? 'ack' : 'nack'
  }

  /** What was put in force in that time. */
  async pass(ms: number): Promise<string[]> {
    await vi.advanceTimersByTimeAsync(ms)
    return this.inForce.splice(0)
  }
}

function shown(assertion: Assertion): string {
  return assertion.kind === 'ours' ? formatAddress(assertion.address).replace('10.1.0.', '') : '?'
}

const SOURCE = 'dns:internal:example.com'
let lab: Lab
beforeEach(() => {
  vi.useFakeTimers()
  lab = new Lab()
})
afterEach(() => {
  lab.messages.stop()
  vi.useRealTimers()
})

describe('a set', () => {
  it('is in force soon after its last batch, once, in whatever order the batches came', async () => {
    const set = setOf([1, 2, 3, 4, 5, 6])
    await lab.data(set, 4, 2)
    await lab.data(set, 0, 2)
    await lab.data(set, 0, 2)
    expect(await lab.pass(9000)).toEqual([])
    await lab.data(set, 2, 2)
    expect(await lab.pass(60_000)).toEqual([`${SOURCE} 5 6 1 2 3 4`])
    await lab.data(set)
    expect(await lab.pass(60_000)).toEqual([])
  })

  it('that is empty takes all hosts away', async () => {
    await lab.data(setOf([1]))
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1`])
    await lab.data(setOf([]))
    expect(await lab.pass(1000)).toEqual([SOURCE])
  })

  it('takes the place of the one before when it is whole, not before', async () => {
    await lab.data(setOf([1, 2, 3]))
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1 2 3`])
    const next = setOf([3, 4, 5])
    await lab.data(next, 0, 2)
    expect(await lab.pass(9000)).toEqual([])
    expect(await lab.hash(setOf([1, 2, 3]))).toBe('nack')
    expect(await lab.hash(next)).toBe('nack')
    await lab.data(next, 2, 1)
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 3 4 5`])
    expect(await lab.hash(next)).toBe('ack')
    expect(await lab.hash(next, 2)).toBe('nack')
  })

  it('whose hash is asked for is in force at once', async () => {
    const set = { ...setOf([1, 2]), hash: 0x1111n }
    await lab.data(set)
    expect(await lab.hash(set)).toBe('ack')
    expect(await lab.pass(0)).toEqual([`${SOURCE} 1 2`])
    expect(await lab.pass(60_000)).toEqual([])
  })

  it('under a hash of another kind is in force when nothing more comes', async () => {
    await lab.data({ ...setOf([1, 2]), hash: 0x1111n })
    expect(await lab.pass(9000)).toEqual([])
    expect(await lab.pass(2000)).toEqual([`${SOURCE} 1 2`])
  })

  it('of records that differ in the native address alone is whole in the order in which its agent hashed it', async () => {
    const { records } = setOf([1, 2])
    const twins = [2, 1].map(i => ({ ...records[i - 1]!, reference: 7n }))
    await lab.data({ records: twins, hash: hashHosts(twins), tunnelFamily: 4 })
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 2 1`])
  })

  it('of one pair of IP versions leaves the others in force', async () => {
    await lab.data(setOf([1, 2]))
    await lab.data(setOf([1, 2, 3], '2001:db8::1'))
    expect((await lab.pass(1000)).at(-1)).toBe(`${SOURCE} 1 2 1 2 3`)
    const next = setOf([1, 2, 3, 4], '2001:db8::1')
    await lab.data(next, 0, 1)
    await lab.data(setOf([1]))
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1 1 2 3`])
    await lab.data(next, 1)
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1 1 2 3 4`])
  })

  it('of one source leaves those of others', async () => {
    const names = { local: 'internal', public: 'example.org' }
    await lab.data(setOf([1]))
    await lab.data(setOf([1]), 0, 1, AGENT, names)
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1`, 'dns:internal:example.org 1'])
    await lab.data(setOf([]), 0, 0, AGENT, names)
    expect(await lab.pass(1000)).toEqual(['dns:internal:example.org'])
  })
})

describe('an agent that goes away', () => {
  it('after a part of its first set leaves nothing, and is told to send it again', async () => {
    const set = setOf([1, 2, 3])
    await lab.data(set, 0, 2)
    lab.messages.left(AGENT)
    expect(await lab.pass(60_000)).toEqual([])
    expect(await lab.hash(set)).toBe('nack')
    expect(await lab.hash(set, 2)).toBe('nack')
    await lab.data(set)
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1 2 3`])
  })

  it('after a part of another set leaves the one before in force', async () => {
    await lab.data(setOf([1, 2, 3]))
    await lab.pass(1000)
    await lab.data(setOf([7, 8, 9]), 0, 2)
    lab.messages.left(AGENT)
    expect(await lab.pass(60_000)).toEqual([])
    expect(await lab.hash(setOf([7, 8, 9]), 2)).toBe('nack')
    expect(await lab.hash(setOf([1, 2, 3]))).toBe('nack')
    // the one in force, begun again: nothing changes, however it goes on
    await lab.data(setOf([1, 2, 3]), 0, 1, OTHER)
    lab.messages.left(OTHER)
    expect(await lab.pass(60_000)).toEqual([])
    expect(await lab.hash(setOf([1, 2, 3]))).toBe('ack')
  })

  it('after the last batch has said all', async () => {
    await lab.data(setOf([1, 2, 3]))
    lab.messages.left(AGENT)
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1 2 3`])
    lab.messages.left(AGENT)
    expect(await lab.pass(60_000)).toEqual([])
    expect(await lab.hash(setOf([1, 2, 3]))).toBe('ack')
  })

  it('while another one sends the same changes nothing for that one', async () => {
    const set = setOf([1, 2, 3])
    await lab.data(set, 0, 1)
    await lab.data(set, 1, 1, OTHER)
    lab.messages.left(AGENT)
    await lab.data(set, 2, 1, OTHER)
    expect(await lab.pass(1000)).toEqual([`${SOURCE} 1 2 3`])
  })
})

import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeProbe, encodeProbe, ProbeLedger, type ProbeMessage } from '../../../../gateway/kube/nodeProbe.ts'

const PROBE = { key: 'n2 IPv4', source: '10.177.0.0', destination: '10.178.0.0', via: '172.18.0.2' }
const NONCE = '000102030405060708090a0b0c0d0e0f'

describe('messages', () => {
  const golden: { name: string; hex: string; message: ProbeMessage }[] = [
    {
      name: 'a question of one that knows nothing yet',
      hex: `49505250 01 00 ${NONCE}`,
      message: { kind: 'question', isReady: false, isStrict: false, nonce: NONCE },
    },
    {
      name: 'an answer of one that is answered itself',
      hex: `49505250 02 01 ${NONCE}`,
      message: { kind: 'answer', isReady: true, isStrict: false, nonce: NONCE },
    },
    {
      name: 'an answer with a filter in the way',
      hex: `49505250 02 03 ${NONCE}`,
      message: { kind: 'answer', isReady: true, isStrict: true, nonce: NONCE },
    },
  ]
  it.each(golden)('$name', ({ hex, message }) => {
    const bytes = Buffer.from(hex.replaceAll(' ', ''), 'hex')
    expect(encodeProbe(message)).toEqual(bytes)
    expect(decodeProbe(bytes)).toEqual(message)
  })

  it.each([
    ['nothing', ''],
    ['too short', `49505250 01 00 ${NONCE.slice(2)}`],
    ['too long', `49505250 01 00 ${NONCE}00`],
    ['of somebody else', `49505251 01 00 ${NONCE}`],
    ['of a kind that is not known', `49505250 03 00 ${NONCE}`],
  ])('none: %s', (_name, hex) => {
    expect(decodeProbe(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toBeUndefined()
  })

  it('no bytes make it throw', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), bytes => void decodeProbe(Buffer.from(bytes))))
  })
})

/** A ledger with its time; `round` asks and answers once. */
class World {
  readonly ledger = new ProbeLedger()
  now = 0

  /** undefined: nothing came back */
  round(answer: { isReady: boolean; isStrict?: boolean } | undefined): number {
    const questions = this.ledger.due(this.now)
    for (const { nonce } of questions)
      if (answer) this.ledger.heard(PROBE.destination, { kind: 'answer', nonce, isStrict: false, ...answer })
    this.now += 1000
    return questions.length
  }

  rounds(count: number, answer: { isReady: boolean; isStrict?: boolean } | undefined): void {
    for (let i = 0; i < count; i++) this.round(answer)
  }

  get isProved(): boolean {
    return this.ledger.proved().has(PROBE.key)
  }
}

function world(assumed: string[] = []): World {
  const made = new World()
  made.ledger.setProbes([PROBE], new Set(assumed))
  return made
}

describe('a way is proved', () => {
  it('by two answers of one that is answered too', () => {
    const w = world()
    w.round({ isReady: true })
    expect(w.isProved).toBe(false)
    w.round({ isReady: true })
    expect(w.isProved).toBe(true)
  })

  it('not while the other node is not answered, and at once when it is', () => {
    const w = world()
    w.rounds(5, { isReady: false })
    expect(w.isProved).toBe(false)
    expect(w.ledger.isReady(PROBE.destination)).toBe(true)
    w.ledger.heard(PROBE.destination, { kind: 'question', isReady: true, isStrict: false, nonce: NONCE })
    expect(w.isProved).toBe(true)
  })

  it('not when the filter of the other node is in the way', () => {
    const w = world()
    w.rounds(5, { isReady: true, isStrict: true })
    expect(w.isProved).toBe(false)
  })

  it('until three questions in a row are lost; then five answers are needed', () => {
    const w = world()
    w.rounds(10, { isReady: true })
    w.now += 20_000
    w.rounds(3, undefined)
    expect(w.isProved).toBe(true)
    w.round(undefined)
    expect(w.isProved).toBe(false)
    w.rounds(4, { isReady: true })
    expect(w.isProved).toBe(false)
    w.rounds(2, { isReady: true })
    expect(w.isProved).toBe(true)
  })

  it('a single loss changes nothing', () => {
    const w = world()
    w.rounds(10, { isReady: true })
    w.now += 20_000
    w.round(undefined)
    w.rounds(3, { isReady: true })
    w.round(undefined)
    w.rounds(3, { isReady: true })
    expect(w.isProved).toBe(true)
  })

  it('at a restart, when it was in use before, until it is lost', () => {
    const w = world([PROBE.key])
    expect(w.isProved).toBe(true)
    w.rounds(4, undefined)
    expect(w.isProved).toBe(false)
  })

  it('not by what did not come from there, or answers nothing', () => {
    const w = world()
    for (let i = 0; i < 5; i++) {
      for (const { nonce } of w.ledger.due(w.now)) {
        w.ledger.heard('10.179.0.0', { kind: 'answer', nonce, isReady: true, isStrict: false })
        w.ledger.heard(PROBE.destination, { kind: 'answer', nonce: NONCE, isReady: true, isStrict: false })
      }
      w.now += 1000
    }
    expect(w.isProved).toBe(false)
  })
})

describe('questions', () => {
  it('come once a second at first, and seldom once all is quiet', () => {
    const w = world()
    let asked = 0
    for (let i = 0; i < 120; i++) asked += w.round({ isReady: true })
    expect(asked).toBeGreaterThan(8)
    expect(asked).toBeLessThan(20)
  })

  it('become seldom where nobody answers', () => {
    const w = world()
    w.rounds(60, undefined)
    let asked = 0
    for (let i = 0; i < 100; i++) asked += w.round(undefined)
    expect(asked).toBeLessThanOrEqual(11)
    expect(asked).toBeGreaterThanOrEqual(8)
  })

  it('to the same node by another address begin anew', () => {
    const w = world()
    w.rounds(5, { isReady: true })
    w.ledger.setProbes([PROBE])
    expect(w.isProved).toBe(true)
    w.ledger.setProbes([{ ...PROBE, destination: '10.179.0.0' }])
    expect(w.isProved).toBe(false)
  })
})

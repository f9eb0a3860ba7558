import { describe, expect, it } from 'vitest'
import { encodeMessage, HEADER } from '../../../../dns/message.ts'
import { walkRecords } from '../../../../dns/packet.ts'
import { AnswerCache } from '../../../../gateway/dns/answerCache.ts'
import { name, query, records, type } from '../../dns/builders.ts'

const PLAIN = 1
const WITH_DO = 25

function answerTo(text: string, ttl: number): Uint8Array {
  const [owner, kind] = text.split(' ')
  const answers = records(`@ ${ttl} A 192.0.2.1\n@ ${ttl * 2} A 192.0.2.2`, name(owner!))
  return encodeMessage({
    id: 0,
    flags: 0x8180,
    questions: [{ name: name(owner!), type: type(kind!), class: 1 }],
    answers,
  })
}

function store(
  cache: AnswerCache,
  text: string,
  options: { ttl?: number; now?: number; staleFor?: number; variant?: number } = {},
): void {
  const { ttl = 60, now = 1000, staleFor = 0, variant = PLAIN } = options
  const bytes = answerTo(text, ttl)
  const walked = walkRecords(bytes)!
  const ttlAt = walked.records.map(record => record.ttlAt)
  cache.store({ bytes, questionStart: HEADER, questionEnd: walked.questionEnd, variant, ttlAt, now, ttl, staleFor })
}

function find(cache: AnswerCache, text: string, now: number, variant = PLAIN) {
  const bytes = query(text)
  return cache.find(bytes, HEADER, bytes.length, variant, now)
}

const ttlsOf = (bytes: Uint8Array) => walkRecords(bytes)!.records.map(record => record.ttl)

describe('answer cache', () => {
  it('finds an answer whatever the letters of the question', () => {
    const cache = new AnswerCache(64)
    store(cache, 'www.example.com. A')
    expect(find(cache, 'WWW.eXample.COM. A', 1000)).toBeDefined()
  })

  it('tells names, types and variants apart', () => {
    const cache = new AnswerCache(64)
    store(cache, 'www.example.com. A')
    store(cache, 'www.example.com. AAAA', { variant: WITH_DO })
    expect(find(cache, 'ww.example.com. A', 1000)).toBeUndefined()
    expect(find(cache, 'www.example.com. AAAA', 1000)).toBeUndefined()
    expect(find(cache, 'www.example.com. AAAA', 1000, WITH_DO)).toBeDefined()
    expect(find(cache, 'www.example.com. A', 1000, WITH_DO)).toBeUndefined()
  })

  it('tells a label with a dot in it from two labels', () => {
    const cache = new AnswerCache(64)
    store(cache, 'a\\.b.example.com. A')
    expect(find(cache, 'a.b.example.com. A', 1000)).toBeUndefined()
    expect(find(cache, 'a\\.b.example.com. A', 1000)).toBeDefined()
  })

  it.each([
    ['a letter from the byte 32 above it', 'a@.example.com. A', 'a\\`.example.com. A'],
    ['[ from {', 'a[.example.com. A', 'a{.example.com. A'],
    ['a byte of 193 from 225', 'a\\193.example.com. A', 'a\\225.example.com. A'],
  ])('folds ASCII letters alone: it tells %s', (_, kept, asked) => {
    const cache = new AnswerCache(64)
    store(cache, kept)
    expect(find(cache, kept, 1000)).toBeDefined()
    expect(find(cache, asked, 1000)).toBeUndefined()
  })

  it('does not fold type and class, whose bytes may look like letters', () => {
    const cache = new AnswerCache(64)
    store(cache, 'example.com. TYPE65')
    expect(find(cache, 'example.com. TYPE65', 1000)).toBeDefined()
    expect(find(cache, 'example.com. TYPE97', 1000)).toBeUndefined()
  })

  it('counts TTLs down, and forgets an answer when its time is over', () => {
    const cache = new AnswerCache(64)
    store(cache, 'www.example.com. A', { ttl: 60 })
    expect(ttlsOf(find(cache, 'www.example.com. A', 1000)!.bytes)).toEqual([60, 120])
    expect(ttlsOf(find(cache, 'www.example.com. A', 1017)!.bytes)).toEqual([43, 103])
    expect(ttlsOf(find(cache, 'www.example.com. A', 1059)!.bytes)).toEqual([1, 61])
    expect(find(cache, 'www.example.com. A', 1060)).toBeUndefined()
  })

  it('counts TTLs down of 2^31 and more without a sign', () => {
    const cache = new AnswerCache(64)
    const bytes = answerTo('www.example.com. A', 1)
    const [first] = walkRecords(bytes)!.records
    bytes.set([255, 255, 255, 255], first!.ttlAt)
    const questionEnd = walkRecords(bytes)!.questionEnd
    const ttlAt = [first!.ttlAt]
    cache.store({ bytes, questionStart: HEADER, questionEnd, variant: PLAIN, ttlAt, now: 0, ttl: 100, staleFor: 0 })
    expect(ttlsOf(find(cache, 'www.example.com. A', 10)!.bytes)[0]).toBe(0xffffffff - 10)
  })

  it('shows a stale answer only when asked for one, and only for so long', () => {
    const cache = new AnswerCache(64)
    store(cache, 'www.example.com. A', { ttl: 60, staleFor: 100 })
    const bytes = query('www.example.com. A')
    const stale = (now: number) => cache.findStale(bytes, HEADER, bytes.length, PLAIN, now)
    expect(find(cache, 'www.example.com. A', 1060)).toBeUndefined()
    expect(stale(1060)).toBeDefined()
    expect(stale(1159)).toBeDefined()
    expect(stale(1160)).toBeUndefined()
  })

  it('keeps one answer of a question: the last', () => {
    const cache = new AnswerCache(64)
    store(cache, 'www.example.com. A', { ttl: 60 })
    store(cache, 'WWW.example.com. A', { ttl: 90 })
    expect(cache.size).toBe(1)
    expect(ttlsOf(find(cache, 'www.example.com. A', 1000)!.bytes)[0]).toBe(90)
  })

  it('never grows beyond its size, and gives up what was not used for longest', () => {
    const cache = new AnswerCache(8)
    for (let i = 0; i < 8; i++) store(cache, `n${i}.example.com. A`, { now: 1000 + i })
    find(cache, 'n0.example.com. A', 1050)
    store(cache, 'new.example.com. A', { now: 1050 })
    expect(cache.size).toBe(8)
    expect(find(cache, 'n0.example.com. A', 1050)).toBeDefined()
    expect(find(cache, 'n1.example.com. A', 1050)).toBeUndefined()
    for (let i = 0; i < 1000; i++) store(cache, `m${i}.example.com. A`)
    expect(cache.size).toBe(8)
    expect(cache.counts.evicted).toBeGreaterThan(900)
  })

  it('gives up what ran out before what did not', () => {
    const cache = new AnswerCache(8)
    for (let i = 0; i < 8; i++) store(cache, `n${i}.example.com. A`, { now: 1000 + i, ttl: i === 5 ? 10 : 600 })
    store(cache, 'new.example.com. A', { now: 1100 })
    for (const i of [0, 1, 2, 3, 4, 6, 7]) expect(find(cache, `n${i}.example.com. A`, 1100)).toBeDefined()
  })

  it('keeps nothing with a TTL of 0, and nothing at all with a size of 0', () => {
    const cache = new AnswerCache(64)
    store(cache, 'www.example.com. A', { ttl: 0 })
    expect(cache.size).toBe(0)
    const none = new AnswerCache(0)
    store(none, 'www.example.com. A')
    expect(none.enabled).toBe(false)
    expect(find(none, 'www.example.com. A', 1000)).toBeUndefined()
  })
})

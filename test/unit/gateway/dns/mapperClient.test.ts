import { describe, expect, it } from 'vitest'
import { type MapperAnswer, MapperClient } from '../../../../gateway/dns/mapperClient.ts'
import { formatAddress, parseAddress } from '../../../../ipref/address.ts'
import { decodeRequest, encodeEncodedAck, encodeNack, type MapperRequest } from '../../../../ipref/mapperMessage.ts'

type GetEncoded = Extract<MapperRequest, { what: 'getEncoded' }>

class Lab {
  nowMs = 0
  readonly sent: GetEncoded[] = []
  readonly answers: string[] = []
  isUp = true
  readonly client = new MapperClient(
    message => {
      if (this.isUp) this.sent.push(decodeRequest(message) as GetEncoded)
      return this.isUp
    },
    () => this.nowMs,
  )

  ask(label: string, reference = 11n, options: { family?: 4 | 6; context?: string; name?: string } = {}): void {
    const { family = 4, context = '198.51.100.2', name = 'www.example.com.' } = options
    const wanted = { family, context: parseAddress(context)!, reference, name }
    this.client.ask(wanted, answer => this.answers.push(`${label} ${shown(answer)}`))
  }

  ack(request: GetEncoded, encoded: string): Uint8Array {
    return encodeEncodedAck(request.header, { ...request.record, encoded: parseAddress(encoded)! })
  }
}

const shown = (answer: MapperAnswer) => (typeof answer === 'string' ? answer : formatAddress(answer.encoded))

describe('mapper client', () => {
  it('asks with context, reference and name, and takes the encoded address', () => {
    const lab = new Lab()
    lab.ask('a')
    expect(lab.sent[0]).toMatchObject({
      name: 'www.example.com.',
      record: { reference: 11n, context: parseAddress('198.51.100.2') },
    })
    lab.client.onMessage(lab.ack(lab.sent[0]!, '10.240.16.1'))
    expect(lab.answers).toEqual(['a 10.240.16.1'])
  })

  it('takes answers in any order, by their id', () => {
    const lab = new Lab()
    for (const [i, label] of ['a', 'b', 'c'].entries()) lab.ask(label, BigInt(i + 1))
    for (const i of [2, 0, 1]) lab.client.onMessage(lab.ack(lab.sent[i]!, `10.240.16.${i}`))
    expect(lab.answers).toEqual(['c 10.240.16.2', 'a 10.240.16.0', 'b 10.240.16.1'])
  })

  it('asks for all four pairs of families', () => {
    const lab = new Lab()
    for (const family of [4, 6] as const)
      for (const context of ['198.51.100.2', '2001:db8::2']) lab.ask(`${family}${context}`, 1n, { family, context })
    for (const request of lab.sent)
      lab.client.onMessage(lab.ack(request, request.header.encodedFamily === 4 ? '10.240.16.9' : 'fd00::9'))
    expect(lab.answers).toEqual([
      '4198.51.100.2 10.240.16.9',
      '42001:db8::2 10.240.16.9',
      '6198.51.100.2 fd00::9',
      '62001:db8::2 fd00::9',
    ])
  })

  it('tells a refusal from a mapper that is not there', () => {
    const lab = new Lab()
    lab.ask('a')
    lab.client.onMessage(encodeNack(lab.sent[0]!.header))
    lab.isUp = false
    lab.ask('b')
    expect(lab.answers).toEqual(['a refused', 'b unavailable'])
  })

  it('gives up after 500 ms, each in its turn, and takes no answer after that', () => {
    const lab = new Lab()
    lab.ask('a')
    lab.nowMs = 300
    lab.ask('b')
    expect(lab.client.tick()).toBe(200)
    lab.nowMs = 500
    expect(lab.client.tick()).toBe(300)
    lab.client.onMessage(lab.ack(lab.sent[0]!, '10.240.16.1'))
    lab.nowMs = 800
    expect(lab.client.tick()).toBe(Number.POSITIVE_INFINITY)
    expect(lab.answers).toEqual(['a unavailable', 'b unavailable'])
  })

  it('tells all that wait when the connection is gone', () => {
    const lab = new Lab()
    lab.ask('a')
    lab.ask('b')
    lab.client.onDown()
    expect(lab.answers).toEqual(['a unavailable', 'b unavailable'])
  })

  const foreign: [string, (lab: Lab, request: GetEncoded) => Uint8Array][] = [
    ['another reference', (lab, r) => lab.ack({ ...r, record: { ...r.record, reference: 12n } }, '10.240.16.1')],
    [
      'another context',
      (lab, r) => lab.ack({ ...r, record: { ...r.record, context: parseAddress('198.51.100.3')! } }, '10.240.16.1'),
    ],
    ['another id', (lab, r) => lab.ack({ ...r, header: { ...r.header, id: r.header.id + 1 } }, '10.240.16.1')],
    [
      'another family',
      (lab, r) =>
        lab.ack(
          { ...r, header: { ...r.header, encodedFamily: 6 }, record: { ...r.record, native: new Uint8Array(16) } },
          'fd00::1',
        ),
    ],
    ['no address at all', (lab, r) => lab.ack(r, '0.0.0.0')],
    ['another command', (lab, r) => lab.ack(r, '10.240.16.1').fill(0x80 | 14, 1, 2)],
    ['the mode of a request', (lab, r) => lab.ack(r, '10.240.16.1').fill(0x40 | 7, 1, 2)],
    ['the end missing', (lab, r) => lab.ack(r, '10.240.16.1').subarray(0, 20)],
    ['no more than a header', (_lab, r) => encodeNack(r.header).fill(0x80 | 7, 1, 2)],
    ['nothing', () => new Uint8Array()],
  ]
  it.each(foreign)('goes on waiting after an answer with %s', (_, make) => {
    const lab = new Lab()
    lab.ask('a')
    lab.client.onMessage(make(lab, lab.sent[0]!))
    expect(lab.answers).toEqual([])
    lab.client.onMessage(lab.ack(lab.sent[0]!, '10.240.16.1'))
    expect(lab.answers).toEqual(['a 10.240.16.1'])
  })

  it('does not take a late answer for a later question with the same id', () => {
    const lab = new Lab()
    lab.ask('old', 1n)
    lab.nowMs = 600
    lab.client.tick()
    for (let i = 0; i < 65_535; i++) {
      lab.ask('between', 2n)
      lab.client.onMessage(encodeNack(lab.sent.at(-1)!.header))
    }
    lab.answers.length = 0
    lab.ask('new', 3n)
    expect(lab.sent.at(-1)!.header.id).toBe(lab.sent[0]!.header.id)
    lab.client.onMessage(lab.ack(lab.sent[0]!, '10.240.16.1'))
    expect(lab.answers).toEqual([])
  })

  it('has a bound on what waits', () => {
    const lab = new Lab()
    for (let i = 0; i < 9000; i++) lab.ask('a', 1n)
    expect(lab.sent.length).toBe(8192)
    expect(lab.answers.length).toBe(9000 - 8192)
  })

  it('asks for a name of 255 bytes that are all written as four', () => {
    const lab = new Lab()
    lab.ask('a', 1n, { name: '\\255'.repeat(250) })
    expect(lab.sent[0]!.name!.length).toBe(255)
  })
})

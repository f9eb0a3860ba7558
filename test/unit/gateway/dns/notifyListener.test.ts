/** NOTIFY to the agent (RFC 1996): who is heard, what everybody else is told, over UDP and TCP, and what a flood of it does. */
import { afterEach, describe, expect, it } from 'vitest'
import { Flag, Opcode, Rcode } from '../../../../dns/constants.ts'
import { formatName } from '../../../../dns/name.ts'
import { queryOverTcp } from '../../../../dns/tcpQuery.ts'
import { type TsigKey, TsigSigner, TsigVerifier, tsigErrorOf } from '../../../../dns/tsig.ts'
import { NotifyListener } from '../../../../gateway/dns/notifyListener.ts'
import { askUdp } from '../../../support/dnsServer.ts'
import { decoded, hex, key, query } from '../../dns/builders.ts'

const NOTIFY = { flags: (Opcode.NOTIFY << 11) | Flag.AA }
const KEY = key()
const seconds = () => Date.now() / 1000

function lab(keys: readonly TsigKey[] = []) {
  const heard: string[] = []
  const listener = new NotifyListener({
    listen: { host: '127.0.0.1', port: 0 },
    keys,
    onNotify: (zone, from) => {
      heard.push(`${formatName(zone)} ${from}`)
      return from === '127.0.0.1'
    },
  })
  const answer = (bytes: Uint8Array, from = '127.0.0.1') => {
    const said = listener.answer(bytes, from)
    return said && decoded(said)
  }
  return { listener, heard, answer }
}

function signed(bytes: Uint8Array, by = KEY, now = seconds): { message: Uint8Array; mac: Uint8Array } {
  return new TsigSigner(by, now).sign(bytes)
}

describe('a notification', () => {
  it('of a zone and server that are known is answered, and heard', () => {
    const { heard, answer } = lab()
    const said = answer(query('eXample.com. SOA', NOTIFY))!
    expect(said).toMatchObject({ id: 0x1234, flags: Flag.QR | Flag.AA | (Opcode.NOTIFY << 11) })
    expect(said.questions).toHaveLength(1)
    expect(heard).toEqual(['eXample.com. 127.0.0.1'])
  })

  it('from elsewhere is refused', () => {
    const { answer } = lab()
    expect(answer(query('example.com. SOA', NOTIFY), '192.0.2.1')!.flags & 15).toBe(Rcode.REFUSED)
  })

  it.each([
    ['a question', query('example.com. SOA'), Rcode.REFUSED],
    ['a transfer', query('example.com. AXFR'), Rcode.REFUSED],
    ['an update', query('example.com. SOA', { flags: Opcode.UPDATE << 11 }), Rcode.REFUSED],
    ['one of another type', query('example.com. A', NOTIFY), Rcode.FORMERR],
    ['one without a question', query('example.com. SOA', { ...NOTIFY, questions: [] }), Rcode.FORMERR],
    ['an answer', query('example.com. SOA', { flags: NOTIFY.flags | Flag.QR }), undefined],
    ['half a message', query('example.com. SOA', NOTIFY).subarray(0, 20), undefined],
    ['no message', hex('1234'), undefined],
    ['nothing', new Uint8Array(), undefined],
  ])('%s is none', (_, bytes, rcode) => {
    const { heard, answer } = lab()
    const said = answer(bytes)
    expect(said && said.flags & 15).toBe(rcode)
    expect(heard).toEqual([])
  })
})

describe('where there are keys', () => {
  const bytes = query('example.com. SOA', NOTIFY)

  it('one that is signed is heard, and the answer is signed too', () => {
    const { listener, heard } = lab([key('hmac-sha256:other:bXkgc2VjcmV0'), KEY])
    const { message, mac } = signed(bytes)
    const answer = listener.answer(message, '127.0.0.1')!
    expect(new TsigVerifier([KEY], seconds, mac).verify(answer, decoded(answer))).toBeUndefined()
    expect(decoded(answer).flags & 15).toBe(0)
    expect(heard).toHaveLength(1)
  })

  it.each([
    ['not signed', bytes, Rcode.REFUSED, undefined],
    [
      'signed with another secret',
      signed(bytes, key('hmac-sha256:transfer:YW5vdGhlcg==')).message,
      Rcode.NOTAUTH,
      Rcode.BADSIG,
    ],
    [
      'signed with a key that nobody knows',
      signed(bytes, key('hmac-sha256:who:bXkgc2VjcmV0')).message,
      Rcode.NOTAUTH,
      Rcode.BADKEY,
    ],
    ['signed long ago', signed(bytes, KEY, () => seconds() - 400).message, Rcode.NOTAUTH, Rcode.BADTIME],
  ])('one that is %s is not heard, and told why', (_, message, rcode, error) => {
    const { heard, answer } = lab([KEY])
    const said = answer(message)!
    expect(said.flags & 15).toBe(rcode)
    expect(said.tsig && tsigErrorOf(said.tsig)).toBe(error)
    expect(heard).toEqual([])
  })
})

describe('on loopback', () => {
  let listener: NotifyListener | undefined
  afterEach(() => listener?.stop())

  it('over UDP and TCP on one port; a flood is answered, message for message', async () => {
    const one = lab()
    listener = one.listener
    await listener.start()
    const bytes = query('example.com. SOA', NOTIFY)
    expect(decoded(await askUdp(listener.port, bytes)).flags & 15).toBe(0)
    expect(decoded(await queryOverTcp({ host: '127.0.0.1', port: listener.port }, bytes, 5000)).flags & 15).toBe(0)
    for (let i = 0; i < 20; i++)
      await Promise.all(
        Array.from({ length: 20 }, () =>
          askUdp(listener!.port, i % 2 === 0 ? bytes : hex('00'), i % 2 === 0 ? 5000 : 5),
        ),
      )
    expect(one.heard).toHaveLength(2 + 200)
    expect(new Set(one.heard)).toEqual(new Set(['example.com. 127.0.0.1']))
  })

  it('a port that is taken is named', async () => {
    listener = lab().listener
    await listener.start()
    const { port } = listener
    const other = new NotifyListener({ listen: { host: '127.0.0.1', port }, keys: [], onNotify: () => true })
    await expect(other.start()).rejects.toThrow(`cannot listen for NOTIFY on 127.0.0.1 port ${port}: `)
    await other.stop()
  })
})
